import Fastify from 'fastify'
import t, { type Test } from 'tap'
import {
  MemoryStore,
  type SessionOptions,
  type SessionRecord,
  type SessionStore
} from '../../plugin/index.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { listen } from '../fixtures/diagnostics.js'
import { failingStore, makeRecord, slowStore, spyStore, wrap } from '../fixtures/stores.js'
import { makePatch } from '../../plugin/testing/records.js'

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const memory = new MemoryStore()
  const app = addRoutes(await makeApp(t, { store: memory, cleanupInterval: 0, ...options }))
  return { app, memory, manager: app.sessionManager, browser: new Browser(app) }
}

void t.test('get() returns the live session, or undefined for a visitor without a session', async (t) => {
  const { app, manager, browser } = await setUp(t)
  app.get('/get', async (request) => {
    const session = await manager.get(request)
    return { id: session?.id ?? null, same: session === request.session }
  })
  t.same((await browser.get('/get')).json(), { id: null, same: false })
  await browser.get('/set?name=ada')
  const { id, same } = (await browser.get('/get')).json<{ id: string; same: boolean }>()
  t.match(id, /^[0-9a-f]{64}$/)
  t.equal(same, true)
})

void t.test(
  'getOrCreate() returns the session of the request, or creates one for a new visitor',
  async (t) => {
    const { app, manager, browser } = await setUp(t)
    app.get('/count', async (request) => {
      const session = await manager.getOrCreate(request)
      const { isNew } = session
      session.update('count', (count) => Number(count ?? 0) + 1)
      return { count: session.get('count'), isNew, same: session === request.session }
    })
    t.same((await browser.get('/count')).json(), { count: 1, isNew: true, same: true })
    t.same((await browser.get('/count')).json(), { count: 2, isNew: false, same: true })
  }
)

void t.test(
  'if get() is called before the plugin’s own hook runs, the session is still loaded with one store call',
  async (t) => {
    const store = spyStore()
    const app = Fastify()
    t.teardown(() => app.close())
    const seen: unknown[] = []
    app.addHook('onRequest', async (request) => {
      seen.push((await app.sessionManager.get(request))?.get('name'))
    })
    await app.register((await import('../../plugin/index.js')).default, { secret: SECRET, store })
    const browser = new Browser(addRoutes(app))
    await browser.get('/set?name=ada')
    store.take()
    await browser.get('/read')
    t.same(seen, [undefined, 'ada'])
    t.same(store.takeNames(), ['get'])
  }
)

void t.test(
  'if a hook replies before the plugin’s own hook runs, get() can still load the session in onResponse',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    const seen: unknown[] = []
    app.addHook('onRequest', async ({ url }, reply) => (url === '/early' ? reply.send('early') : undefined))
    app.addHook('onResponse', async (request) => {
      if (request.url === '/early') seen.push((await app.sessionManager.get(request))?.get('name'))
    })
    await app.register((await import('../../plugin/index.js')).default, { secret: SECRET })
    const browser = new Browser(addRoutes(app))
    app.get('/early', async () => 'late')
    await browser.get('/set?name=ada')
    t.equal((await browser.get('/early')).body, 'early')
    t.same(seen, ['ada'])
  }
)

void t.test(
  'session.save() throws if the plugin’s own hook has not run yet, and the error recommends sessionManager',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onRequest', async (request) => {
      const session = await app.sessionManager.getOrCreate(request)
      session.set('name', 'ada')
      await session.save()
    })
    await app.register((await import('../../plugin/index.js')).default, { secret: SECRET })
    t.match((await addRoutes(app).inject('/read')).json(), {
      code: 'SESSION_NOT_LOADED',
      message: /sessionManager/
    })
  }
)

void t.test('save() writes immediately and sets the cookie, and a second call does nothing', async (t) => {
  const store = spyStore()
  const { app, manager, browser } = await setUp(t, { store })
  app.get('/save', async (request, reply) => {
    request.session.set('name', 'ada')
    await manager.save(request.session, reply)
    await manager.save(request.session, reply)
    return store.takeNames()
  })
  const response = await browser.get('/save')
  t.same(response.json(), ['create'])
  t.match(setCookieOf(response), 'session_id=')
  t.same(store.take(), [])
})

