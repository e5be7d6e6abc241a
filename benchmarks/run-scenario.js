import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { check } from './check.js'
import { measure, measureLosses, prepare, warmUp } from './measure.js'
import { startServer } from './server.js'
import { UsageError } from './usage-error.js'

/** The time between two samples of a CPU profile, in µs. */
const PROFILE_INTERVAL = 100

/**
 * Measures the contenders in one scenario. Returns an entry `{ contender, samples }` for each contender. If a contender
 * failed, its entry also has a `problem`.
 * The contenders take turns in each round, so that noise from the machine affects all of them. Each turn starts a new
 * process, because the memory layout of a process can make it a few percent faster or slower for its whole life. A
 * contender that fails is dropped, and the others continue.
 * `settings` holds `rounds`, `seconds`, `cpu`, `port`, `engines`, `profileTo` and `onStep`. `onStep` is called before
 * each turn.
 */
export async function runScenario(scenario, contenders, settings) {
  const { rounds, onStep } = settings
  const entries = contenders.map((contender) => ({ contender, samples: [] }))
  for (let round = 0; round < rounds; round++) {
    for (const entry of startingAt(entries, round)) {
      onStep(`${scenario.name}: round ${round + 1} of ${rounds}, ${entry.contender.name}`)
      if (entry.problem === undefined) await attempt(entry, scenario, { ...settings, round })
    }
  }
  return entries
}

async function attempt(entry, scenario, settings) {
  try {
    entry.samples.push({ ...(await play(entry.contender, scenario, settings)), round: settings.round })
  } catch (error) {
    if (error instanceof UsageError) throw error
    entry.problem = error.message
  }
}

/** Starts the server of a contender, checks that it works correctly, warms it up and measures it once. */
async function play(contender, scenario, { cpu, port, engines, seconds, profileTo }) {
  const server = await startServer(contender, { cpu, port, settings: engines })
  try {
    await check(server, contender)
    const load = await prepare(server, contender, scenario)
    const amount = await warmUp(server, load, seconds)
    if (profileTo !== undefined) await server.ask('startProfile', { interval: PROFILE_INTERVAL })
    const take = scenario.counts && contender.kind !== 'none' ? measureLosses : measure
    const sample = await take(server, load, amount)
    if (profileTo !== undefined) await keepProfile(server, `${contender.name}.${scenario.name}`, profileTo)
    if (sample.failed > 0) throw new Error(`${sample.failed} of ${sample.requests} requests failed`)
    return sample
  } finally {
    await server.stop()
  }
}

async function keepProfile(server, name, folder) {
  await mkdir(folder, { recursive: true })
  await server.ask('stopProfile', { file: join(folder, `${name}.cpuprofile`) })
}

/** Rotates the entries, so that each round starts with a different contender. */
function startingAt(entries, round) {
  const start = round % entries.length
  return [...entries.slice(start), ...entries.slice(0, start)]
}
