import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import sessions, {
  MemoryStore,
  requireAuth,
  type SessionOptions,
  type SessionStore
} from '../../plugin/index.js'
import { idOfToken } from '../../plugin/cookies/tokens.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { slowStore, spyStore, wrap } from '../fixtures/stores.js'

// Section C of the security cases: how a session begins, lives and ends.

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const memory = new MemoryStore()
  const app = addRoutes(await makeApp(t, { store: memory, cleanupInterval: 0, ...options }))
  app.get('/who', async ({ session }) => ({
    user: session.get('userId') ?? null,
    created: session.createdAt
  }))
  app.get('/dashboard', { preHandler: requireAuth() }, async () => 'dashboard')
  return { app, memory, browser: new Browser(app) }
}

function idOf(browser: Browser): string {
  return idOfToken(browser.cookies.get('session_id')?.split('.')[0] ?? '')
}

async function userOf(app: FastifyInstance, cookie: string): Promise<unknown> {
  const response = await app.inject({ url: '/who', headers: { cookie } })
  return response.json<{ user: unknown }>().user
}

void t.test('C1: a login changes the id, and the old cookie is nobody from then on', async (t) => {
  const { app, memory, browser } = await setUp(t)
  await browser.get('/set?name=ada')
  const [before, cookieBefore] = [idOf(browser), browser.cookie]
  await browser.get('/login')
  t.not(idOf(browser), before)
  t.equal(memory.get(before), undefined)
  t.equal(await userOf(app, cookieBefore), null)
  t.same((await browser.get('/read')).json(), { name: 'ada' }, 'the data came along')
})

void t.test(
  'C2: logging in again, or passing a second factor, does the same and restarts both clocks',
  async (t) => {
    const clock = stopClock(t)
    const { app, memory, browser } = await setUp(t, { maxAge: 100, idleTimeout: 50 })
    await browser.get('/login')
    const [before, cookieBefore] = [idOf(browser), browser.cookie]
    clock.move(40_000)
    await browser.get('/login')
    t.not(idOf(browser), before)
    t.equal(await userOf(app, cookieBefore), null)
    t.match(memory.get(idOf(browser)), {
      createdAt: clock.start + 40_000,
      lastAccessed: clock.start + 40_000,
      expiresAt: clock.start + 90_000,
      userId: 'ada'
    })
  }
)

void t.test(
  'C3: at lastAccessed + idleTimeout it is expired, even where the store still returns it',
  async (t) => {
    const clock = stopClock(t)
    const forgetful = new MemoryStore()
    const store = wrap(forgetful, (method, args, next) =>
      method === 'create'
        ? forgetful.create(args[0] as string, { ...(args[1] as object), expiresAt: 8e15 } as never)
        : next()
    )
    const { app, browser } = await setUp(t, { store, idleTimeout: 100 })
    await browser.get('/login')
    clock.move(99_999)
    t.equal(await userOf(app, browser.cookie), 'ada')
    await browser.get('/login')
    clock.move(100_000)
    t.equal(await userOf(app, browser.cookie), null)
  }
)

void t.test(
  'C3: the touch is lazy: a session ends at most a tenth of idleTimeout too early, never late',
  async (t) => {
    const clock = stopClock(t)
    const { app, browser } = await setUp(t, { idleTimeout: 100 })
    await browser.get('/login')
    clock.move(9_999)
    t.equal(await userOf(app, browser.cookie), 'ada', 'used, but not yet worth a write')
    clock.move(90_000)
    t.equal(await userOf(app, browser.cookie), 'ada', '90 s after its last use it lives')
    clock.move(100_000)
    t.equal(await userOf(app, browser.cookie), null, '100 s after its last use it does not')
  }
)

void t.test('C4: a session that is used every second ends at createdAt + maxAge', async (t) => {
  const clock = stopClock(t)
  const { app, browser } = await setUp(t, { maxAge: 60, idleTimeout: 10 })
  await browser.get('/login')
  for (let second = 1; second < 60; second++) {
    clock.move(1000)
    t.equal(await userOf(app, browser.cookie), 'ada')
  }
  clock.move(1000)
  t.equal(await userOf(app, browser.cookie), null)
})