void t.test('session.save() and sessionManager.save() throw during a WebSocket handshake', async (t) => {
  const { app, memory, manager, browser } = await setUp(t)
  app.addHook('onRequest', async ({ raw }) => void Object.assign(raw, { upgrade: true }))
  app.get('/session', async ({ session }) => {
    session.set('name', 'ada')
    await session.save()
  })
  app.get('/manager', async ({ session }, reply) => {
    session.set('name', 'ada')
    await manager.save(session, reply)
  })
  for (const url of ['/session', '/manager']) {
    t.match((await browser.get(url)).json(), { statusCode: 500, code: 'SESSION_HEADERS_SENT' }, url)
  }
  t.equal(memory.size, 0)
})

void t.test('destroy() removes the session record and clears the cookie', async (t) => {
  const { app, memory, manager, browser } = await setUp(t)
  app.get('/destroy', async (request, reply) => {
    await manager.destroy(request.session, reply)
    return memory.size
  })
  await browser.get('/set?name=ada')
  const response = await browser.get('/destroy')
  t.equal(response.body, '0')
  t.match(setCookieOf(response), /^session_id=; Max-Age=0/)
})

void t.test('cleanup() returns and publishes how many expired sessions it removed', async (t) => {
  const clock = stopClock(t)
  const { memory, manager } = await setUp(t)
  const published = listen(t, 'expired')
  for (const id of ['a', 'b', 'c'])
    memory.create(id, makeRecord({ expiresAt: clock.start + (id === 'c' ? 10 : 5) }))
  clock.move(5)
  t.equal(await manager.cleanup(), 2)
  t.equal(await manager.cleanup(), 0)
  t.same(published, [{ count: 2 }])
  t.equal(memory.size, 1)
})

void t.test('cleanup() returns 0 if the store has no cleanup method', async (t) => {
  const { get, create, update, destroy } = spyStore()
  const { manager } = await setUp(t, { store: { get, create, update, destroy } })
  t.equal(await manager.cleanup(), 0)
})

void t.test('list() returns the most recently used session first and omits malformed records', async (t) => {
  const { memory, manager } = await setUp(t)
  const now = Date.now()
  for (const [id, ago] of [
    ['b', 2],
    ['a', 1],
    ['c', 3]
  ] as const) {
    memory.create(
      id,
      makeRecord({ userId: '7', lastAccessed: now - ago * 1000, data: { n: '1', broken: '{' } })
    )
  }
  memory.create('x', { ...makeRecord({ userId: '7' }), version: 'one' } as never)
  const list = await manager.list(7, { data: true })
  t.same(
    list.map(({ id, data }) => [id, data]),
    [
      ['a', { n: 1, broken: undefined }],
      ['b', { n: 1, broken: undefined }],
      ['c', { n: 1, broken: undefined }]
    ]
  )
})

void t.test('list() shows ids and times, and data only on request', async (t) => {
  const { memory, manager } = await setUp(t)
  const record = makeRecord({ userId: '7', data: { name: '"ada"', $csrf: '"secret"' } })
  memory.create('a', record)
  memory.create('b', makeRecord({ userId: '8' }))
  memory.create('c', makeRecord())
  const { createdAt, lastAccessed, expiresAt } = record
  const info = { id: 'a', userId: '7', createdAt, lastAccessed, expiresAt }
  t.strictSame(await manager.list(7), [info])
  t.strictSame(await manager.list('7', {}), [info])
  t.strictSame(await manager.list('7', { data: false }), [info])
  t.same(await manager.list(7, { data: true }), [{ ...info, data: { name: 'ada' } }])
  for (const nobody of ['null', 'undefined', '']) t.same(await manager.list(nobody), [], nobody)
})

