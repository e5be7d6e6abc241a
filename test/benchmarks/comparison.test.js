import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { linesOf, sectionText, tableOf, withSection } from '../../benchmarks/comparison/report.js'
import { loadRow, ROWS } from '../../benchmarks/comparison/rows.js'

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
const README = read('README.md')
const RESULTS = read('benchmarks/comparison/results.md')

void t.test('the README shows the measured results', async (t) => {
  const shown = linesOf(README).map((line) => line.replace('](benchmarks/comparison/', ']('))
  t.same(shown, linesOf(RESULTS))
})

void t.test('each row of the table has a script, and each script has a row', async (t) => {
  const scripts = readdirSync(new URL('../../benchmarks/comparison/rows', import.meta.url))
  t.same([...ROWS].sort(), scripts.map((name) => name.replace('.js', '')).sort())
  const titles = await Promise.all(ROWS.map(async (name) => (await loadRow(name)).title))
  const links = ROWS.map((name, index) => `[${titles[index]}](rows/${name}.js)`)
  const rows = linesOf(RESULTS).filter((line) => line.startsWith('| ['))
  t.same(
    rows.map((line) => line.split(' | ')[0].slice('| '.length)),
    links
  )
  t.ok(rows.length <= 14, 'the table is short')
})

void t.test('the results are those of the installed versions', async (t) => {
  const locks = ['package-lock.json', 'benchmarks/package-lock.json'].map((path) => JSON.parse(read(path)))
  const packages = Object.assign({}, ...locks.map((lock) => lock.packages))
  for (const name of ['@fastify/session', '@fastify/secure-session', 'express-session']) {
    const { version } = packages[`node_modules/${name}`]
    t.match(RESULTS, `${name} ${version}`)
    t.match(README, `${name} (${version.split('.', 2).join('.')})`)
  }
})

void t.test('a cell shows the number of its note, and equal notes have one number', async (t) => {
  const results = [
    { name: 'x', title: 'first', cells: [{ text: 'kept' }, { text: 'lost', note: 'A.' }] },
    {
      name: 'y',
      title: 'second',
      cells: [
        { text: 'dead', note: 'B.' },
        { text: 'dead', note: 'A.' }
      ]
    }
  ]
  const table = tableOf(results, ['ours', 'theirs'])
  t.same(table.plain, [
    ['', 'ours', 'theirs'],
    ['first', 'kept', 'lost (1)'],
    ['second', 'dead (2)', 'dead (1)']
  ])
  t.equal(
    sectionText(table),
    [
      '|  | ours | theirs |',
      '| --- | --- | --- |',
      '| [first](rows/x.js) | kept | lost<sup>1</sup> |',
      '| [second](rows/y.js) | dead<sup>2</sup> | dead<sup>1</sup> |',
      '',
      '1. A.',
      '2. B.'
    ].join('\n')
  )
})

void t.test('only the text between the markers is replaced, and padding is not a difference', async (t) => {
  const text = 'before\n<!-- comparison -->\nold\n<!-- /comparison -->\nafter'
  const changed = withSection(text, '| a   | b |\n| --- | - |')
  t.match(changed, /^before\n[\s\S]*\nafter$/)
  t.same(linesOf(changed), ['| a | b |', '| - | - |'])
  t.throws(() => withSection('no markers', ''), /no section between <!-- comparison -->/)
})
