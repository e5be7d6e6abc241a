import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import type { SessionOptions, SessionPatch } from '../../plugin/index.js'
import { contextOf, addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { spyStore, type SpyStore } from '../fixtures/stores.js'
import { createTokens, idOfToken } from '../../plugin/cookies/tokens.js'

const ATTRIBUTES = 'Path=/; HttpOnly; Secure; SameSite=Lax'
const DAY = 86_400_000

/** Stops the clock and creates an app whose store records its calls. */
async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const clock = stopClock(t)
  const store = spyStore()
  const app = addRoutes(await makeApp(t, { store, cleanupInterval: 0, ...options }))
  app.get('/remove', async ({ session }) => session.remove('name') ?? 'remove')
  app.get('/fail/:action', async ({ session, params }) => {
    const { action } = params as { action: string }
    if (action === 'set') session.set('name', 'lost')
    if (action === 'login') session.regenerate()
    if (action === 'flash') session.getFlash('note')
    if (action === 'logout') {
      session.invalidate()
      session.set('name', 'lost')
    }
    throw new Error('the handler failed')
  })
  return { clock, store, app, browser: new Browser(app) }
}

/**
 * Creates a session with `name: 'ada'` for the browser and clears the recorded store calls. Returns the value of the
 * cookie and the id of the session.
 */
async function signIn(browser: Browser, store: SpyStore): Promise<{ value: string; id: string }> {
  await browser.get('/set?name=ada')
  store.take()
  const value = browser.cookies.get('session_id') as string
  return { value, id: idOfToken(value.split('.')[0] as string) }
}

function tokenOf(setCookie: string | undefined): string {
  return /^session_id=([0-9a-f]{64})\./.exec(setCookie ?? '')?.[1] ?? 'no token'
}

void t.test('a request without a cookie or a change makes no store call and sets no cookie', async (t) => {
  const { store, browser } = await setUp(t)
  const response = await browser.get('/read')
  t.same(response.json(), { name: null })
  t.same(store.take(), [])
  t.equal(setCookieOf(response), undefined)
})

void t.test('a malformed or forged cookie leads to no store call and no new cookie', async (t) => {
  const { store, browser } = await setUp(t)
  const { value } = await signIn(browser, store)
  const forged = `${value.slice(0, -1)}${value.endsWith('A') ? 'B' : 'A'}`
  for (const wrong of ['', 'x', value.slice(1), forged]) {
    browser.cookies.set('session_id', wrong)
    const response = await browser.get('/read')
    t.same(response.json(), { name: null })
    t.same(store.take(), [])
    t.equal(setCookieOf(response), undefined)
  }
})

void t.test('a signed cookie that has no session leads to one get call and no new cookie', async (t) => {
  const { store, browser } = await setUp(t)
  const tokens = createTokens([Buffer.from(SECRET)], 32)
  const token = tokens.mint()
  browser.cookies.set('session_id', tokens.sign(token))
  const response = await browser.get('/read')
  t.same(response.json(), { name: null })
  t.same(store.take(), [['get', idOfToken(token)]])
  t.equal(setCookieOf(response), undefined)
})

void t.test('a request that only reads makes one get call, writes nothing and sends no cookie', async (t) => {
  const { store, browser, clock } = await setUp(t)
  const { id } = await signIn(browser, store)
  clock.move(DAY - 1)
  const response = await browser.get('/read')
  t.same(response.json(), { name: 'ada' })
  t.same(store.take(), [['get', id]])
  t.equal(setCookieOf(response), undefined)
})

void t.test('a read does not touch the session until a tenth of idleTimeout has passed', async (t) => {
  const { store, browser, clock } = await setUp(t, { idleTimeout: 1000 })
  const { id, value } = await signIn(browser, store)
  clock.move(99_999)
  const before = await browser.get('/read')
  t.same(store.takeNames(), ['get'])
  t.equal(setCookieOf(before), undefined)
  clock.move(1)
  const after = await browser.get('/read')
  const now = clock.start + 100_000
  t.same(store.take(), [
    ['get', id],
    ['update', id, { set: {}, remove: [], lastAccessed: now, expiresAt: now + 1_000_000 }]
  ])
  t.equal(setCookieOf(after), `session_id=${value}; Max-Age=1000; ${ATTRIBUTES}`)
})

void t.test('a touch sends no cookie if the cookie has no expiry', async (t) => {
  const { store, browser, clock } = await setUp(t, { idleTimeout: 1000, cookie: { persistent: false } })
  await signIn(browser, store)
  clock.move(100_000)
  const response = await browser.get('/read')
  t.same(store.takeNames(), ['get', 'update'])
  t.equal(setCookieOf(response), undefined)
})

void t.test('creating a session with data makes one create call and sends the cookie', async (t) => {
  const { store, browser, clock } = await setUp(t)
  const response = await browser.get('/set?name=ada&userId=7')
  const token = tokenOf(setCookieOf(response))
  const record = {
    version: 1,
    data: { name: '"ada"', userId: '"7"' },
    createdAt: clock.start,
    lastAccessed: clock.start,
    expiresAt: clock.start + DAY,
    userId: '7'
  }
  t.same(store.take(), [['create', idOfToken(token), record]])
  const signed = createTokens([Buffer.from(SECRET)], 32).sign(token)
  t.equal(setCookieOf(response), `session_id=${signed}; Max-Age=86400; ${ATTRIBUTES}`)
})