void t.test('revoke() ends the session with the given id, whoever its user is', async (t) => {
  const { manager, memory } = await setUp(t)
  for (const userId of ['7', null]) {
    memory.create('a', makeRecord({ userId }))
    t.equal(await manager.revoke('a'), true)
    t.equal(await manager.revoke('a'), false)
    memory.create('a', makeRecord({ userId }))
    t.equal(await manager.revoke('a', {}), true)
  }
  t.equal(memory.size, 0)
})

void t.test(
  'revoke() with a userId ends a session of this user, given as a number or a string',
  async (t) => {
    const { manager, memory } = await setUp(t)
    for (const userId of [7, '7']) {
      memory.create('a', makeRecord({ userId: '7' }))
      t.equal(await manager.revoke('a', { userId }), true)
      t.equal(memory.size, 0)
    }
  }
)

/** Records that `revoke` must not end for the user 7, and user ids that it must not mistake for their users. */
const FOREIGN: Record<string, { record: Partial<SessionRecord>; userIds: unknown[] }> = {
  'another user': { record: { userId: '7' }, userIds: [8, '8', '07', '7 ', 7.5, ''] },
  'no user': { record: { userId: null }, userIds: [7, 'null', 'undefined', '', 0] },
  'a user called undefined': { record: { userId: 'undefined' }, userIds: [undefined] },
  'a user called null': { record: { userId: 'null' }, userIds: [null] },
  'a malformed record': { record: { userId: '7', version: 'one' as never }, userIds: [7, '7'] }
}

void t.test(
  'F11: revoke() with another userId answers as for an unknown id, and ends and publishes nothing',
  async (t) => {
    const memory = new MemoryStore()
    for (const wrapping of [(store: SessionStore) => store, slowStore]) {
      const store = spyStore(wrapping(memory))
      const { manager } = await setUp(t, { store })
      const destroyed = listen(t, 'destroyed')
      for (const [name, { record, userIds }] of Object.entries(FOREIGN)) {
        const stored = makeRecord(record)
        memory.create('a', stored)
        for (const userId of userIds) {
          store.take()
          const options = { userId } as { userId: string }
          const [foreign, calls] = [await manager.revoke('a', options), store.takeNames()]
          const [unknown, others] = [await manager.revoke('b', options), store.takeNames()]
          t.strictSame([foreign, calls], [unknown, others], `${name}: ${String(userId)}`)
          t.equal(foreign, false)
          t.notOk(calls.includes('destroy'))
        }
        t.same(memory.get('a'), stored, name)
        memory.destroy('a')
      }
      t.same(destroyed, [])
    }
  }
)

void t.test('F11: revoke() ends no session for a request that is not signed in', async (t) => {
  const { app, memory, manager, browser } = await setUp(t)
  app.get('/revoke/:id', async ({ session, params }) => {
    const { id } = params as { id: string }
    return { ended: await manager.revoke(id, { userId: session.get('userId') as string }) }
  })
  for (const userId of ['7', null]) {
    memory.create('a', makeRecord({ userId }))
    t.same((await browser.get('/revoke/a')).json(), { ended: false })
    t.ok(memory.destroy('a'))
  }
})

void t.test('F11: revoke() asks only for its own option userId, and refuses a misspelt one', async (t) => {
  const { manager, memory } = await setUp(t)
  memory.create('a', makeRecord({ userId: '7' }))
  for (const option of ['userid', 'user', 'except'])
    await t.rejects(manager.revoke('a', { [option]: 8 }), {
      code: 'SESSION_OPTION_INVALID',
      message: `"revoke.${option}" is unknown; the options here are userId`
    })
  t.equal(memory.size, 1)
  Reflect.set(Object.prototype, 'userId', '8')
  t.teardown(() => Reflect.deleteProperty(Object.prototype, 'userId'))
  t.equal(await manager.revoke('a', {}), true)
})

