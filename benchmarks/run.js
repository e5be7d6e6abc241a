#!/usr/bin/env node
import { fileURLToPath, URL } from 'node:url'
import { parseArguments, USAGE } from './arguments.js'
import { compare, CPU_BOUNDS } from './bounds.js'
import { CONTENDERS } from './contenders.js'
import { bindCores } from './cores.js'
import { startEngines } from './engines.js'
import { describeEnvironment } from './environment.js'
import { runScenario } from './run-scenario.js'
import { listOf, planOf, skipMissingEngines } from './plan.js'
import { createProgress } from './progress.js'
import { boundRows, rowsOf, textTable } from './report.js'
import { writeResults } from './results.js'
import { measureScale, SCALE_STEPS } from './scale.js'
import { SCENARIOS } from './scenarios.js'
import { summarize } from './summary.js'
import { UsageError } from './usage-error.js'

const RESULTS = fileURLToPath(new URL('results/', import.meta.url))
const ALL = { contenders: CONTENDERS, scenarios: SCENARIOS }
const OK = 0
const MISSED = 1
const BAD_USAGE = 2
/** With `--quick`, a scenario that misses its performance bound is repeated at most this many times. */
const MAX_REPEATS = 2

// `process.exit` runs the exit handlers, which stop the database servers.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(error.message)
  process.exitCode = BAD_USAGE
}

async function main(args) {
  const options = parseArguments(args, ALL)
  if (options.help) return say(USAGE)
  if (options.list) return say(listOf(ALL))
  const cpu = bindCores(options.pin)
  const { matches, engines: names } = planOf(options, { all: ALL, bounded: Object.keys(CPU_BOUNDS) })
  const engines = await startEngines(names)
  for (const [name, reason] of Object.entries(engines.missing)) {
    console.error(`${name} is not available (${reason}), so its contenders are skipped`)
  }
  try {
    const run = await measureAll(skipMissingEngines(matches, engines.missing), {
      ...options,
      cpu,
      engines: engines.settings
    })
    const verdict = await conclude(run, options)
    return Object.keys(engines.missing).length > 0 ? BAD_USAGE : verdict
  } finally {
    await engines.stop()
  }
}

async function measureAll(matches, options) {
  const steps = matches.reduce((sum, { contenders }) => sum + contenders.length * options.rounds, 0)
  const progress = createProgress(steps + (options.withScale ? SCALE_STEPS : 0))
  const settings = { ...options, onStep: progress.step }
  const scenarios = []
  let scale
  try {
    for (const { scenario, contenders, skipped } of matches) {
      const lines = await linesOf(scenario, contenders, settings)
      scenarios.push({ name: scenario.name, title: scenario.title, lines, skipped })
      progress.say(`\n${scenario.title}\n${textTable(rowsOf(lines, skipped))}\n`)
    }
    if (options.withScale) scale = await measureScale(settings)
  } finally {
    progress.stop()
  }
  return { environment: describeEnvironment(options), scenarios, scale }
}

/**
 * Measures one scenario. With `--quick`, a scenario that misses its performance bound is measured again, because other
 * work on the machine may have slowed it down.
 */
async function linesOf(scenario, contenders, settings) {
  const entries = await runScenario(scenario, contenders, settings)
  for (let repeat = 0; settings.quick && repeat < MAX_REPEATS && missesBound(scenario, entries); repeat++) {
    const more = await runScenario(scenario, contenders, settings)
    for (const [at, { samples, problem }] of more.entries()) {
      const round = entries[at].samples.length
      entries[at].samples.push(...samples.map((sample) => ({ ...sample, round: sample.round + round })))
      entries[at].problem ??= problem
    }
  }
  return summarize(entries)
}

function missesBound({ name }, entries) {
  return compare({ [name]: summarize(entries) }, { quick: true }).some(({ holds }) => !holds)
}

/** Prints the performance bounds, writes the results of a full run to files, and returns the exit code. */
async function conclude(run, { quick, isFullRun }) {
  const results = Object.fromEntries(run.scenarios.map(({ name, lines }) => [name, lines]))
  const bounds = compare(results, { quick, scale: run.scale?.figures })
  for (const { title, rows } of run.scale?.tables ?? []) say(`\n${title}\n${textTable(rows)}\n`)
  if (bounds.length > 0) say(textTable(boundRows(bounds)))
  if (isFullRun) await writeResults(RESULTS, { ...run, bounds })
  const failed = run.scenarios.some(({ lines }) => lines.some(({ problem }) => problem !== undefined))
  return failed || (quick && bounds.some(({ holds }) => !holds)) ? MISSED : OK
}

function say(text) {
  console.log(text)
  return OK
}
