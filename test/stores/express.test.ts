import { RedisStore } from 'connect-redis'
import { createClient } from 'redis'
import t from 'tap'
import { fromExpressStore, type ExpressStore } from '../../plugin/stores/express/store.js'
import { testStore, type TestStoreOptions } from '../../plugin/testing/index.js'
import { idOf, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { makeApp } from '../fixtures/app.js'
import { listen } from '../fixtures/diagnostics.js'
import { makeFake, makeMemoryStore, makePgSimple } from '../fixtures/express.js'
import { findPostgres, makePool, makeSchema } from '../fixtures/postgres.js'
import { freshPrefix, sharedRedis, withoutRedis } from '../fixtures/redis.js'

const found = await findPostgres(t)

const ID = idOf('a')

/** The capabilities that express-session stores lack, each with the reason. */
const UNSUPPORTED = {
  'by user': 'the store cannot find sessions by user',
  cleanup: 'the store expires sessions by itself',
  'two processes': 'the store can only replace a whole session'
}

void t.test(
  'an express-session store with only get, set and destroy passes the store contract tests',
  async (t) => {
    const { run, skipped } = testStore(
      'fake',
      () => {
        const fake = makeFake()
        return {
          store: fromExpressStore(fake),
          break: () => ['get', 'set', 'destroy'].forEach((method) => fake.failing.add(method)),
          mend: () => fake.failing.clear()
        }
      },
      t.test,
      { unsupported: UNSUPPORTED }
    )
    t.comment(`a store with three methods: ${run.length} cases, ${skipped.length} skipped`)
  }
)

void t.test('memorystore passes the store contract tests', async (t) => {
  const { run, skipped } = testStore(
    'memorystore',
    () => ({ store: fromExpressStore(makeMemoryStore()) }),
    t.test,
    {
      unsupported: { ...UNSUPPORTED, 'engine failure': 'its engine is this process' }
    }
  )
  t.comment(`memorystore: ${run.length} cases, ${skipped.length} skipped`)
})

void t.test('connect-redis passes the store contract tests', { skip: withoutRedis }, async (t) => {
  const url = await sharedRedis(t)
  const client = await createClient({ url }).connect()
  t.teardown(() => client.close())
  const unsupported: TestStoreOptions['unsupported'] = {
    ...UNSUPPORTED,
    'engine failure': 'the cases share one server'
  }
  const { run, skipped } = testStore(
    'connect-redis',
    () => ({ store: fromExpressStore(new RedisStore({ client, prefix: freshPrefix() })) }),
    t.test,
    { unsupported }
  )
  t.comment(`connect-redis: ${run.length} cases, ${skipped.length} skipped`)
})

void t.test('connect-pg-simple passes the store contract tests', { skip: found.skip }, async (t) => {
  if (!('server' in found)) return
  const pool = makePool(t, found.server)
  const schema = await makeSchema(t, pool)
  const pgSimple = makePgSimple(pool, schema)
  t.teardown(() => pgSimple.close())
  await Promise.resolve(fromExpressStore(pgSimple).get(ID))
  const { run, skipped } = testStore(
    'connect-pg-simple',
    async () => {
      await pool.query(`DELETE FROM ${schema}.session`)
      return {
        store: fromExpressStore(pgSimple),
        break: () => pool.query(`ALTER TABLE ${schema}.session RENAME TO elsewhere`),
        mend: () => pool.query(`ALTER TABLE ${schema}.elsewhere RENAME TO session`)
      }
    },
    t.test,
    { unsupported: UNSUPPORTED }
  )
  t.comment(`connect-pg-simple: ${run.length} cases, ${skipped.length} skipped`)
})

void t.test(
  'the express-session adapter keeps using touch() if the first touch() call stored the new cookie',
  async (t) => {
    const calls: string[] = []
    const memory = makeMemoryStore()
    const store = fromExpressStore(recordCalls(memory, calls))
    await store.create(ID, makeRecord())
    calls.length = 0
    await store.update(ID, makePatch({ lastAccessed: 1 }))
    t.same(calls.splice(0), ['get', 'touch', 'get'])
    await store.update(ID, makePatch({ lastAccessed: 2 }))
    t.same(calls.splice(0), ['get', 'touch'])
    t.equal((await store.get(ID))?.lastAccessed, 2)
  }
)

void t.test(
  'the express-session adapter switches to set() if touch() does not update the stored cookie',
  async (t) => {
    const fake = makeFake({ touch: true })
    const store = fromExpressStore(fake)
    await store.create(ID, makeRecord())
    fake.calls.length = 0
    await store.update(ID, makePatch({ lastAccessed: 1 }))
    t.same(fake.calls.splice(0), ['get', 'touch', 'get', 'set'])
    await store.update(ID, makePatch({ lastAccessed: 2 }))
    t.same(fake.calls.splice(0), ['get', 'set'])
    t.equal((await store.get(ID))?.lastAccessed, 2)
  }
)

void t.test('extending a session does not fail if the session is deleted at the same time', async (t) => {
  const memory = makeMemoryStore()
  const store = fromExpressStore({
    ...recordCalls(memory, []),
    touch: (sid, _session, callback) => memory.destroy(sid, callback)
  })
  await store.create(ID, makeRecord())
  t.equal(await store.update(ID, makePatch()), 'ok')
})

void t.test('if a rename fails halfway, the old session remains', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  await store.create(ID, makeRecord())
  const destroy = fake.destroy
  fake.destroy = (sid, callback) => {
    if (sid === ID) callback(new Error('lost'))
    else destroy(sid, callback)
  }
  await t.rejects(Promise.resolve(store.update(ID, makePatch({ renameTo: idOf('b') }))), /lost/)
  t.same([...fake.texts.keys()], [ID])

  fake.destroy = (_sid, callback) => callback(new Error('lost'))
  await t.rejects(Promise.resolve(store.update(ID, makePatch({ renameTo: idOf('b') }))), /lost/)
  t.ok(await store.get(ID))
})