void t.test('F11: revoke() does not end a session that gets another user during the call', async (t) => {
  const memory = new MemoryStore()
  const store = wrap(memory, async (method, [id], next) => {
    const answer = await next()
    if (method === 'get') memory.update(id as string, makePatch({ userId: '8', renameTo: 'b' }))
    return answer
  })
  const { manager } = await setUp(t, { store })
  memory.create('a', makeRecord({ userId: '7' }))
  t.equal(await manager.revoke('a', { userId: 7 }), false)
  t.equal(memory.get('b')?.userId, '8')
})

void t.test('revokeAll() accepts the user id as a number or as a string', async (t) => {
  const { manager, memory } = await setUp(t)
  for (const id of ['a', 'b', 'c']) memory.create(id, makeRecord({ userId: '7' }))
  t.equal(await manager.revokeAll(7, { except: 'b' }), 2)
  t.equal(await manager.revokeAll('7'), 1)
  t.equal(await manager.revokeAll('7'), 0)
})

void t.test(
  'revokeAll() keeps the session given in the except option, even if the same request regenerates it',
  async (t) => {
    const { app, manager, memory, browser } = await setUp(t)
    app.get('/password', async ({ session }) => {
      session.regenerate()
      const before = await manager.revokeAll('ada', { except: session })
      await session.save()
      return [before, await manager.revokeAll('ada', { except: session })]
    })
    app.get('/new', async ({ session }) => manager.revokeAll('ada', { except: session }))
    for (const other of [new Browser(app), new Browser(app), browser]) await other.get('/login')
    t.same((await browser.get('/password')).json(), [2, 0])
    t.equal(memory.size, 1)
    t.same((await browser.get('/set?name=ada')).statusCode, 200)
    t.equal(
      (await app.inject('/new')).body,
      '1',
      'a new session is not stored yet, so all stored sessions end'
    )
  }
)

/** Stores 3 sessions of the user 7 and one of the user 8. Their ids are a, b, c and other. */
function fill(memory: MemoryStore): void {
  for (const id of ['a', 'b', 'c']) memory.create(id, makeRecord({ userId: '7' }))
  memory.create('other', makeRecord({ userId: '8' }))
}

const idsOf = (messages: unknown[]) => messages.map((message) => (message as { id: string }).id).sort()

/** Runs `change` after the first call of the method. */
function after(memory: MemoryStore, method: string, change: () => unknown): SessionStore {
  let isFirst = true
  return wrap(memory, async (called, _args, next) => {
    const answer = await next()
    if (called === method && isFirst) {
      isFirst = false
      await change()
    }
    return answer
  })
}

void t.test('revokeAll() publishes each session that it ends once, and never the kept one', async (t) => {
  const memory = new MemoryStore()
  for (const store of [memory, slowStore(memory)]) {
    const { manager } = await setUp(t, { store })
    const destroyed = listen(t, 'destroyed')
    fill(memory)
    t.equal(await manager.revokeAll(7, { except: 'b' }), 2)
    t.strictSame(destroyed, [
      { id: 'a', reason: 'revoked' },
      { id: 'c', reason: 'revoked' }
    ])
    t.equal(await manager.revokeAll(7, { except: 'b' }), 0)
    t.equal(await manager.revokeAll('7'), 1)
    t.strictSame(destroyed.slice(2), [{ id: 'b', reason: 'revoked' }])
    t.ok(memory.destroy('other'))
  }
})

void t.test(
  'revokeAll() also ends and publishes a session that is created or rotated meanwhile',
  async (t) => {
    for (const [name, change, ended] of [
      ['created', (m) => m.create('d', makeRecord({ userId: '7' })), ['a', 'c', 'd']],
      ['rotated', (m) => m.update('c', makePatch({ renameTo: 'd' })), ['a', 'd']]
    ] as [string, (memory: MemoryStore) => unknown, string[]][]) {
      const memory = new MemoryStore()
      const store = after(memory, 'listByUser', () => change(memory))
      const { manager } = await setUp(t, { store })
      const destroyed = listen(t, 'destroyed')
      fill(memory)
      t.equal(await manager.revokeAll(7, { except: 'b' }), ended.length, name)
      t.same(idsOf(destroyed), ended, name)
      t.same(idsOf(memory.listByUser('7')), ['b'], name)
    }
  }
)

