import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { check } from './check.js'
import { measure, measureLosses, prepare, warmUp } from './measure.js'
import { startServer } from './server.js'
import { UsageError } from './usage-error.js'

/** In µs, between two samples of a CPU profile. */
const PROFILE_INTERVAL = 100

/**
 * Lets the contenders meet in one scenario: measured in turns, round after round, so that whatever the machine does meets
 * all of them, and each time in a process of its own, because where a process lies in memory makes it some percent faster
 * or slower for as long as it lives. One that fails is dropped, and the others go on.
 * An entry a contender: `{ contender, samples }`, with a `problem` where it failed.
 * `settings`: `rounds`, `seconds`, `cpu`, `port`, `engines`, `profileTo` and `onStep`, which is told what is next.
 */
export async function runScenario(scenario, contenders, settings) {
  const { rounds, onStep } = settings
  const entries = contenders.map((contender) => ({ contender, samples: [] }))
  for (let round = 0; round < rounds; round++) {
    for (const entry of turned(entries, round)) {
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

/** Starts a contender, makes sure that it does the work, warms it up and measures it once. */
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

/** Another one begins each round, so that none is always measured after the same neighbour. */
function turned(entries, round) {
  const start = round % entries.length
  return [...entries.slice(start), ...entries.slice(0, start)]
}
