const COLUMNS = [
  { title: '', text: ({ title }) => title },
  { title: 'CPU µs', text: ({ cpu }) => fixed(cpu, 1) },
  { title: '× bare', text: ({ ratio }) => fixed(ratio.cpu, 2) },
  { title: 'req/s', text: ({ rps }) => grouped(rps) },
  { title: '× bare', text: ({ ratio }) => fixed(ratio.rps, 2) },
  { title: 'p50 ms', text: ({ p50 }) => fixed(p50, 2) },
  { title: 'p99 ms', text: ({ p99 }) => fixed(p99, 2) },
  { title: 'RSS MB', text: ({ rss }) => fixed(rss / 1e6, 0) }
]
const LOST = {
  title: 'lost of 1,000 updates',
  text: ({ lost }) => (lost === undefined ? '–' : fixed(lost, lost > 0 && lost < 10 ? 1 : 0))
}

/** The contenders and the columns of the summary table. docs/benchmarks.md shows a part of this table. */
const SUMMARY = {
  contenders: [
    'map',
    'sesame-memory',
    'sesame-sqlite',
    'sesame-redis',
    'sesame-postgres',
    'fastify-session-lean',
    'fastify-session-redis',
    'secure-session',
    'express-session'
  ],
  columns: [
    { title: 'anonymous', scenario: 'anonymous', text: cpuRatio },
    { title: 'read, 10,000 sessions', scenario: 'read-10k', text: cpuRatio },
    { title: 'read, 64 KB', scenario: 'read-64k', text: cpuRatio },
    { title: 'change', scenario: 'change', text: cpuRatio },
    { title: 'req/s, read', scenario: 'read-10k', text: ({ rps }) => grouped(rps) },
    { title: 'lost of 1,000 concurrent updates', scenario: 'writers', text: LOST.text }
  ]
}

/**
 * Returns the rows of the summary table. The first row is the header. A dash means that the contender skipped or failed
 * the scenario. A contender without any result has no row.
 */
export function summaryRows(scenarios) {
  const resultOf = (name, contender) =>
    scenarios
      .find((scenario) => scenario.name === name)
      ?.lines.find((line) => line.contender === contender && line.problem === undefined)
  const rows = SUMMARY.contenders.flatMap((contender) => {
    const results = SUMMARY.columns.map(({ scenario }) => resultOf(scenario, contender))
    const title = results.find((line) => line !== undefined)?.title
    const cells = SUMMARY.columns.map(({ text }, at) => (results[at] === undefined ? '–' : text(results[at])))
    return title === undefined ? [] : [[title, ...cells]]
  })
  return [['', ...SUMMARY.columns.map(({ title }) => title)], ...rows]
}

function cpuRatio({ ratio }) {
  return fixed(ratio.cpu, 2)
}

/**
 * Returns the rows of a scenario's table. The first row is the header. If a contender failed or was skipped, the second
 * cell of its row gives the reason.
 */
export function rowsOf(lines, skipped = []) {
  const columns = lines.some(({ lost }) => lost !== undefined) ? [...COLUMNS, LOST] : COLUMNS
  return [
    columns.map(({ title }) => title),
    ...lines.map((line) =>
      line.problem === undefined
        ? columns.map(({ text }) => text(line))
        : [line.title, `failed: ${line.problem}`]
    ),
    ...skipped.map(({ title, reason }) => [title, `skipped: ${reason}`])
  ]
}

/** Formats rows as a text table. The first column is aligned to the left, the others to the right. */
export function textTable(rows) {
  const full = rows.filter(({ length }) => length === rows[0].length)
  const widths = rows[0].map((_, column) => Math.max(...full.map((row) => row[column].length)))
  widths[0] = Math.max(...rows.map(([first]) => first.length))
  const pad = (text, column) => (column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]))
  return rows
    .map((row) =>
      (row.length === rows[0].length ? row.map(pad) : [row[0].padEnd(widths[0]), row[1]]).join('  ').trimEnd()
    )
    .join('\n')
}

export function markdownTable(rows) {
  const [head] = rows
  const cells = (row) =>
    [...row, ...Array(head.length - row.length).fill('')].map((text) => text.replaceAll('|', '\\|'))
  const line = (row) => `| ${cells(row).join(' | ')} |`
  const rule = head.map((_, column) => (column === 0 ? '---' : '---:'))
  return [line(head), line(rule), ...rows.slice(1).map(line)].join('\n')
}

/** Returns a header row and one row for each bound, with its title, the bound, the measured value and the verdict. */
export function boundRows(bounds) {
  const rows = bounds.map(({ title, bound, measured, holds }) => [
    title,
    fixed(bound, 2),
    fixed(measured, 2),
    holds ? 'holds' : 'MISSED'
  ])
  return [['', 'bound', 'measured', ''], ...rows]
}

/** Returns the whole report as Markdown. The argument has the same shape as results.json. */
export function markdownReport({ environment, scenarios, bounds, scale }) {
  const facts = Object.entries(environment.versions).map(([name, version]) => `${name} ${version}`)
  const parts = [
    '# Benchmark results',
    `${environment.date}, Node ${environment.node}, ${environment.cpu} × ${environment.cores}, ${environment.system}.`,
    `Medians of ${environment.rounds} rounds. Each ratio compares with bare Fastify in the same round. ${environment.pinning}`,
    facts.join(' · '),
    '## Summary',
    'CPU time per request, × bare Fastify, except in the last two columns. docs/benchmarks.md shows this table.',
    markdownTable(summaryRows(scenarios)),
    ...scenarios.flatMap(({ name, title, lines, skipped }) => [
      `## ${title}`,
      `![${title}](${name}.svg)`,
      markdownTable(rowsOf(lines, skipped))
    ])
  ]
  if (scale !== undefined)
    parts.push(
      '## Scale',
      ...scale.tables.flatMap(({ title, rows }) => [`### ${title}`, markdownTable(rows)])
    )
  if (bounds.length > 0) parts.push('## Bounds', markdownTable(boundRows(bounds)))
  return `${parts.join('\n\n')}\n`
}

export function fixed(number, digits) {
  return Number.isFinite(number) ? number.toFixed(digits) : '–'
}

export function grouped(number) {
  return Math.round(number).toLocaleString('en-US')
}