void t.test(
  'an adapter call rejects if the express-session store throws, rejects or passes an error to the callback',
  async (t) => {
    const error = new Error('down')
    for (const fail of [
      () => {
        throw error
      },
      () => Promise.reject(error),
      (_sid: string, callback: (error: unknown) => void) => callback(error),
      (_sid: string, callback: (error: unknown) => void) => callback('down')
    ]) {
      const store = fromExpressStore({ ...makeFake(), get: fail })
      await t.rejects(Promise.resolve(store.get(ID)), /down/)
      await t.rejects(Promise.resolve(store.update(ID, makePatch())), /down/)
    }
  }
)

void t.test('a failed write does not block the next write', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  fake.failing.add('set')
  const failed = store.create(ID, makeRecord())
  const next = store.destroy(ID)
  await t.rejects(Promise.resolve(failed))
  t.equal(await next, false)
  fake.failing.clear()
  t.equal(await store.create(ID, makeRecord()), true)
})

/** Returns a store whose calls of `method` wait until `release` is called. */
function makeHanging(method: 'get' | 'set' | 'destroy') {
  const fake = makeFake()
  const waiting: (() => void)[] = []
  let hangs = false
  const store: ExpressStore = {
    ...fake,
    [method]: (...args: unknown[]) => {
      const go = (): unknown => (fake[method] as (...args: unknown[]) => unknown)(...args)
      if (hangs) waiting.push(go)
      else go()
    }
  }
  return {
    fake,
    store: fromExpressStore(store, { timeout: 50 }),
    hang: (value: boolean) => void (hangs = value),
    release: () => waiting.splice(0).forEach((go) => go())
  }
}

void t.test('a callback that never comes fails one write, and the next one goes on', async (t) => {
  const { store, hang } = makeHanging('set')
  await store.create(ID, makeRecord())
  hang(true)
  const lost = store.update(ID, makePatch({ set: { a: '1' } }))
  const next = store.update(ID, makePatch({ set: { b: '2' } }))
  await t.rejects(Promise.resolve(lost), /set\(\) did not call its callback within 50 ms/)
  hang(false)
  t.equal(await next, 'ok')
  t.match(await store.get(ID), { data: { a: undefined, b: '2' } })
  t.equal(await store.destroy(ID), true)
})

void t.test('an end waits for the write that is running, and not for those that wait', async (t) => {
  const { fake, store, hang } = makeHanging('set')
  await store.create(ID, makeRecord())
  hang(true)
  const writes = Array.from({ length: 20 }, async () => store.update(ID, makePatch({ set: { a: '1' } })))
  const results = Promise.allSettled(writes)
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
  fake.calls.length = 0
  t.equal(await store.destroy(ID), true)
  const [first, ...others] = await results
  t.match(first, { status: 'rejected', reason: /did not call its callback/ })
  t.same(others, Array(19).fill({ status: 'fulfilled', value: 'gone' }))
  t.same(fake.calls, ['get', 'destroy', 'get'])
  t.equal(await store.get(ID), undefined)
})

