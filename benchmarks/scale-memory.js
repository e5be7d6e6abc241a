// Measures a memory store that holds 100,000 sessions, its default maximum. scale.js runs this file in a separate
// process with --expose-gc. The first argument selects the measurement:
// - `sizes` measures how much memory a session takes and how long a lookup takes.
// - `sweep` measures how long the removal of expired sessions blocks the event loop.
import { randomBytes } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { setImmediate } from 'node:timers'
import { setTimeout as delay } from 'node:timers/promises'
import { MemoryStore } from '../dist/index.js'
import { median } from './statistics.js'

const SESSIONS = 100_000
const DAY = 86_400_000
const LOOKUPS = 500_000
const ID_BYTES = 32

// The session ids are created before the first measurement and kept until the end, so that their memory is not counted
// in any result.
const ids = makeIds(SESSIONS)

const MEASUREMENTS = {
  sizes: () => ({
    bytesPerSession: memoryOf(() => null),
    bytesPerSessionWithUser: memoryOf((number) => `user-${number}`),
    lookups: [1, 1000, SESSIONS].map((count) => ({ count, nanoseconds: lookup(count) }))
  }),
  sweep: longestHolds
}
process.send(await MEASUREMENTS[process.argv[2]]())
process.disconnect()

/** Returns how many bytes of memory a session with two short values takes, without the memory of its id. */
function memoryOf(userOf) {
  const before = memoryUsed()
  const store = fill(SESSIONS, DAY, userOf)
  return (memoryUsed() - before) / store.size
}

/**
 * Returns the longest pauses of the event loop in ms. `sweep` is the longest pause during a sweep of expired sessions.
 * `idle` is the longest pause during an idle period of the same length, which shows how noisy the machine is.
 */
async function longestHolds() {
  const store = fill(SESSIONS, -1)
  globalThis.gc()
  const started = performance.now()
  const sweep = await longestGapDuring(async () => {
    const swept = await store.cleanup()
    if (swept !== SESSIONS) throw new Error(`swept ${swept} sessions of ${SESSIONS}`)
  })
  const took = performance.now() - started
  return { sweep, idle: await longestGapDuring(() => delay(took)) }
}

async function longestGapDuring(work) {
  let longest = 0
  let last = performance.now()
  let isDone = false
  setImmediate(function tick() {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (!isDone) setImmediate(tick)
  })
  await work()
  isDone = true
  return longest
}

/** Returns how long one `get` of a random session takes, in ns. */
function lookup(count) {
  const store = fill(count, DAY)
  const drawn = Array.from({ length: LOOKUPS }, () => ids[Math.floor(Math.random() * count)])
  const times = Array.from({ length: 5 }, () => {
    const started = performance.now()
    for (const id of drawn) if (store.get(id) === undefined) throw new Error('a session is missing')
    return ((performance.now() - started) * 1e6) / LOOKUPS
  })
  return median(times)
}

function fill(count, lifetime, userOf = () => null) {
  const store = new MemoryStore({ maxSessions: SESSIONS })
  const now = Date.now()
  for (let number = 0; number < count; number++) {
    const data = { name: JSON.stringify(`name-${number}`), visits: JSON.stringify(number) }
    const times = { createdAt: now, lastAccessed: now, expiresAt: now + lifetime }
    store.create(ids[number], { version: 1, data, ...times, userId: userOf(number) })
  }
  return store
}

function makeIds(count) {
  const bytes = randomBytes(count * ID_BYTES)
  return Array.from({ length: count }, (_, number) =>
    bytes.toString('hex', number * ID_BYTES, (number + 1) * ID_BYTES)
  )
}

/** Returns how many bytes of memory are in use, including Buffers outside the heap. */
function memoryUsed() {
  globalThis.gc()
  globalThis.gc()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