void t.test('C4: a maxAge that was shortened ends the sessions that are older', async (t) => {
  const clock = stopClock(t)
  const { app, memory, browser } = await setUp(t, { maxAge: 1000 })
  await browser.get('/login')
  const shorter = await setUp(t, { store: memory, maxAge: 10 })
  clock.move(10_000)
  t.equal(await userOf(app, browser.cookie), 'ada')
  t.equal(await userOf(shorter.app, browser.cookie), null)
})

void t.test('C5: after a logout the old cookie is nobody, and the store has no record', async (t) => {
  const { app, memory, browser } = await setUp(t)
  await browser.get('/login')
  const { cookie } = browser
  await browser.get('/logout')
  t.equal(browser.cookie, '', 'the browser was told to forget it')
  t.equal(memory.size, 0)
  const replayed = await app.inject({ url: '/dashboard', headers: { cookie, accept: 'text/html' } })
  t.equal(replayed.headers.location, '/login')
})

void t.test('C6: expired data is readable through nothing', async (t) => {
  const clock = stopClock(t)
  const { app, memory, browser } = await setUp(t, { maxAge: 10 })
  await browser.get('/login')
  t.equal((await app.sessionManager.list('ada')).length, 1)
  clock.move(10_000)
  t.same(await app.sessionManager.list('ada'), [])
  t.equal(await userOf(app, browser.cookie), null)
  t.equal(memory.get(idOf(browser)), undefined)
  t.equal(await app.sessionManager.revoke(idOf(browser)), false)
})

void t.test(
  'C7: revokeAll ends every session of the user, in flight too, and leaves nothing in the index',
  async (t) => {
    const { app, memory } = await setUp(t)
    app.get('/slow', async ({ session }) => {
      await app.sessionManager.revokeAll('ada')
      session.set('late', true)
      return 'slow'
    })
    const browsers = [new Browser(app), new Browser(app), new Browser(app)]
    for (const browser of browsers) await browser.get('/login')
    const [inFlight] = browsers as [Browser]
    const late = await inFlight.get('/slow')
    t.equal(late.statusCode, 409)
    t.equal(setCookieOf(late), undefined)
    for (const browser of browsers) t.equal(await userOf(app, browser.cookie), null)
    t.equal(memory.size, 0)
    t.same(memory.listByUser('ada'), [])
  }
)

void t.test('C7: revokeAll with except leaves that one alone', async (t) => {
  const { app } = await setUp(t)
  const [mine, other] = [new Browser(app), new Browser(app)]
  await mine.get('/login')
  await other.get('/login')
  t.equal(await app.sessionManager.revokeAll('ada', { except: idOf(mine) }), 1)
  t.equal(await userOf(app, mine.cookie), 'ada')
  t.equal(await userOf(app, other.cookie), null)
})

void t.test('C9: list shows ids, times and data, never a token or what is the library’s own', async (t) => {
  const clock = stopClock(t)
  const { app, browser } = await setUp(t)
  app.get('/form', async (_request, reply) => reply.generateCsrf())
  await browser.get('/login')
  await browser.get('/form')
  await browser.get('/set?agent=Firefox')
  const list = await app.sessionManager.list('ada')
  const info = {
    id: idOf(browser),
    userId: 'ada',
    createdAt: clock.start,
    lastAccessed: clock.start,
    expiresAt: clock.start + 86_400_000
  }
  t.same(list, [{ ...info, data: { userId: 'ada', agent: 'Firefox' } }])
  t.notMatch(JSON.stringify(list), browser.cookies.get('session_id')?.split('.')[0])
})

void t.test(
  'C10: 1,000 anonymous reads and 100 anonymous logouts leave no record, no cookie, no store call',
  async (t) => {
    const store = spyStore()
    const { app } = await setUp(t, { store })
    for (let round = 0; round < 1000; round++) {
      const response = await app.inject(round % 10 === 0 ? '/logout' : '/read')
      if (setCookieOf(response) !== undefined) t.fail('a cookie was set')
    }
    t.same(store.take(), [])
  }
)

void t.test('C11: after the store was emptied, a cookie makes no record by itself', async (t) => {
  const { memory, browser } = await setUp(t)
  await browser.get('/login')
  memory.destroy(idOf(browser))
  const response = await browser.get('/read')
  t.equal(setCookieOf(response), undefined)
  t.equal(memory.size, 0)
})

