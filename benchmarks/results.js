import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { barChart } from './chart.js'
import { fixed, markdownReport } from './report.js'

/** The scenarios and the contenders in the chart that the README shows. */
const OVERVIEW = {
  scenarios: ['read-10k', 'change', 'read-64k'],
  contenders: [
    'bare',
    'map',
    'sesame-memory',
    'sesame-sqlite',
    'sesame-redis',
    'sesame-postgres',
    'fastify-session-lean',
    'fastify-session-redis',
    'secure-session',
    'mgcrea'
  ]
}

/** Writes results.json, results.md, one chart for each scenario, and overview.svg. */
export async function writeResults(folder, run) {
  await mkdir(folder, { recursive: true })
  const { environment, scenarios } = run
  const note = `Server CPU time per request, × bare Fastify. Node ${environment.node}, ${environment.cpu}, ${environment.date}`
  const charts = scenarios.map((scenario) => [scenario.name, [panelOf(scenario)]])
  const shown = scenarios.filter(({ name }) => OVERVIEW.scenarios.includes(name))
  const ofOverview = ({ contender }) => OVERVIEW.contenders.includes(contender)
  const panels = shown.map((scenario) => panelOf({ ...scenario, lines: scenario.lines.filter(ofOverview) }))
  if (panels.length > 0) charts.push(['overview', panels])
  await writeFile(join(folder, 'results.json'), `${JSON.stringify(run, null, 2)}\n`)
  await writeFile(join(folder, 'results.md'), markdownReport(run))
  for (const [name, panels] of charts) await writeFile(join(folder, `${name}.svg`), barChart(panels, note))
}

function panelOf({ title, lines }) {
  const measured = lines.filter(({ problem }) => problem === undefined)
  const bars = measured.map((line) => ({
    label: line.title,
    value: line.ratio.cpu,
    text: fixed(line.ratio.cpu, 2),
    kind: line === lines[0] ? 'reference' : line.contender.startsWith('sesame-') ? 'own' : 'bar'
  }))
  return { title, bars }
}
