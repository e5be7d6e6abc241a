import { RedisStore } from 'connect-redis'
import { createClient } from 'redis'
import t from 'tap'
import { fromExpressStore, type ExpressStore } from '../../plugin/stores/express.js'
import { testStore, type TestStoreOptions } from '../../plugin/testing/index.js'
import { idOf, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { listen } from '../fixtures/diagnostics.js'
import { makeFake, makeMemoryStore, makePgSimple } from '../fixtures/express.js'
import { findPostgres, makePool, makeSchema } from '../fixtures/postgres.js'
import { freshPrefix, sharedRedis, withoutRedis } from '../fixtures/redis.js'

const found = await findPostgres(t)

const ID = idOf('a')

const LACKS = {
  'by user': 'such a store cannot find by user',
  cleanup: 'such a store expires by itself',
  'two processes': 'such a store can only put a whole session'
}

void t.test('the contract on a store of nothing but get, set and destroy', async (t) => {
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
    { lacks: LACKS }
  )
  t.comment(`a trivial store: ${run.length} cases, ${skipped.length} skipped`)
})

void t.test('the contract on memorystore', async (t) => {
  const { run, skipped } = testStore(
    'memorystore',
    () => ({ store: fromExpressStore(makeMemoryStore()) }),
    t.test,
    {
      lacks: { ...LACKS, 'engine failure': 'its engine is this process' }
    }
  )
  t.comment(`memorystore: ${run.length} cases, ${skipped.length} skipped`)
})

void t.test('the contract on connect-redis', { skip: withoutRedis }, async (t) => {
  const url = await sharedRedis(t)
  const client = await createClient({ url }).connect()
  t.teardown(() => client.close())
  const lacks: TestStoreOptions['lacks'] = {
    ...LACKS,
    'engine failure': 'its cases share one server'
  }
  const { run, skipped } = testStore(
    'connect-redis',
    () => ({ store: fromExpressStore(new RedisStore({ client, prefix: freshPrefix() })) }),
    t.test,
    { lacks }
  )
  t.comment(`connect-redis: ${run.length} cases, ${skipped.length} skipped`)
})

void t.test('the contract on connect-pg-simple', { skip: found.skip }, async (t) => {
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
    { lacks: LACKS }
  )
  t.comment(`connect-pg-simple: ${run.length} cases, ${skipped.length} skipped`)
})

void t.test('a touch that keeps the cookie is used from then on', async (t) => {
  const calls: string[] = []
  const memory = makeMemoryStore()
  const store = fromExpressStore(recorded(memory, calls))
  await store.create(ID, makeRecord())
  calls.length = 0
  await store.update(ID, makePatch({ lastAccessed: 1 }))
  t.same(calls.splice(0), ['get', 'touch', 'get'])
  await store.update(ID, makePatch({ lastAccessed: 2 }))
  t.same(calls.splice(0), ['get', 'touch'])
  t.equal((await store.get(ID))?.lastAccessed, 2)
})

void t.test('a touch that only moves the engine’s expiry gives way to set', async (t) => {
  const fake = makeFake({ touch: true })
  const store = fromExpressStore(fake)
  await store.create(ID, makeRecord())
  fake.calls.length = 0
  await store.update(ID, makePatch({ lastAccessed: 1 }))
  t.same(fake.calls.splice(0), ['get', 'touch', 'get', 'set'])
  await store.update(ID, makePatch({ lastAccessed: 2 }))
  t.same(fake.calls.splice(0), ['get', 'set'])
  t.equal((await store.get(ID))?.lastAccessed, 2)
})

void t.test('a touch of a session that went away in the meantime is no failure', async (t) => {
  const memory = makeMemoryStore()
  const store = fromExpressStore({
    ...recorded(memory, []),
    touch: (sid, _session, callback) => memory.destroy(sid, callback)
  })
  await store.create(ID, makeRecord())
  t.equal(await store.update(ID, makePatch()), 'ok')
})

void t.test('a rename that fails in the middle leaves the old session and no other', async (t) => {
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

void t.test('a store that throws or rejects fails as one that calls back', async (t) => {
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
})

void t.test('a write that failed does not hold up the next', async (t) => {
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

void t.test('close waits for the writes that were asked for', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  void store.create(ID, makeRecord())
  await store.close?.()
  t.equal(fake.texts.size, 1)
})

void t.test('the cookie carries the time to live in each of the forms that stores read', async (t) => {
  const fake = makeFake()
  const now = Date.now()
  await fromExpressStore(fake).create(ID, makeRecord({ expiresAt: now + 60_000 }))
  const { cookie } = JSON.parse(fake.texts.get(ID) as string) as { cookie: Record<string, number> }
  t.same(Date.parse(String(cookie['expires'])), now + 60_000)
  for (const name of ['maxAge', 'originalMaxAge']) {
    const age = cookie[name] as number
    t.ok(age > 59_000 && age <= 60_000, `${name}: ${age}`)
  }
})

void t.test('a store may make a Date of the cookie’s expiry', async (t) => {
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

void t.test('a session that is not ours is absent and reported', async (t) => {
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

void t.test('nothing but an id reaches the store', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  for (const id of ['../../etc/passwd', '__proto__', '', ID.toUpperCase(), `${ID}\n`]) {
    t.equal(await store.get(id), undefined)
    t.equal(await store.destroy(id), false)
    t.equal(await store.update(id, makePatch()), 'gone')
  }
  t.same(fake.calls, [])
})

void t.test('what is no store is refused, saying what one has', async (t) => {
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
      message: /"store" has no get, set and destroy, so it is no store$/
    })
  }
})

/** The same store, whose calls are told in `calls`. */
function recorded(store: ExpressStore, calls: string[]): ExpressStore {
  const tell = <A extends unknown[]>(name: string, method: (...args: A) => unknown) => {
    return (...args: A) => {
      calls.push(name)
      return method.apply(store, args)
    }
  }
  return {
    get: tell('get', store.get),
    set: tell('set', store.set),
    destroy: tell('destroy', store.destroy),
    ...(store.touch && { touch: tell('touch', store.touch) })
  }
}
