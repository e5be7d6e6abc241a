import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { MemoryStore, type SessionOptions, type SessionStore } from '../../plugin/index.js'
import { migratingStore } from '../../plugin/stores/migrating.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import { makeRecord, slowStore, spyStore, wrap } from '../fixtures/stores.js'

const migrating = (store: SessionStore, old: SessionStore): SessionStore => migratingStore(store, old, 2000)

/**
 * Creates two apps with the same secret. The old app uses the store `before`. The new app moves sessions from `before`
 * to the store `after`.
 */
async function setUp(
  t: Test,
  options: Partial<SessionOptions> = {},
  wrapping = (store: SessionStore) => store
) {
  const [before, after] = [new MemoryStore(), new MemoryStore()]
  const old = addRoutes(await makeApp(t, { store: wrapping(before) }))
  const app = addRoutes(
    await makeApp(t, { store: wrapping(after), migrateFrom: wrapping(before), ...options })
  )
  const browser = new Browser(app)
  const signIn = async (): Promise<void> => {
    const oldBrowser = new Browser(old)
    await oldBrowser.get('/login')
    await oldBrowser.get('/set?name=ada')
    for (const [name, value] of oldBrowser.cookies) browser.cookies.set(name, value)
  }
  return { before, after, app, browser, signIn }
}

void t.test('a request moves its whole session from the old store to the new store', async (t) => {
  const { before, after, app, browser, signIn } = await setUp(t)
  await signIn()
  app.get('/id', async ({ session }) => session.id)
  const { body: id } = await browser.get('/id')
  const record = after.get(id)
  t.match(record, { userId: 'ada', data: { name: '"ada"', userId: '"ada"' }, version: 2 })
  t.equal(before.size, 0)
  t.same((await browser.get('/read')).json(), { name: 'ada' })
  await browser.get('/set?name=eve')
  t.same((await browser.get('/read')).json(), { name: 'eve' })
})

void t.test('the old store is not called for a session that is already in the new store', async (t) => {
  const old = spyStore()
  const app = addRoutes(await makeApp(t, { store: new MemoryStore(), migrateFrom: old }))
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  await browser.get('/read')
  t.same(old.take(), [])
})

void t.test(
  'if concurrent requests use a session that has not been moved yet, all of them see the moved session',
  async (t) => {
    const { before, after, browser, signIn } = await setUp(t, {}, slowStore)
    await signIn()
    const responses = await Promise.all(Array.from({ length: 10 }, () => browser.get('/read')))
    t.same([...new Set(responses.map(({ body }) => body))], ['{"name":"ada"}'])
    t.equal(before.size, 0)
    t.equal(after.size, 1)
  }
)

void t.test('a logout ends a session in both stores, even while the session is being moved', async (t) => {
  const { before, after, browser, signIn } = await setUp(t)
  await signIn()
  await browser.get('/logout')
  t.equal(before.size + after.size, 0)

  for (const moment of ['create', 'destroy'] as const) {
    const [old, store] = [new MemoryStore(), new MemoryStore()]
    old.create('a', makeRecord())
    const combined: SessionStore = migrating(
      wrap(store, async (method, _args, next) => {
        const answer = next()
        if (method === 'create' && moment === 'create') await logOut()
        return answer
      }),
      wrap(old, async (method, _args, next) => {
        if (method === 'destroy' && moment === 'destroy') await logOut()
        return next()
      })
    )
    /**
     * Logs out as another process would. Uses the original stores, because the wrappers above could call `logOut`
     * again.
     */
    const logOut = async (): Promise<void> => {
      t.equal(await migrating(store, old).destroy('a'), true)
    }
    t.equal(await combined.get('a'), undefined)
    t.equal(old.size + store.size, 0, moment)
  }
})

void t.test('a process finds a session that another process has just moved to the new store', async (t) => {
  const [old, store] = [new MemoryStore(), new MemoryStore()]
  const record = makeRecord()
  old.create('a', record)
  const second = migrating(
    wrap(store, async (method, _args, next) => {
      if (method === 'create') await migrating(store, old).get('a')
      return next()
    }),
    old
  )
  t.match(await second.get('a'), record)
  t.equal(old.size, 0)
  t.equal(store.size, 1)
})