void t.test('each of two ends of one session succeeds, and the second one finds nothing', async (t) => {
  const store = fromExpressStore(makeFake())
  await store.create(ID, makeRecord())
  t.same(await Promise.all([store.destroy(ID), store.destroy(ID)]), [true, false])
  t.equal(await store.create(ID, makeRecord()), true)
  t.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'ok')
})

void t.test('a write that comes after its time limit does not bring an ended session back', async (t) => {
  const { fake, store, hang, release } = makeHanging('set')
  await store.create(ID, makeRecord())
  hang(true)
  for (const a of ['1', '2']) await t.rejects(Promise.resolve(store.update(ID, makePatch({ set: { a } }))))
  hang(false)
  t.equal(await store.destroy(ID), true)
  release()
  await new Promise(setImmediate)
  t.equal(fake.texts.size, 1, 'the late write has stored the session')
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
  t.equal(fake.texts.size, 0)
})

void t.test('an end waits for a store that calls back before it has removed the session', async (t) => {
  const { fake, store } = makeEarly()
  await store.ready?.()
  await store.create(ID, makeRecord())
  const ended = store.destroy(ID)
  const next = store.update(ID, makePatch({ set: { a: '1' } }))
  t.equal(await ended, true)
  t.equal(fake.texts.size, 0)
  t.equal(await next, 'gone')
  await store.create(ID, makeRecord())
  t.equal(await store.update(ID, makePatch({ renameTo: idOf('b') })), 'ok')
  t.same([...fake.texts.keys()], [idOf('b')])
})

void t.test('an end succeeds although the store cannot be read', async (t) => {
  const { fake, store, hang } = makeHanging('get')
  await store.create(ID, makeRecord())
  hang(true)
  t.equal(await store.destroy(ID), true)
  t.equal(fake.texts.size, 0)
})

void t.test('a store that reports a missing session as a missing file has no session', async (t) => {
  const missing = Object.assign(new Error('ENOENT: no such file'), { code: 'ENOENT' })
  const store = fromExpressStore({ ...makeFake(), get: (_sid, callback) => callback(missing) })
  t.equal(await store.get(ID), undefined)
  t.equal(await store.destroy(ID), false)
})

/** Returns a store whose `destroy` calls back at once, and removes the session only at the third read after that. */
function makeEarly() {
  const fake = makeFake()
  const left = new Map<string, number>()
  const store = fromExpressStore({
    ...fake,
    get: (sid, callback) => {
      const reads = left.get(sid) ?? 0
      left.set(sid, reads - 1)
      if (reads === 1) fake.texts.delete(sid)
      fake.get(sid, callback)
    },
    destroy: (sid, callback) => {
      left.set(sid, 3)
      callback()
    }
  })
  return { fake, store }
}

type Change = (session: { cookie: Record<string, unknown>; sesame?: string }) => unknown

/** Returns a store that changes what it returns. */
function makeChanging(change: Change): ExpressStore {
  const fake = makeFake()
  return {
    ...fake,
    get: (sid, callback) =>
      fake.get(sid, (error, session) => {
        callback(error, session == null ? session : change(session as Parameters<Change>[0]))
      })
  }
}

const TIMES: Record<string, Change> = {
  'no times in the cookie': (session) => ({ ...session, cookie: { path: '/' } }),
  'no cookie': ({ sesame }) => ({ sesame }),
  'an expiry of null': (session) => ({ ...session, cookie: { ...session.cookie, expires: null } }),
  'lastAccessed as text': ({ cookie, ...session }) => ({
    ...session,
    cookie: { ...cookie, lastAccessed: String(cookie['lastAccessed']) }
  }),
  'JSON text': (session) => JSON.stringify(session)
}

for (const [what, change] of Object.entries(TIMES)) {
  void t.test(`a store that returns ${what} holds every field of a session`, async (t) => {
    const store = fromExpressStore(makeChanging(change))
    await store.ready?.()
    const record = makeRecord({ data: { a: '1' } })
    await store.create(ID, record)
    t.same(await store.get(ID), record)
    const expiresAt = record.expiresAt + 1000
    await store.update(ID, makePatch({ lastAccessed: 7, expiresAt }))
    t.match(await store.get(ID), { lastAccessed: 7, expiresAt })
  })
}