void t.test(
  'revokeAll() neither counts nor publishes a session that another request has ended',
  async (t) => {
    const memory = new MemoryStore()
    const browsers: Browser[] = []
    const store = after(memory, 'listByUser', () => browsers[0]?.get('/logout'))
    const { app, manager } = await setUp(t, { store })
    for (let count = 0; count < 2; count++) {
      const browser = new Browser(app)
      await browser.get('/login')
      browsers.push(browser)
    }
    const [first, second] = browsers.map(({ cookie }) => idOfCookie(cookie))
    const destroyed = listen(t, 'destroyed')
    t.equal(await manager.revokeAll('ada'), 1)
    t.match(destroyed, [
      { id: first, reason: 'invalidated' },
      { id: second, reason: 'revoked' }
    ])
    t.equal(destroyed.length, 2)
  }
)

void t.test('revokeAll() ends all sessions of a user who signs in again and again', async (t) => {
  const memory = new MemoryStore()
  let count = 0
  const store = wrap(memory, (method, _args, next) => {
    if (method === 'listByUser' && ++count < 100) memory.create(`new ${count}`, makeRecord({ userId: '7' }))
    return next()
  })
  const { manager } = await setUp(t, { store })
  const destroyed = listen(t, 'destroyed')
  fill(memory)
  t.ok((await manager.revokeAll(7)) >= 4)
  t.ok(count < 10, `${count} lists`)
  t.equal(new Set(idsOf(destroyed)).size, destroyed.length)
  t.same(memory.listByUser('7'), [])
})

void t.test('revoke() and revokeAll() make no additional store call if nobody listens', async (t) => {
  const memory = new MemoryStore()
  const store = spyStore(memory)
  const { manager } = await setUp(t, { store })
  fill(memory)
  store.take()
  t.equal(await manager.revoke('a'), true)
  t.same(store.takeNames(), ['destroy'])
  t.equal(await manager.revoke('b', { userId: 7 }), true)
  t.same(store.takeNames(), ['get', 'destroy'])
  t.equal(await manager.revokeAll(7), 1)
  t.same(store.takeNames(), ['destroyByUser'])
})

void t.test('a subscriber does not make revokeAll() fail on a store without listByUser', async (t) => {
  const memory = new MemoryStore()
  const { get, create, update, destroy, destroyByUser } = wrap(memory, (_method, _args, next) => next())
  const store = { get, create, update, destroy, destroyByUser } as SessionStore
  const { manager } = await setUp(t, { store })
  listen(t, 'destroyed')
  fill(memory)
  t.equal(await manager.revokeAll(7, { except: 'a' }), 2)
})

void t.test('the destroyed channel says why a session has ended, and in which request', async (t) => {
  const server = { genReqId: ({ headers }: { headers: object }) => Reflect.get(headers, 'x-id') as string }
  const app = addRoutes(await makeApp(t, { maxSessionsPerUser: 1 }, server))
  app.get('/manager', async ({ session }, reply) => app.sessionManager.destroy(session, reply))
  app.get('/remove', async ({ session }) => session.remove('userId'))
  app.get('/revoke', async ({ session }) => app.sessionManager.revoke(session.id))
  app.get('/revoke-all', async () => app.sessionManager.revokeAll('ada'))
  const destroyed = listen(t, 'destroyed')
  for (const [path, reason, requestId] of [
    ['/logout', 'invalidated', 'the end'],
    ['/manager', 'invalidated', 'the end'],
    ['/remove', 'invalidated', 'the end'],
    ['/revoke', 'revoked', undefined],
    ['/revoke-all', 'revoked', undefined]
  ] as const) {
    const browser = new Browser(app)
    await browser.get('/login', { 'x-id': 'the login' })
    const id = idOfCookie(browser.cookie)
    t.equal((await browser.get(path, { 'x-id': 'the end' })).statusCode, 200, path)
    t.strictSame(destroyed.splice(0), [{ id, reason, ...(requestId && { requestId }) }], path)
  }
  const browser = new Browser(app)
  await browser.get('/login', { 'x-id': 'the first login' })
  await new Browser(app).get('/login', { 'x-id': 'the end' })
  t.match(destroyed, [{ id: idOfCookie(browser.cookie), reason: 'limit', requestId: 'the end' }])
})