void t.test(
  'a request that changes a key updates only that key, and sends no cookie if the expiry stays the same',
  async (t) => {
    const { store, browser, clock } = await setUp(t)
    const { id } = await signIn(browser, store)
    clock.move(5000)
    const response = await browser.get('/set?color=red')
    t.same(store.take(), [
      ['get', id],
      [
        'update',
        id,
        {
          set: { color: '"red"' },
          remove: [],
          lastAccessed: clock.start + 5000,
          expiresAt: clock.start + DAY
        }
      ]
    ])
    t.equal(setCookieOf(response), undefined)
  }
)

void t.test('a reply sets the cookie again if a change extended the expiry of the session', async (t) => {
  const { store, browser, clock } = await setUp(t, { idleTimeout: 1000 })
  const { value } = await signIn(browser, store)
  clock.move(5000)
  const response = await browser.get('/set?color=red')
  t.same(store.takeNames(), ['get', 'update'])
  t.equal(setCookieOf(response), `session_id=${value}; Max-Age=1000; ${ATTRIBUTES}`)
})

void t.test('a cookie signed with an older secret is re-issued once, with the same token', async (t) => {
  const { app, store, browser } = await setUp(t, { secret: ['n'.repeat(32), SECRET] })
  const tokens = createTokens([Buffer.from('n'.repeat(32))], 32)
  const old = await signInWithOldSecret(app, store)
  browser.cookies.set('session_id', old)
  const response = await browser.get('/read')
  t.same(response.json(), { name: 'ada' })
  t.same(store.takeNames(), ['get', 'update'])
  const [token] = old.split('.') as [string]
  t.equal(setCookieOf(response), `session_id=${tokens.sign(token)}; Max-Age=86400; ${ATTRIBUTES}`)
  const again = await browser.get('/read')
  t.same(store.takeNames(), ['get'])
  t.equal(setCookieOf(again), undefined)
})

/** Creates a session and returns its cookie, signed with the older secret. */
async function signInWithOldSecret(app: FastifyInstance, store: SpyStore): Promise<string> {
  const browser = new Browser(app)
  const { value } = await signIn(browser, store)
  return createTokens([Buffer.from(SECRET)], 32).sign(value.split('.')[0] as string)
}

void t.test('regenerate() renames the record with one update and sends a new cookie', async (t) => {
  const { store, browser, clock } = await setUp(t)
  const { id, value } = await signIn(browser, store)
  clock.move(5000)
  const response = await browser.get('/login')
  const token = tokenOf(setCookieOf(response))
  t.not(token, value.split('.')[0])
  const now = clock.start + 5000
  const patch = {
    set: { userId: '"ada"' },
    remove: ['$csrf'],
    lastAccessed: now,
    expiresAt: now + DAY,
    userId: 'ada',
    createdAt: now,
    renameTo: idOfToken(token)
  }
  t.same(store.take(), [
    ['get', id],
    ['update', id, patch]
  ])
  t.match(setCookieOf(response), `; Max-Age=86400; ${ATTRIBUTES}`)
})

void t.test(
  'regenerate() removes the CSRF secret, unless the same request creates a new secret afterwards',
  async (t) => {
    const { app, store, browser } = await setUp(t)
    app.get('/form', async (_request, reply) => reply.generateCsrf())
    app.get('/renewed-form', async ({ session }, reply) => session.regenerate() ?? reply.generateCsrf())
    const changes = async (url: string) => {
      await browser.get(url)
      const { set, remove } = store.take().at(-1)?.[2] as SessionPatch
      return { set: Object.keys(set), remove }
    }
    await signIn(browser, store)
    t.same(await changes('/form'), { set: ['$csrf'], remove: [] })
    t.same(await changes('/login'), { set: ['userId'], remove: ['$csrf'] })
    t.same(await changes('/renewed-form'), { set: ['$csrf'], remove: [] }, 'the session had no secret')
    t.same(await changes('/renewed-form'), { set: ['$csrf'], remove: [] }, 'the session had a secret')
  }
)

void t.test('invalidate() calls destroy once and clears the cookie with all its attributes', async (t) => {
  const cookie = { domain: 'app.test', path: '/', sameSite: 'none', partitioned: true } as const
  const { store, browser } = await setUp(t, { cookie })
  const { id } = await signIn(browser, store)
  const response = await browser.get('/logout')
  t.same(store.take(), [
    ['get', id],
    ['destroy', id]
  ])
  t.equal(
    setCookieOf(response),
    'session_id=; Max-Age=0; Domain=app.test; Path=/; HttpOnly; Secure; Partitioned; SameSite=None'
  )
})

