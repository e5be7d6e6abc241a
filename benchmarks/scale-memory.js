// Run by scale.js in processes of their own, with --expose-gc: what a million sessions cost in the memory store.
// `sizes` is what they take and how fast one is found; `sweep`, the longest hold of the event loop by one sweep.
import { randomBytes } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { setImmediate } from 'node:timers'
import { setTimeout as delay } from 'node:timers/promises'
import { MemoryStore } from '../dist/index.js'
import { median } from './statistics.js'

const MILLION = 1_000_000
const DAY = 86_400_000
const LOOK_UPS = 500_000
const ID_BYTES = 32

// There before every measurement, and used after it, so that no figure includes the ids.
const ids = makeIds(MILLION)

const MEASUREMENTS = {
  sizes: () => ({
    bytesPerSession: memoryOf(() => null),
    bytesPerSessionWithUser: memoryOf((number) => `user-${number}`),
    lookUps: [1, 1000, MILLION].map((count) => ({ count, nanoseconds: lookUp(count) }))
  }),
  sweep: longestHolds
}
process.send(await MEASUREMENTS[process.argv[2]]())
process.disconnect()

/** Bytes a session with two short values, beyond its id. */
function memoryOf(userOf) {
  const before = memoryUsed()
  const store = fill(MILLION, DAY, userOf)
  return (memoryUsed() - before) / store.size
}

/**
 * In ms: the longest time for which nothing else ran while a million expired sessions were swept, and, in as long a time
 * afterwards, while nothing was done: what the machine itself holds.
 */
async function longestHolds() {
  const store = fill(MILLION, -1)
  globalThis.gc()
  const started = performance.now()
  const sweep = await longestGapDuring(async () => {
    const swept = await store.cleanup()
    if (swept !== MILLION) throw new Error(`swept ${swept} sessions of ${MILLION}`)
  })
  const took = performance.now() - started
  return { sweep, idle: await longestGapDuring(() => delay(took)) }
}

async function longestGapDuring(work) {
  let longest = 0
  let last = performance.now()
  let isOver = false
  setImmediate(function look() {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (!isOver) setImmediate(look)
  })
  await work()
  isOver = true
  return longest
}

/** In ns: one `get` of a session drawn at random. */
function lookUp(count) {
  const store = fill(count, DAY)
  const drawn = Array.from({ length: LOOK_UPS }, () => ids[Math.floor(Math.random() * count)])
  const times = Array.from({ length: 5 }, () => {
    const started = performance.now()
    for (const id of drawn) if (store.get(id) === undefined) throw new Error('a session is missing')
    return ((performance.now() - started) * 1e6) / LOOK_UPS
  })
  return median(times)
}

function fill(count, lifetime, userOf = () => null) {
  const store = new MemoryStore({ maxSessions: 2 * MILLION })
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

/** Flat memory too, which is outside of the heap. */
function memoryUsed() {
  globalThis.gc()
  globalThis.gc()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