void t.test('list() and revokeAll() throw if the store cannot find sessions by user', async (t) => {
  const { get, create, update, destroy } = new MemoryStore()
  const { manager } = await setUp(t, { store: { get, create, update, destroy } })
  await t.rejects(manager.list('ada'), { code: 'SESSION_STORE_UNSUPPORTED', message: /listByUser/ })
  await t.rejects(manager.revokeAll('ada'), { code: 'SESSION_STORE_UNSUPPORTED', message: /destroyByUser/ })
})

void t.test(
  'a store failure causes a 503 that neither clears the cookie nor reveals the store’s error',
  async (t) => {
    let down = false
    for (const isAsync of [false, true]) {
      const failing = failingStore(() => down)
      const store = isAsync ? wrap(failing, async (_method, _args, next) => next()) : failing
      const failures = listen(t, 'store-failure')
      down = false
      const { app, browser } = await setUp(t, { store })
      const errors: Error[] = []
      app.addHook('onError', async (_request, _reply, error) => void errors.push(error))
      await browser.get('/set?name=ada')
      down = true
      const response = await browser.get('/read')
      t.same(response.json(), {
        statusCode: 503,
        code: 'SESSION_STORE_UNAVAILABLE',
        error: 'Service Unavailable',
        message: 'Session store unavailable'
      })
      t.equal(setCookieOf(response), undefined)
      t.match(errors, [{ cause: { message: /ECONNREFUSED/ } }])
      t.match(failures.slice(0, 1), [{ operation: 'get', error: { message: /ECONNREFUSED/ } }])
      down = false
      t.same((await browser.get('/read')).json(), { name: 'ada' }, 'an outage is not a logout')
    }
  }
)

void t.test('a store failure during the save causes a 503 without a session cookie', async (t) => {
  const { browser } = await setUp(t, { store: failingStore((method) => method === 'create') })
  const response = await browser.get('/set?name=ada')
  t.match(response.json(), { statusCode: 503, code: 'SESSION_STORE_UNAVAILABLE' })
  t.equal(setCookieOf(response), undefined)
})

void t.test('a store that does not respond within storeTimeout causes a 503', async (t) => {
  let hangs = false
  const store = wrap(new MemoryStore(), (_method, _args, next) =>
    hangs ? new Promise(() => undefined) : next()
  )
  const { browser } = await setUp(t, { store, storeTimeout: 20 })
  await browser.get('/set?name=ada')
  hangs = true
  t.match((await browser.get('/read')).json(), { statusCode: 503, code: 'SESSION_STORE_UNAVAILABLE' })
})

void t.test(
  'if the session cannot be loaded, an error handler receives an empty session that is not saved',
  async (t) => {
    const store = spyStore(failingStore((method) => method === 'get'))
    const { app, browser } = await setUp(t, { store })
    app.setErrorHandler(async (error: { statusCode: number }, { session }, reply) => {
      session.set('name', 'lost')
      return reply.code(error.statusCode).send({ name: session.get('name'), isNew: session.isNew })
    })
    await browser.get('/set?name=ada')
    store.take()
    const response = await browser.get('/read')
    t.equal(response.statusCode, 503)
    t.same(response.json(), { name: 'lost', isNew: true })
    t.same(store.takeNames(), ['get'])
    t.equal(setCookieOf(response), undefined)
  }
)

/**
 * Maps each limit on the life of a session to the times of two session records, in ms relative to now. The record in
 * `ended` has just reached the limit. The record in `live` will reach it in 1 ms.
 */
