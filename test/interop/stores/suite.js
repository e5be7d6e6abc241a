import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { clearTimeout, setTimeout } from 'node:timers'
import { describePackage, mapInParallel } from '../fixtures/packages.js'
import { checks } from './checks.js'
import { stores } from './stores.js'

const ENGINES = { redis: 'Redis', postgres: 'PostgreSQL', mariadb: 'MariaDB' }
const ENDS = 'the process ends by itself after closing everything'
const TITLES = [...Object.keys(checks), ENDS]
/** How many stores are checked at the same time. Most of a check's time is waiting. */
const PARALLEL = 3
/** How long the checks of a store may take, and how long its process may take to end, in milliseconds. */
const LONGEST_RUN = 120_000
const LONGEST_END = 3000
/** The mock timers of Node 20 are experimental. */
const WITHOUT_WARNING = '--disable-warning=ExperimentalWarning'

/** Checks every store. Returns the results as Markdown. */
export async function runStores(log) {
  const names = Object.keys(stores)
  const outcomes = await mapInParallel(PARALLEL, names, (name) => runStore(name, log))
  return toMarkdown(names.map((name, index) => ({ name, ...stores[name], outcomes: outcomes[index] })))
}

/** Runs the checks of a store in a process of their own. Returns the outcome of each check by its title. */
async function runStore(name, log) {
  const outcomes = {}
  const child = fork(join(import.meta.dirname, 'run-store.js'), [name], { execArgv: [WITHOUT_WARNING] })
  const kill = () => child.kill()
  let timer = setTimeout(kill, LONGEST_RUN)
  let isClosed = false
  child.on('message', (message) => {
    if (message.isClosed) {
      isClosed = true
      clearTimeout(timer)
      timer = setTimeout(kill, LONGEST_END)
    } else {
      outcomes[message.title] = message.outcome
      if (message.error !== undefined) log(`${name}: ${message.title}\n${message.error}`)
    }
  })
  const [[code]] = await Promise.all([once(child, 'exit'), once(child, 'disconnect')])
  clearTimeout(timer)
  outcomes[ENDS] = isClosed && code === 0 ? 'passed' : 'failed'
  const passed = TITLES.filter((title) => outcomes[title] === 'passed').length
  log(`${name}: ${passed} of ${TITLES.length}`)
  return outcomes
}

const SIGNS = { passed: '✓', failed: '✗', skipped: '–' }

function toMarkdown(columns) {
  const notes = []
  const cellOf = ({ name, notes: known = {}, outcomes }, title) => {
    const outcome = outcomes[title] ?? 'failed'
    if (outcome === 'passed') return SIGNS.passed
    notes.push(`${name}: ${known[title] ?? 'This is not expected.'}`)
    return `${SIGNS[outcome]} <sup>${notes.length}</sup>`
  }
  const row = (cells) => `| ${cells.join(' | ')} |`
  const rows = TITLES.map((title) => row([title, ...columns.map((column) => cellOf(column, title))]))
  const needs = columns.filter(({ needs }) => needs !== undefined)
  return [
    '## Stores of express-session, through `fromExpressStore()`',
    '',
    row(['check', ...columns.map(headingOf)]),
    row(['---', ...columns.map(() => ':-:')]),
    ...rows,
    '',
    ...notes.map((note, index) => `${index + 1}. ${note}`),
    '',
    'What an application must know:',
    '',
    ...needs.map(({ name, needs }) => `- ${name}: ${needs}`),
    ''
  ].join('\n')
}

function headingOf({ name, client, engine }) {
  const packages = [name, client].flatMap((name) => (name === undefined ? [] : describePackage(name)))
  return [...packages, ENGINES[engine] ?? []].flat().join('<br>')
}