void t.test(
  'data that is set after invalidate() is stored in a new session, and only the cookie of that session is sent',
  async (t) => {
    const { app, store, browser } = await setUp(t)
    app.get('/goodbye', async ({ session }) => {
      session.invalidate()
      session.set('info', 'Bye')
      return session.id
    })
    const { id, value } = await signIn(browser, store)
    const response = await browser.get('/goodbye')
    const token = tokenOf(setCookieOf(response))
    t.not(token, value.split('.')[0])
    t.equal(response.body, idOfToken(token))
    const calls = store.take()
    t.same(
      calls.map(([name, id]) => [name, id]),
      [
        ['get', id],
        ['destroy', id],
        ['create', idOfToken(token)]
      ]
    )
    t.match(calls[2]?.[2], { data: { info: /Bye/, name: undefined }, userId: null })
  }
)

void t.test('a 5xx reply writes nothing and sends no cookie', async (t) => {
  const { store, browser } = await setUp(t, { idleTimeout: 1000 })
  const { id } = await signIn(browser, store)
  for (const action of ['set', 'login', 'flash']) {
    const response = await browser.get(`/fail/${action}`)
    t.equal(response.statusCode, 500)
    t.same(store.take(), [['get', id]], action)
    t.equal(setCookieOf(response), undefined)
  }
  browser.cookies.clear()
  t.equal(setCookieOf(await browser.get('/fail/set')), undefined)
  t.same(store.take(), [])
})

void t.test(
  'a 5xx reply after invalidate() still ends the session, but discards data that was set afterwards',
  async (t) => {
    const { store, browser } = await setUp(t)
    const { id } = await signIn(browser, store)
    const response = await browser.get('/fail/logout')
    t.equal(response.statusCode, 500)
    t.same(store.take(), [
      ['get', id],
      ['destroy', id]
    ])
    t.equal(setCookieOf(response), `session_id=; Max-Age=0; ${ATTRIBUTES}`)
  }
)

void t.test(
  'if the session ends during a request, set() and update() fail with 409 and send no cookie',
  async (t) => {
    const { app, store, browser, clock } = await setUp(t, { idleTimeout: 1000 })
    // In each request, ends the session after it has been loaded and before it is committed.
    app.addHook('preHandler', async ({ session }) => {
      await app.sessionManager.revoke(session.id)
    })
    const lossy = {
      '/set?name=new': 409,
      '/add': 409,
      '/remove': 200,
      '/logout': 200,
      '/read': 200
    }
    for (const [url, status] of Object.entries(lossy)) {
      browser.cookies.clear()
      const { id } = await signIn(browser, store)
      clock.move(200_000)
      const response = await browser.get(url)
      t.equal(response.statusCode, status, url)
      if (status === 409) t.match(response.json(), { code: 'SESSION_GONE', error: 'Conflict' })
      t.equal(setCookieOf(response), undefined, url)
      const names = store.takeNames()
      t.same(names, ['get', 'destroy', url === '/logout' ? 'destroy' : 'update'], url)
      t.equal(await contextOf(app).options.store.get(id), undefined)
      store.take()
    }
  }
)

void t.test('a request commits only once even if Fastify runs onSend again after an error', async (t) => {
  const { app, store, browser } = await setUp(t)
  let throws = true
  app.addHook('onSend', async () => {
    if (!throws) return
    throws = false
    throw new Error('a later hook failed')
  })
  const response = await browser.get('/set?name=ada')
  t.equal(response.statusCode, 500)
  t.same(store.takeNames(), ['create'])
})

void t.test('after a conflict, the function passed to update() runs again on the newer value', async (t) => {
  const { app, store, browser } = await setUp(t)
  let interfere = false
  app.addHook('preHandler', async () => {
    if (!interfere) return
    interfere = false
    await new Browser(app).request({ url: '/add', headers: { cookie: browser.cookie } })
    store.take()
  })
  const { id } = await signIn(browser, store)
  interfere = true
  await browser.get('/add')
  t.same(store.takeNames(), ['update', 'get', 'update'])
  t.match(await store.get(id), { version: 3, data: { count: '2' } })
})

void t.test(
  'after invalidate() on an ended session, a flash message is dropped, data fails with 409 and a login succeeds',
  async (t) => {
    const { app, store, browser } = await setUp(t)
    app.get('/switch/:key', async ({ session, params }) => {
      const { key } = params as { key: string }
      await store.destroy(session.id)
      session.invalidate()
      if (key !== 'flash') session.set(key, 'bob')
      session.setFlash('info', 'Bye')
      return 'switched'
    })
    for (const [key, statusCode, calls, cookie] of [
      ['flash', 200, ['get', 'destroy', 'destroy'], undefined],
      ['name', 409, ['get', 'destroy', 'destroy'], undefined],
      ['userId', 200, ['get', 'destroy', 'destroy', 'create'], /^session_id=/]
    ] as const) {
      await signIn(browser, store)
      const response = await browser.get(`/switch/${key}`)
      t.equal(response.statusCode, statusCode, key)
      if (cookie === undefined) t.equal(setCookieOf(response), undefined)
      else t.match(setCookieOf(response), cookie)
      t.same(store.takeNames(), calls)
    }
  }
)
