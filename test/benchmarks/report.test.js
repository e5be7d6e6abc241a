import t from 'tap'
import { CONTENDERS } from '../../benchmarks/contenders.js'
import {
  boundRows,
  fixed,
  grouped,
  markdownReport,
  markdownTable,
  rowsOf,
  summaryRows,
  textTable
} from '../../benchmarks/report.js'

const line = (title, cpu, more = {}) => ({
  title,
  cpu,
  rps: 12_345.6,
  p50: 0.123,
  p99: 4.5,
  rss: 70e6,
  ratio: { cpu: cpu / 10, rps: 1 },
  ...more
})

void t.test(
  'a table has one row per contender and shows why a contender failed or was skipped',
  async (t) => {
    const failed = { title: 'Broken', problem: 'ended with SIGSEGV' }
    const rows = rowsOf([line('Bare', 10), failed], [{ title: 'Other', reason: 'no store' }])
    t.same(rows[0], ['', 'CPU µs', '× bare', 'req/s', '× bare', 'p50 ms', 'p99 ms', 'RSS MB'])
    t.same(rows[1], ['Bare', '10.0', '1.00', '12,346', '1.00', '0.12', '4.50', '70'])
    t.same(rows.slice(2), [
      ['Broken', 'failed: ended with SIGSEGV'],
      ['Other', 'skipped: no store']
    ])
  }
)

void t.test('a table has a column for lost updates if they were counted', async (t) => {
  const rows = rowsOf([
    line('Bare', 10),
    line('None', 10, { lost: 0 }),
    line('Few', 10, { lost: 1.25 }),
    line('Many', 10, { lost: 875 })
  ])
  t.same(
    rows.map((row) => row[8]),
    ['lost of 1,000 updates', '–', '0', '1.3', '875']
  )
})

void t.test(
  'the columns of a text table are aligned, and a row with fewer cells does not widen them',
  async (t) => {
    const rows = [
      ['', 'a', 'bb'],
      ['first', '1', '2'],
      ['second one', 'failed: with a long reason']
    ]
    t.equal(
      textTable(rows),
      ['            a  bb', 'first       1   2', 'second one  failed: with a long reason'].join('\n')
    )
  }
)

void t.test('a Markdown table has the same number of cells in each row and escapes pipes', async (t) => {
  const text = markdownTable([
    ['', 'x', 'y'],
    ['a|b', '1']
  ])
  t.equal(text, ['|  | x | y |', '| --- | ---: | ---: |', '| a\\|b | 1 |  |'].join('\n'))
})

void t.test(
  'the table of performance bounds shows whether each measured value is within its bound',
  async (t) => {
    const rows = boundRows([
      { title: 'one', bound: 1.04, measured: 1.03, holds: true },
      { title: 'two', bound: 2, measured: 3, holds: false }
    ])
    t.same(rows.slice(1), [
      ['one', '1.04', '1.03', 'holds'],
      ['two', '2.00', '3.00', 'MISSED']
    ])
  }
)

const run = {
  environment: {
    date: '2030-01-01',
    node: '20.0.0',
    cpu: 'A CPU',
    cores: 2,
    system: 'Linux 1',
    rounds: 5,
    pinning: 'Pinned.',
    versions: { fastify: '5.0.0' }
  },
  scenarios: [{ name: 'read', title: 'reading', lines: [line('Bare', 10)], skipped: [] }],
  bounds: []
}

void t.test(
  'the report names the machine, shows each scenario with its chart and has no empty sections',
  async (t) => {
    const text = markdownReport(run)
    for (const part of [
      '2030-01-01, Node 20.0.0, A CPU × 2, Linux 1.',
      'fastify 5.0.0',
      '## Summary\n',
      '![reading](read.svg)',
      '| Bare |'
    ]) {
      t.match(text, part)
    }
    t.notMatch(text, /## Scale|## Bounds/)
  }
)

void t.test('the report has the sections Scale and Bounds if there are results for them', async (t) => {
  const scale = {
    tables: [
      {
        title: 'In memory',
        rows: [
          ['', 'bytes'],
          ['one', '500']
        ]
      }
    ]
  }
  const text = markdownReport({
    ...run,
    scale,
    bounds: [{ title: 'one', bound: 1, measured: 1, holds: true }]
  })
  t.match(text, '## Scale\n\n### In memory\n\n|  | bytes |')
  t.match(text, /## Bounds\n\n.*\n.*\n\| one \| 1.00 \| 1.00 \| holds \|/)
})

void t.test(
  'the summary has a row for each store of this library and a dash for each missing result',
  async (t) => {
    const lines = CONTENDERS.map(({ name, title }) => line(title, 10, { contender: name, lost: 3 }))
    const failed = { title: '@fastify/secure-session', contender: 'secure-session', problem: 'crashed' }
    const rows = summaryRows([
      { name: 'anonymous', lines },
      { name: 'read-10k', lines: [failed] },
      { name: 'writers', lines }
    ])
    for (const { name, title } of CONTENDERS.filter(({ name }) => name.startsWith('sesame-'))) {
      t.ok(
        rows.some(([first]) => first === title),
        name
      )
    }
    t.same(
      rows.find(([title]) => title === '@fastify/secure-session'),
      ['@fastify/secure-session', '1.00', '–', '–', '–', '–', '3.0']
    )
  }
)

void t.test('the summary omits contenders that were not measured', async (t) => {
  const lines = [line('fastify-sesame, memory', 10, { contender: 'sesame-memory' })]
  const rows = summaryRows([{ name: 'change', lines }])
  t.same(rows.slice(1), [['fastify-sesame, memory', '–', '–', '–', '1.00', '–', '–']])
})

void t.test('fixed() and grouped() round numbers, and fixed() shows NaN as a dash', async (t) => {
  t.equal(fixed(1.005, 1), '1.0')
  t.equal(fixed(NaN, 1), '–')
  t.equal(grouped(1_234_567.8), '1,234,568')
})