void t.test('C12: a hook or a diagnostics listener that throws does not keep a session alive', async (t) => {
  const { app, memory, browser } = await setUp(t)
  app.addHook('onSend', async ({ url }) => {
    if (url === '/logout') throw new Error('a hook failed')
  })
  // A subscriber's error is rethrown by Node in a turn of its own.
  const thrown = new Promise((resolve) => process.once('uncaughtException', resolve))
  const listener = () => {
    throw new Error('a listener failed')
  }
  subscribe('fastify-sesame:destroyed', listener)
  t.teardown(() => unsubscribe('fastify-sesame:destroyed', listener))
  await browser.get('/login')
  const { cookie } = browser
  t.equal((await browser.get('/logout')).statusCode, 500)
  t.match(await thrown, { message: 'a listener failed' })
  t.equal(memory.size, 0)
  t.equal(await userOf(app, cookie), null)
})

for (const [name, wrapping] of Object.entries({
  'a store that answers at once': (store: SessionStore) => store,
  'a slow store': slowStore
})) {
  void t.test(
    `C12: nor does an onSend hook in front of the plugin's that throws each time, with ${name}`,
    async (t) => {
      const memory = new MemoryStore()
      const app = Fastify()
      t.teardown(() => app.close())
      app.addHook('onSend', async ({ url }) => {
        if (url !== '/login') throw new Error('a hook failed')
      })
      await app.register(sessions, { secret: SECRET, store: wrapping(memory) })
      addRoutes(app)
      const browser = new Browser(app)
      await browser.get('/login')
      t.equal((await browser.get('/set?name=ada')).statusCode, 500)
      t.same(
        [...Object.keys(memory.listByUser('ada')[0]?.record.data ?? {})],
        ['userId'],
        'nothing else holds'
      )
      const response = await browser.get('/logout')
      t.equal(response.statusCode, 500)
      t.match(setCookieOf(response), /^session_id=; Max-Age=0/)
      t.equal(memory.size, 0)
    }
  )
}

void t.test(
  'an onSend hook in front of the plugin that throws once keeps nothing from being saved',
  async (t) => {
    for (const isCustom of [true, false]) {
      const app = Fastify()
      t.teardown(() => app.close())
      let thrown = 0
      app.addHook('onSend', async ({ url }) => {
        if (url === '/refused' && thrown++ === 0) throw Object.assign(new Error('once'), { statusCode: 400 })
      })
      if (isCustom) app.setErrorHandler((_error, _request, reply) => reply.code(400).send('handled'))
      await app.register(sessions, { secret: SECRET })
      addRoutes(app).get('/refused', async ({ session }) => {
        session.set('name', 'kept')
        if (isCustom) throw Object.assign(new Error('refused'), { statusCode: 400 })
        return 'fine'
      })
      const browser = new Browser(app)
      t.equal((await browser.get('/refused')).statusCode, 400)
      t.same((await browser.get('/read')).json(), { name: 'kept' }, isCustom ? 'custom' : 'its own')
    }
  }
)

void t.test(
  'C13: what is fetched as soon as the login response is there sees the user, 1,000 times',
  async (t) => {
    const { app } = await setUp(t)
    for (let round = 0; round < 1000; round++) {
      const browser = new Browser(app)
      await browser.get('/login')
      const response = await browser.get('/dashboard')
      if (response.statusCode !== 200) t.fail(`round ${round}: ${response.statusCode}`)
    }
    t.pass('each saw the user')
  }
)

void t.test(
  'C14: unread flash does not live for ever, and a failed response does not eat a message',
  async (t) => {
    const clock = stopClock(t)
    const { app, browser } = await setUp(t)
    let fails = true
    app.get('/flash', async ({ session }) => {
      const message = session.getFlash('note')
      if (fails) throw new Error('failed to render')
      return { message: message ?? null }
    })
    app.get('/note', async ({ session }) => {
      session.setFlash('note', 'read me')
      return 'noted'
    })
    await browser.get('/note')
    t.equal((await browser.get('/flash')).statusCode, 500)
    fails = false
    t.same((await browser.get('/flash')).json(), { message: 'read me' })
    t.same((await browser.get('/flash')).json(), { message: null })
    await browser.get('/note')
    clock.move(3_600_000)
    t.same((await browser.get('/flash')).json(), { message: null })
  }
)