const EDGES: Record<string, { ended: Partial<SessionRecord>; live: Partial<SessionRecord> }> = {
  expiresAt: { ended: { expiresAt: 0 }, live: { expiresAt: 1 } },
  maxAge: { ended: { createdAt: -100_000 }, live: { createdAt: -99_999 } },
  idleTimeout: { ended: { lastAccessed: -10_000 }, live: { lastAccessed: -9_999 } }
}

for (const [name, edge] of Object.entries(EDGES)) {
  void t.test(
    `a session ends exactly when ${name} is reached, even if the store still returns its record`,
    async (t) => {
      const { start } = stopClock(t)
      let record = makeRecord()
      const store = wrap(new MemoryStore(), (method, _args, next) =>
        method === 'get' ? record : method === 'listByUser' ? [{ id: 'a', record }] : next()
      )
      const { manager, browser } = await setUp(t, { store, maxAge: 100, idleTimeout: 10 })
      await browser.get('/set?name=ada')
      for (const [kind, { createdAt = 0, lastAccessed = 0, expiresAt = 1000 }] of Object.entries(edge)) {
        record = makeRecord({
          createdAt: start + createdAt,
          lastAccessed: start + lastAccessed,
          expiresAt: start + expiresAt
        })
        t.same((await browser.get('/read')).json(), { name: kind === 'live' ? 'ada' : null }, kind)
        t.equal((await manager.list('ada')).length, kind === 'live' ? 1 : 0, kind)
      }
    }
  )
}

void t.test('a missing record is not reported as malformed', async (t) => {
  const { memory, browser } = await setUp(t)
  const reports = listen(t, 'invalid-record')
  await browser.get('/set?name=ada')
  memory.get = () => undefined
  t.same((await browser.get('/read')).json(), { name: null })
  t.same(reports, [])
})

for (const isAsync of [false, true]) {
  const kind = isAsync ? 'asynchronous' : 'synchronous'
  void t.test(`with ${kind} stores, the first cookie that has a live session is used`, async (t) => {
    const memory = new MemoryStore()
    const store = isAsync ? wrap(memory, async (_method, _args, next) => next()) : memory
    const { app } = await setUp(t, { store })
    const cookies: string[] = []
    for (const url of ['/set?name=dead', '/set?name=gone', '/set?name=ada', '/set?name=eve']) {
      const browser = new Browser(app)
      await browser.get(url)
      cookies.push(browser.cookie)
      if (cookies.length < 3) await browser.get('/logout')
    }
    const { body } = await app.inject({ url: '/read', headers: { cookie: cookies.join('; ') } })
    t.same(JSON.parse(body), { name: 'ada' })
  })
  void t.test(
    `with onStoreError: 'anonymous', if a ${kind} store fails, requests continue but save nothing`,
    async (t) => {
      let down = false
      const failing = failingStore(() => down)
      const spy = spyStore(isAsync ? wrap(failing, async (_method, _args, next) => next()) : failing)
      const { browser } = await setUp(t, { store: spy, onStoreError: 'anonymous' })
      await browser.get('/set?name=ada')
      down = true
      spy.take()
      const read = await browser.get('/read')
      t.same(read.json(), { name: null })
      const set = await browser.get('/set?name=lost')
      t.equal(set.statusCode, 200)
      t.same(spy.takeNames(), ['get', 'get'])
      t.equal(setCookieOf(set), undefined)
      const visitor = await new Browser(browser.app).get('/set?name=new')
      t.equal(visitor.statusCode, 200)
      t.same(spy.takeNames(), ['create'])
      t.equal(setCookieOf(visitor), undefined)
      down = false
      t.same((await browser.get('/read')).json(), { name: 'ada' })
    }
  )
}

void t.test(
  "with onStoreError: 'anonymous', a failure to save a loaded session still causes a 503",
  async (t) => {
    const { browser } = await setUp(t, {
      store: failingStore((method) => method === 'update'),
      onStoreError: 'anonymous'
    })
    await browser.get('/set?name=ada')
    t.equal((await browser.get('/set?name=lost')).statusCode, 503)
  }
)