void t.test('two processes can move the same session at the same time', async (t) => {
  const [old, store] = [new MemoryStore(), new MemoryStore()]
  const record = makeRecord()
  old.create('a', record)
  // The second process reads from the new store before the first process has copied the session.
  let isEarly = true
  const early = wrap(store, (method, _args, next) => {
    if (method !== 'get' || !isEarly) return next()
    isEarly = false
    return undefined
  })
  const found: unknown[] = []
  const first = migrating(
    store,
    wrap(old, async (method, _args, next) => {
      if (method === 'destroy' && isEarly) found.push(await migrating(early, old).get('a'))
      return next()
    })
  )
  found.push(await first.get('a'))
  t.match(found, [record, record])
  t.equal(old.size, 0)
  t.equal(store.size, 1)
})

void t.test('if the old record cannot be deleted, its copy in the new store is removed', async (t) => {
  const [old, store] = [new MemoryStore(), new MemoryStore()]
  old.create('a', makeRecord())
  const logouts: unknown[] = []
  const combined = migrating(
    wrap(store, async (method, _args, next) => {
      // Another process logs out before the copy exists in the new store.
      if (method === 'create') logouts.push(await migrating(store, old).destroy('a'))
      return next()
    }),
    wrap(old, (method, _args, next) => {
      if (method === 'destroy') throw new Error('lost')
      return next()
    })
  )
  await t.rejects(async () => combined.get('a'), /lost/)
  t.same(logouts, [true])
  t.equal(old.size + store.size, 0)

  old.create('b', makeRecord())
  await t.rejects(async () => combined.get('b'), /lost/)
  t.equal(store.get('b'), undefined)
  t.ok(await migrating(store, old).get('b'), 'the old record still exists and moves later')
})

void t.test(
  'if two processes move a session and one of them also rotates it, the outdated copy is removed',
  async (t) => {
    const [old, store] = [new MemoryStore(), new MemoryStore()]
    old.create('a', makeRecord())
    const late = migrating(
      store,
      wrap(old, async (method, _args, next) => {
        const answer = next()
        if (method === 'get') {
          // At this point another process moves the session and gives it a new id.
          const other = migrating(store, old)
          await other.get('a')
          const { lastAccessed, expiresAt } = makeRecord()
          await other.update('a', { set: {}, remove: [], lastAccessed, expiresAt, renameTo: 'b' })
        }
        return answer
      })
    )
    t.equal(await late.get('a'), undefined)
    t.equal(store.get('a'), undefined)
    t.ok(store.get('b'))
  }
)

void t.test(
  'a rotation waits for a move of the same session by another request, and the session survives',
  async (t) => {
    const [old, store] = [new MemoryStore(), new MemoryStore()]
    old.create('a', makeRecord())
    let rotation: unknown
    const combined = migrating(
      wrap(store, async (method, _args, next) => {
        const answer = next()
        if (method === 'create') {
          // At this point another request has read the copy, and gives it a new id.
          const { lastAccessed, expiresAt } = makeRecord()
          rotation = combined.update('a', { set: {}, remove: [], lastAccessed, expiresAt, renameTo: 'b' })
          await delay(1)
        }
        return answer
      }),
      slowStore(old)
    )
    t.ok(await combined.get('a'))
    t.equal(await rotation, 'ok')
    t.ok(store.get('b'))
    t.equal(old.size + store.size, 1)
  }
)

void t.test(
  'list(), revoke() and revokeAll() also work for sessions that are still in the old store',
  async (t) => {
    const { before, after, app, browser, signIn } = await setUp(t)
    await signIn()
    await new Browser(app).get('/login')
    t.equal((await app.sessionManager.list('ada')).length, 2)
    t.equal(await app.sessionManager.revokeAll('ada'), 2)
    t.equal(before.size + after.size, 0)
    await signIn()
    const [unmoved] = await app.sessionManager.list('ada')
    t.equal(await app.sessionManager.revoke(unmoved?.id ?? ''), true)
    t.same((await browser.get('/read')).json(), { name: null })
  }
)

