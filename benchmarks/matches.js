import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { check } from './check.js'
import { measure, measureLosses, prepare, warmUp } from './measure.js'
import { startServer } from './server.js'
import { UsageError } from './usage-error.js'

/** In µs, between two samples of a CPU profile. */
const PROFILE_INTERVAL = 100

/**
 * Lets the contenders meet in one scenario: all are started, checked and warmed up, then measured in turns, round after
 * round, so that whatever the machine does meets all of them. One that fails is dropped, and the others go on.
 * An entry a contender: `{ contender, samples }`, with a `problem` where it failed.
 * `settings`: `rounds`, `seconds`, `cpu`, `port`, `engines`, `profileTo` and `onStep`, which is told what is next.
 */
export async function runScenario(scenario, contenders, settings) {
  const entries = contenders.map((contender) => ({ contender, samples: [] }))
  try {
    for (const [index, entry] of entries.entries()) {
      await attempt(entry, () => enter(entry, scenario, settings, index))
    }
    for (let round = 0; round < settings.rounds; round++) {
      settings.onStep(`${scenario.name}: round ${round + 1} of ${settings.rounds}`)
      for (const entry of turned(entries, round)) await attempt(entry, () => play(entry, scenario, round))
    }
    if (settings.profileTo !== undefined) await keepProfiles(entries, scenario, settings.profileTo)
  } finally {
    await Promise.all(entries.map(({ server }) => server?.stop()))
  }
  return entries.map(({ contender, samples, problem }) => ({ contender, samples, problem }))
}

async function attempt(entry, step) {
  if (entry.problem !== undefined) return
  try {
    await step()
  } catch (error) {
    if (error instanceof UsageError) throw error
    entry.problem = error.message
  }
}

async function enter(entry, scenario, settings, index) {
  const { contender } = entry
  const { cpu, port, engines, seconds, profileTo, onStep } = settings
  onStep(`${scenario.name}: ${contender.name} is checked and warmed up`)
  entry.server = await startServer(contender, { cpu, port: port === 0 ? 0 : port + index, settings: engines })
  await check(entry.server, contender)
  entry.load = await prepare(entry.server, contender, scenario)
  entry.amount = await warmUp(entry.server, entry.load, seconds)
  if (profileTo !== undefined) await entry.server.ask('startProfile', { interval: PROFILE_INTERVAL })
}

async function play(entry, { counts }, round) {
  const isCounted = counts && entry.contender.kind !== 'none'
  // While the others had their turns, its memory may have become cold: what brings it back is not a request's cost.
  await measure(entry.server, entry.load, entry.amount)
  const take = isCounted ? measureLosses : measure
  const sample = await take(entry.server, entry.load, entry.amount)
  if (sample.failed > 0) throw new Error(`${sample.failed} of ${sample.requests} requests failed`)
  entry.samples.push({ ...sample, round })
}

async function keepProfiles(entries, scenario, folder) {
  await mkdir(folder, { recursive: true })
  for (const entry of entries) {
    const file = join(folder, `${entry.contender.name}.${scenario.name}.cpuprofile`)
    await attempt(entry, () => entry.server.ask('stopProfile', { file }))
  }
}

/** Another one begins each round, so that none is always measured after the same neighbour. */
function turned(entries, round) {
  const start = round % entries.length
  return [...entries.slice(start), ...entries.slice(0, start)]
}
