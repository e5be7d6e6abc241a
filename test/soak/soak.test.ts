import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { MemoryStore, type SessionRecord, type SessionStore } from '../../plugin/index.js'
import { withoutVersion, wrap } from '../fixtures/stores.js'
import { makeSoakApp } from './fixtures/app.js'
import { faulty } from './fixtures/faults.js'
import { growthOf, isClean, isFlat, makeJudge, type Violation, type Judge } from './fixtures/judge.js'
import { runLoad } from './fixtures/load.js'
import { makeRandom } from './fixtures/random.js'
import { reportOf } from './fixtures/report.js'

const SEED = 5

/** Each soak run is stopped after this many milliseconds. It normally takes much less time. */
const TIMEOUT = 60_000

/**
 * Runs the load of the soak test on an app in this process until `isEnough` returns true. `change` changes the app first.
 */
async function soak(
  store: SessionStore,
  isEnough: (judge: Judge) => boolean,
  change: (app: FastifyInstance) => void = () => undefined
): Promise<Judge> {
  const judge = makeJudge()
  const app = await makeSoakApp(store)
  change(app)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const end = performance.now() + TIMEOUT
  const isOver = () => isEnough(judge) || performance.now() > end
  await runLoad({ portOf: () => port, judge, users: 4, seed: SEED, isOver })
  await app.close()
  return judge
}

type Update = SessionStore['update']

/** Returns an asynchronous MemoryStore in which the methods returned by `make` replace the original ones. */
function broken(make: (memory: MemoryStore) => Partial<SessionStore>): SessionStore {
  const memory = new MemoryStore()
  const wrong = make(memory) as Record<string, ((...args: unknown[]) => unknown) | undefined>
  return wrap(memory, async (method, args, next) => {
    await nextTurn()
    return wrong[method]?.(...args) ?? next()
  })
}

const withUpdate = (make: (memory: MemoryStore) => Update) => broken((memory) => ({ update: make(memory) }))

/** Stores that break the store contract, each with the violation that the soak test must report. */
const BROKEN: Record<string, readonly [store: () => SessionStore, violation: Violation]> = {
  'reads first and then overwrites the whole record': [
    () =>
      withUpdate((memory) => async (id, patch) => {
        const before = memory.get(id)
        await nextTurn()
        const kept = Object.entries(before?.data ?? {}).filter(([key]) => !patch.remove.includes(key))
        const set = { ...Object.fromEntries(kept), ...patch.set }
        return memory.update(id, { ...withoutVersion(patch), set, remove: [], clear: true })
      }),
    'lost updates'
  ],
  'ignores the version': [
    () => withUpdate((memory) => (id, patch) => memory.update(id, withoutVersion(patch))),
    'lost updates'
  ],
  'drops some changes': [
    () => {
      let updates = 0
      return withUpdate((memory) => (id, patch) => (++updates % 50 === 0 ? 'ok' : memory.update(id, patch)))
    },
    'lost updates'
  ],
  'inserts a missing record on update': [
    () =>
      withUpdate((memory) => (id, patch) => {
        const result = memory.update(id, patch)
        if (result === 'gone') memory.create(patch.renameTo ?? id, recordOf(patch.set, patch))
        return 'ok'
      }),
    'resurrected sessions'
  ],
  'does not destroy sessions': [() => broken(() => ({ destroy: () => true })), 'resurrected sessions'],
  'does not destroy the sessions of a user': [
    () => broken(() => ({ destroyByUser: () => 1 })),
    'resurrected sessions'
  ],
  'keeps the old record after a rotation': [
    () =>
      withUpdate((memory) => (id, patch) => {
        const before = memory.get(id)
        const result = memory.update(id, patch)
        if (patch.renameTo !== undefined && before !== undefined) memory.create(id, before)
        return result
      }),
    'forks'
  ],
  'does not remove keys': [
    () => withUpdate((memory) => (id, patch) => memory.update(id, { ...patch, remove: [] })),
    'lost or repeated flash messages'
  ],
  'does not clear the data': [
    () => withUpdate((memory) => (id, patch) => memory.update(id, { ...patch, clear: false })),
    'leaked data'
  ],
  'loses the return path': [() => forgetting('$returnTo'), 'wrong return paths'],
  'loses the lifetime of a login': [() => forgetting('$lifetime'), 'wrong lifetimes'],
  'evicts live sessions': [() => new MemoryStore({ maxSessions: 6 }), 'lost sessions']
}

/** Returns a store that does not keep the value at `lost` when it creates a record. */
function forgetting(lost: string): SessionStore {
  return broken((memory) => ({
    create(id, record) {
      const data = Object.fromEntries(Object.entries(record.data).filter(([key]) => key !== lost))
      return memory.create(id, { ...record, data })
    }
  }))
}

function recordOf(
  data: Readonly<Record<string, string>>,
  { lastAccessed = 0, expiresAt = 0 }
): SessionRecord {
  return { version: 1, data, createdAt: lastAccessed, lastAccessed, expiresAt, userId: null }
}

void t.test('a correct store passes the soak test despite injected faults', async (t) => {
  const works = ['logins: remembered', 'rotations', 'return paths of visitors', 'sessions left to expire']
  const kinds = new Map<string, number>()
  const store = faulty(
    broken(() => ({})),
    0.03,
    makeRandom(SEED),
    (fault) => kinds.set(fault, 1)
  )
  const isEnough = ({ checks, work }: Judge) =>
    kinds.size >= 4 && checks > 300 && works.every((name) => work.has(name))
  const judge = await soak(store, isEnough)
  t.ok(isClean(judge), reportOf('a correct store', judge))
  for (const name of works) t.ok(judge.work.has(name), name)
  t.ok(kinds.size >= 4 && judge.checks > 300, `${kinds.size} kinds of faults, ${judge.checks} checks`)
})

for (const [name, [make, violation]] of Object.entries(BROKEN)) {
  void t.test(`the soak test reports ${violation} for a store that ${name}`, async (t) => {
    const judge = await soak(make(), ({ violations }) => violations.has(violation))
    t.notOk(isClean(judge))
    t.ok((judge.violations.get(violation) ?? 0) > 0, reportOf(name, judge))
  })
}

for (const [violation, rate] of [
  ['cookies for visitors', 0],
  ['store calls for visitors', 0.2]
] as const) {
  void t.test(`the soak test reports ${violation} for an app that stores data for visitors`, async (t) => {
    const store = faulty(
      broken(() => ({})),
      rate,
      makeRandom(SEED),
      () => undefined
    )
    const judge = await soak(
      store,
      ({ violations }) => violations.has(violation),
      (app) => app.addHook('preHandler', async ({ session }) => session.set('seen', true))
    )
    t.notOk(isClean(judge))
    t.ok((judge.violations.get(violation) ?? 0) > 0, reportOf('an app that stores data', judge))
  })
}

void t.test('the soak test reports a growing heap, but not a fluctuating heap', async (t) => {
  const megabytes = (...values: number[]) => values.map((value) => value * 2 ** 20)
  t.ok(isFlat(megabytes(30, 33, 31, 30, 34, 31, 30, 33, 31)))
  const growing = megabytes(30, 32, 34, 36, 38, 40, 42, 44, 46)
  t.notOk(isFlat(growing))
  t.equal(growthOf(growing), 12 * 2 ** 20)
  t.notOk(isClean({ ...makeJudge(), checks: 1, heap: growing }))
})

void t.test('a soak test that has made no checks does not pass', async (t) => t.notOk(isClean(makeJudge())))