void t.test('revokeAll() and list() throw if the old store cannot find sessions by user', async (t) => {
  const { get, create, update, destroy } = spyStore()
  const app = await makeApp(t, { store: new MemoryStore(), migrateFrom: { get, create, update, destroy } })
  await t.rejects(app.sessionManager.revokeAll('ada'), { code: 'SESSION_STORE_UNSUPPORTED' })
  await t.rejects(app.sessionManager.list('ada'), { code: 'SESSION_STORE_UNSUPPORTED' })
})

void t.test('a failure of the old store causes a 503, but the session is not lost', async (t) => {
  let down = false
  const { browser, signIn } = await setUp(t, {}, (store) =>
    wrap(store, (_method, _args, next) => {
      if (down) throw new Error('the store is down')
      return next()
    })
  )
  await signIn()
  down = true
  t.equal((await browser.get('/read')).statusCode, 503)
  down = false
  t.same((await browser.get('/read')).json(), { name: 'ada' })
})

void t.test(
  'ready() and cleanup() call both stores, and skip a store that does not have the method',
  async (t) => {
    const calls: string[] = []
    const { signal } = new AbortController()
    const make = (name: string): SessionStore => ({
      ...spyStore(),
      rotationPrefix: 2,
      ready: () => {
        calls.push(`${name} ready`)
        return name === 'new' ? ['a warning'] : undefined
      },
      cleanup: (given) => (given === signal ? calls.push(`${name} cleanup`) : 0)
    })
    const both = migrating(make('new'), make('old'))
    t.equal(both.rotationPrefix, 2)
    t.same(await both.ready?.(), ['a warning'])
    t.equal(await both.cleanup?.(signal), 3 + 4)
    t.same(calls, ['new ready', 'old ready', 'old cleanup', 'new cleanup'])
    const { get, create, update, destroy } = spyStore()
    const bare = migrating({ get, create, update, destroy }, { get, create, update, destroy })
    t.equal(bare.rotationPrefix, undefined)
    t.equal(await bare.cleanup?.(), 0)
    await bare.ready?.()
  }
)

void t.test('registration fails if migrateFrom is not a store', async (t) => {
  await t.rejects(makeApp(t, { migrateFrom: {} as never }), {
    option: 'migrateFrom',
    message: /lacks get, create/
  })
})

void t.test(
  'if moving a session fails halfway, list() shows only one session, and a rotation leaves no old record',
  async (t) => {
    let fails = true
    const { before, after, app, browser, signIn } = await setUp(t, {}, (store) =>
      wrap(store, (method, _args, next) => {
        if (method === 'destroy' && fails) throw new Error('the store is down')
        return next()
      })
    )
    await signIn()
    const old = new Browser(app)
    for (const [name, value] of browser.cookies) old.cookies.set(name, value)
    t.equal((await browser.get('/read')).statusCode, 503)
    t.equal(before.size + after.size, 2, 'both stores have the session')
    fails = false
    t.same((await browser.get('/read')).json(), { name: 'ada' })
    t.equal((await app.sessionManager.list('ada')).length, 1)
    t.equal((await browser.get('/login')).statusCode, 200)
    t.same((await old.get('/read')).json(), { name: null }, 'the old id no longer works')
    t.equal(before.size + after.size, 1)
  }
)

void t.test(
  'if moving a session never finishes, the waiting requests receive a 503 and a later request tries again',
  async (t) => {
    let hangs = true
    const { browser, signIn, before } = await setUp(t, { storeTimeout: 20 }, (store) =>
      wrap(store, async (method, _args, next) => {
        if (method === 'destroy' && hangs) await new Promise(() => undefined)
        return next()
      })
    )
    await signIn()
    const responses = await Promise.all([browser.get('/read'), browser.get('/read')])
    t.same(
      responses.map(({ statusCode }) => statusCode),
      [503, 503]
    )
    hangs = false
    // The second request has started to move the session again. This delay is long enough for that second attempt to
    // time out.
    await delay(50)
    t.same((await browser.get('/read')).json(), { name: 'ada' })
    t.equal((await browser.get('/logout')).statusCode, 200)
    t.equal(before.size, 0)
  }
)