void t.test('concurrent get() and getOrCreate() calls load the session only once', async (t) => {
  const store = spyStore(wrap(new MemoryStore(), async (_method, _args, next) => next()))
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (request) => {
    const { sessionManager: manager } = app
    // This call is not awaited. The next two calls therefore also run while the session is being loaded.
    const changed = manager.getOrCreate(request)
    void Promise.resolve(changed).then((session) => session.set('early', true))
    const [one, other] = await Promise.all([manager.get(request), manager.getOrCreate(request)])
    if (one !== undefined) t.equal(one, other)
  })
  await app.register((await import('../../plugin/index.js')).default, { secret: SECRET, store })
  addRoutes(app).get('/early', async ({ session }) => ({ early: session.get('early') ?? null }))
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  store.take()
  t.same((await browser.get('/early')).json(), { early: true })
  t.same(store.takeNames(), ['get'])
})

void t.test("with onStoreError: 'anonymous', invalidate() after a failed load causes a 503", async (t) => {
  let down = false
  const { app, browser } = await setUp(t, { store: failingStore(() => down), onStoreError: 'anonymous' })
  app.get('/why', async ({ session }) => {
    try {
      session.invalidate()
    } catch (error) {
      return { why: String((error as Error).cause) }
    }
    return { why: 'it was ended' }
  })
  await browser.get('/set?name=ada')
  down = true
  const response = await browser.get('/logout')
  t.equal(response.statusCode, 503)
  t.match(response.json(), { code: 'SESSION_STORE_UNAVAILABLE', message: 'Session store unavailable' })
  t.equal(setCookieOf(response), undefined)
  t.match((await browser.get('/why')).json(), { why: /could not be loaded cannot be replaced or ended/ })
  down = false
  t.same((await browser.get('/read')).json(), { name: 'ada' })
})

void t.test('a failed cleanup() throws a SessionStoreError, like any other failed store call', async (t) => {
  const failures = listen(t, 'store-failure')
  for (const isAsync of [false, true]) {
    const failing = failingStore((method) => method === 'cleanup')
    const store = isAsync ? wrap(failing, async (_method, _args, next) => next()) : failing
    const { manager } = await setUp(t, { store })
    await t.rejects(async () => manager.cleanup(), {
      code: 'SESSION_STORE_UNAVAILABLE',
      message: 'Session store unavailable',
      cause: /ECONNREFUSED/
    })
  }
  t.match(failures, [{ operation: 'cleanup' }, { operation: 'cleanup' }])
})

void t.test('a request whose session cannot be loaded fails, even if a hook catches the error', async (t) => {
  for (const wrapping of [(store: SessionStore) => store, slowStore]) {
    let down = false
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onRequest', async (request) => {
      await Promise.resolve()
        .then(() => app.sessionManager.get(request))
        .catch(() => undefined)
    })
    const { default: sessions } = await import('../../plugin/index.js')
    await app.register(sessions, { secret: SECRET, store: wrapping(failingStore(() => down)) })
    const browser = new Browser(addRoutes(app))
    await browser.get('/set?name=ada')
    down = true
    const response = await browser.get('/set?name=lost')
    t.match(response.json(), { statusCode: 503, code: 'SESSION_STORE_UNAVAILABLE' })
    t.equal(setCookieOf(response), undefined)
    down = false
    t.same((await browser.get('/read')).json(), { name: 'ada' })
  }
})

void t.test('a not-found handler called from a route with session: false creates no session', async (t) => {
  const { app, memory, browser } = await setUp(t)
  app.setNotFoundHandler(async ({ session }, reply) => {
    session.set('name', 'nobody')
    return { token: reply.generateCsrf() }
  })
  app.get('/asset', { config: { session: false } }, (_request, reply) => {
    reply.callNotFound()
  })
  await browser.get('/set?name=ada')
  const response = await browser.get('/asset')
  t.match(response.json(), { token: /^[\w-]{86}$/ })
  t.equal(setCookieOf(response), undefined)
  t.equal(memory.size, 1)
  t.same((await browser.get('/read')).json(), { name: 'ada' })
})
