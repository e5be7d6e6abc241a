import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath, URL } from 'node:url'
import { CONTENDERS } from './contenders.js'
import { releaseCores } from './cores.js'
import { sendLoad, createLoad } from './load.js'
import { runScenario } from './run-scenario.js'
import { seed } from './measure.js'
import { fixed, grouped } from './report.js'
import { SCENARIOS } from './scenarios.js'
import { startServer } from './server.js'
import { summarize } from './summary.js'

const MEMORY = fileURLToPath(new URL('scale-memory.js', import.meta.url))
const PAYLOADS = [100, 1000, 10_000, 100_000, 1_000_000]
const PAYLOAD_CONTENDERS = ['bare', 'sesame-memory', 'fastify-session-lean']
const PAYLOAD_SCENARIOS = ['read-hot', 'change']
const PAYLOAD_ROUNDS = 3
/**
 * The number of times that `measureScale` calls `onStep`: once for the memory store, once for Redis, and once for each
 * run of a contender in `payloadTable`.
 */
export const SCALE_STEPS =
  2 + PAYLOADS.length * PAYLOAD_SCENARIOS.length * PAYLOAD_CONTENDERS.length * PAYLOAD_ROUNDS
const SWEEPS = 5
const SESSIONS = 1000
const REQUESTS = 20_000

/**
 * Measures how performance changes with many sessions, with large sessions and with a second process. Returns `figures`
 * for the comparison with the performance bounds, and `tables` of `{ title, rows }` for the report.
 */
export async function measureScale(settings) {
  settings.onStep('scale: 100,000 sessions in memory')
  const memory = await measureMemory()
  const tables = [memoryTable(memory), await payloadTable(settings)]
  if (settings.engines.redis !== undefined) tables.push(await processesTable(settings))
  return { figures: memory, tables }
}

/**
 * Measures the memory store. The performance bound for sweeps is compared with the shortest measured pause, because
 * noise from the machine can only lengthen a pause. Each sweep runs in a new process, so that the release of an earlier
 * sweep's memory does not disturb it.
 */
async function measureMemory() {
  const sizes = await measureInProcess('sizes')
  const holds = []
  for (let time = 0; time < SWEEPS; time++) holds.push(await measureInProcess('sweep'))
  return {
    ...sizes,
    sweepHoldMs: Math.min(...holds.map(({ sweep }) => sweep)),
    sweepHoldsMs: holds.map(({ sweep }) => sweep),
    idleHoldsMs: holds.map(({ idle }) => idle)
  }
}

async function measureInProcess(measurement) {
  const child = fork(MEMORY, [measurement], { execArgv: ['--expose-gc'] })
  releaseCores(child)
  const exited = once(child, 'exit').then(([code]) => {
    throw new Error(`the measurement of the memory store exited with code ${code}`)
  })
  exited.catch(() => {})
  const [figures] = await Promise.race([once(child, 'message'), exited])
  return figures
}

function memoryTable({ bytesPerSession, bytesPerSessionWithUser, sweepHoldsMs, idleHoldsMs, lookups }) {
  const listed = (holds) => holds.map((hold) => fixed(hold, 1)).join(', ')
  const rows = [
    ['MemoryStore', 'measured'],
    ['bytes per session with two short values, without the id', fixed(bytesPerSession, 0)],
    [
      'bytes per session with two short values and a user id, without the session id',
      fixed(bytesPerSessionWithUser, 0)
    ],
    [`longest pause of the event loop in each of ${SWEEPS} sweeps, ms`, listed(sweepHoldsMs)],
    ['longest pause in an equally long time without work, ms', listed(idleHoldsMs)],
    ...lookups.map(({ count, nanoseconds }) => [
      `lookup among ${grouped(count)} sessions, ns`,
      fixed(nanoseconds, 0)
    ])
  ]
  return { title: '100,000 sessions in memory', rows }
}

/**
 * Measures the CPU time per request for sessions of several sizes. Each request reads or changes one short value of its
 * session.
 */
async function payloadTable(settings) {
  const contenders = PAYLOAD_CONTENDERS.map(contenderOf)
  const columns = PAYLOAD_SCENARIOS.flatMap((name) => contenders.map(({ title }) => `${title}: ${name}`))
  const rows = [['bytes in the session', ...columns]]
  for (const bytes of PAYLOADS) {
    const cells = []
    for (const name of PAYLOAD_SCENARIOS) {
      const scenario = {
        ...SCENARIOS.find((scenario) => scenario.name === name),
        name: `${name} at ${bytes} bytes`,
        bytes
      }
      const entries = await runScenario(scenario, contenders, { ...settings, rounds: PAYLOAD_ROUNDS })
      cells.push(
        ...summarize(entries).map(({ cpu, problem }) => (problem === undefined ? fixed(cpu, 1) : 'failed'))
      )
    }
    rows.push([grouped(bytes), ...cells])
  }
  return { title: 'CPU µs per request, by session size', rows }
}

/**
 * Measures the requests per second of one process, and of two processes that share one Redis server. The processes are
 * not pinned to cores.
 */
async function processesTable(settings) {
  settings.onStep('scale: two processes on one Redis')
  const servers = await Promise.all(
    [1, 2].map(() => startServer(contenderOf('sesame-redis'), { settings: settings.engines }))
  )
  try {
    const cookies = await seed(servers[0], SESSIONS)
    const rate = async (targets) => {
      const loads = targets.map(({ url, died }) => send({ url, died, cookies }))
      return (await Promise.all(loads)).reduce((sum, { requests, seconds }) => sum + requests / seconds, 0)
    }
    await rate(servers)
    const [one, two] = [await rate(servers.slice(0, 1)), await rate(servers)]
    const rows = [
      ['', 'requests/s', '× one'],
      ['one process', grouped(one), '1.00'],
      ['two processes', grouped(two), fixed(two / one, 2)]
    ]
    return {
      title: 'Reading one key with one Redis. The servers, Redis and the load generator share the cores',
      rows
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
}

async function send({ url, died, cookies }) {
  const load = createLoad({ url, method: 'GET', path: '/read', cookies, connections: 10 })
  const sample = await sendLoad(load, REQUESTS, { died })
  if (sample.failed > 0) throw new Error(`${sample.failed} of ${sample.requests} requests failed`)
  return sample
}

function contenderOf(name) {
  return CONTENDERS.find((contender) => contender.name === name)
}