const UNABLE: [what: string, make: () => Partial<ExpressStore>, message: RegExp][] = [
  [
    'drops unknown fields',
    () => makeChanging(({ cookie }) => ({ cookie })),
    /must keep .* the field "sesame"/
  ],
  [
    'cuts ids',
    () => ({ set: (sid, session, callback) => makeFake().set(sid.slice(0, 36), session, callback) }),
    /must keep ids of 64 characters/
  ],
  [
    'changes values',
    () => makeChanging((session) => ({ ...session, sesame: session.sesame?.replace('\\u00e9', 'e') })),
    /returns a session with other values/
  ],
  [
    'never calls back, but returns a promise',
    () => ({ set: async () => undefined }),
    /a promise instead of calling/
  ],
  [
    'has a short column',
    () => ({
      set: (_sid, _session, callback) => callback(new Error('value too long for type character varying(36)'))
    }),
    /must have room for 64 characters/
  ],
  ['does not remove', () => ({ destroy: (_sid, callback) => callback() }), /does not remove a session/]
]

for (const [what, make, message] of UNABLE) {
  void t.test(`registration refuses a store that ${what}`, async (t) => {
    const store = fromExpressStore({ ...makeFake(), ...make() }, { timeout: 50 })
    await t.rejects(makeApp(t, { store }), { code: 'SESSION_OPTION_INVALID', message })
  })
}

void t.test('registration succeeds if the store is only unreachable', async (t) => {
  const fake = makeFake()
  fake.failing.add('set')
  await makeApp(t, { store: fromExpressStore(fake) }, { logger: false })
  const silent = { ...makeFake(), set: () => undefined }
  await makeApp(t, { store: fromExpressStore(silent, { timeout: 50 }) }, { logger: false })
})

void t.test('close() waits for pending writes', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  void store.create(ID, makeRecord())
  await store.close?.()
  t.equal(fake.texts.size, 1)
})

void t.test('an express-session store can return the expiry of the cookie as a Date', async (t) => {
  const fake = makeFake()
  const dated: ExpressStore = {
    ...fake,
    get: (sid, callback) =>
      fake.get(sid, (error, session) => {
        const { cookie } = (session ?? { cookie: {} }) as { cookie: { expires: unknown } }
        cookie.expires = new Date(String(cookie.expires))
        callback(error, session)
      })
  }
  const store = fromExpressStore(dated)
  const record = makeRecord()
  await store.create(ID, record)
  t.equal((await store.get(ID))?.expiresAt, record.expiresAt)
})

void t.test('a malformed session is treated as absent and reported', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  const cookie = { expires: new Date(Date.now() + 60_000), lastAccessed: 1 }
  const foreign = [{ cookie, userId: 'ada' }, { sesame: '{}' }, { cookie, sesame: '{' }, 3]
  for (const session of foreign) {
    fake.texts.set(ID, JSON.stringify(session))
    t.equal(await store.get(ID), undefined)
  }
  const messages = listen(t, 'invalid-record')
  for (const session of foreign) {
    fake.texts.set(ID, JSON.stringify(session))
    t.equal(await store.get(ID), undefined)
    t.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'gone')
  }
  t.same(messages, Array(8).fill({ id: ID, reason: 'shape' }))
})

void t.test('only valid session ids are passed to the express-session store', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  for (const id of ['../../etc/passwd', '__proto__', '', ID.toUpperCase(), `${ID}\n`]) {
    t.equal(await store.get(id), undefined)
    t.equal(await store.destroy(id), false)
    t.equal(await store.update(id, makePatch()), 'gone')
  }
  t.same(fake.calls, [])
})

void t.test(
  'passing a value that is not a store throws an error that names the required methods',
  async (t) => {
    for (const timeout of [0, -1, 1.5, NaN, '1000'])
      t.throws(() => fromExpressStore(makeFake(), { timeout } as never), {
        code: 'SESSION_OPTION_INVALID',
        option: 'timeout'
      })
    for (const wrong of [
      undefined,
      null,
      3,
      {},
      'redis://:hunter2@db',
      { url: 'redis://:hunter2@db' },
      { get: () => undefined, set: () => undefined }
    ]) {
      t.throws(() => fromExpressStore(wrong as unknown as ExpressStore), {
        code: 'SESSION_OPTION_INVALID',
        message: /"store" has no get, set and destroy, so it is not a store$/
      })
    }
  }
)

/** Wraps a store and adds the name of each called method to `calls`. */
function recordCalls(store: ExpressStore, calls: string[]): ExpressStore {
  const record = <A extends unknown[]>(name: string, method: (...args: A) => unknown) => {
    return (...args: A) => {
      calls.push(name)
      return method.apply(store, args)
    }
  }
  return {
    get: record('get', store.get),
    set: record('set', store.set),
    destroy: record('destroy', store.destroy),
    ...(store.touch && { touch: record('touch', store.touch) })
  }
}
