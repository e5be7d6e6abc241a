import t, { type Test } from 'tap'
import { MemoryStore, type SessionOptions } from '../plugin/index.js'
import { addRoutes, Browser, makeApp, setCookieOf } from './fixtures/app.js'
import { stopClock } from './fixtures/clock.js'
import { listen } from './fixtures/diagnostics.js'
import { slowStore, spyStore, wrap } from './fixtures/stores.js'

async function setUp(t: Test, options: Partial<SessionOptions>) {
  const memory = new MemoryStore()
  const store = options.store ?? memory
  const app = addRoutes(await makeApp(t, { cleanupInterval: 0, ...options, store }))
  const list = async () => (await app.sessionManager.list('ada')).map(({ id }) => id)
  return { app, memory, list }
}

void t.test('without maxSessionsPerUser a sign-in asks for no list', async (t) => {
  const store = spyStore()
  const { app } = await setUp(t, { store })
  await new Browser(app).get('/login')
  t.same(store.takeNames(), ['create'])
})

void t.test('the session that was written to least recently makes room for a sign-in', async (t) => {
  const clock = stopClock(t)
  const destroyed = listen(t, 'destroyed')
  const { app, list } = await setUp(t, { maxSessionsPerUser: 2 })
  const browsers = [new Browser(app), new Browser(app), new Browser(app)] as const
  for (const browser of browsers.slice(0, 2)) {
    await browser.get('/login')
    clock.move(1000)
  }
  await browsers[0].get('/set?name=again')
  clock.move(1000)
  const response = await browsers[2].get('/login')
  t.equal(response.statusCode, 200)
  t.equal(destroyed.length, 1)
  t.equal((await list()).length, 2)
  const names = await Promise.all(
    browsers.map(async (browser) => (await browser.get('/read')).json<object>())
  )
  t.same(names, [{ name: 'again' }, { name: null }, { name: null }])
  t.equal((await browsers[1].get('/set?name=late')).statusCode, 200, 'the ended one is an anonymous visitor')
})

void t.test("onLimit 'reject' refuses the sign-in with 403, and nobody is signed in or out", async (t) => {
  const { app, memory, list } = await setUp(t, { maxSessionsPerUser: 1, onLimit: 'reject' })
  const [first, second] = [new Browser(app), new Browser(app)]
  await first.get('/login')
  const before = await list()
  const fresh = await second.get('/login')
  t.match(fresh.json(), { statusCode: 403, code: 'SESSION_LIMIT' })
  t.equal(setCookieOf(fresh), undefined)
  await second.get('/set?name=visitor')
  const rotated = await second.get('/login')
  t.equal(rotated.statusCode, 403)
  t.equal(setCookieOf(rotated), undefined)
  t.same((await second.get('/read')).json(), { name: 'visitor' }, 'the visitor keeps what was there')
  t.same(await list(), before)
  t.equal(memory.size, 2)
  await first.get('/logout')
  t.equal((await second.get('/login')).statusCode, 200)
})

void t.test('who signs in again in the same session, or as nobody, is not counted twice', async (t) => {
  const { app, list } = await setUp(t, { maxSessionsPerUser: 1, onLimit: 'reject' })
  app.get('/nobody', async ({ session }) => {
    session.set('userId', null)
    return 'nobody'
  })
  const browser = new Browser(app)
  await browser.get('/login')
  await browser.get('/set?userId=eve')
  t.equal((await browser.get('/login')).statusCode, 200)
  t.equal((await list()).length, 1)
  t.equal((await browser.get('/nobody')).statusCode, 200)
  t.same(await list(), [])
})

for (const onLimit of ['end-oldest', 'reject'] as const) {
  for (const kind of ['new', 'rotated'] as const) {
    void t.test(`n + 1 parallel sign-ins of ${kind} sessions leave n, onLimit '${onLimit}'`, async (t) => {
      for (const most of [1, 3]) {
        const { app, list } = await setUp(t, {
          store: slowStore(),
          maxSessionsPerUser: most,
          onLimit
        })
        const browsers = Array.from({ length: most + 1 }, () => new Browser(app))
        if (kind === 'rotated') for (const browser of browsers) await browser.get('/set?name=visitor')
        const responses = await Promise.all(browsers.map((browser) => browser.get('/login')))
        t.equal((await list()).length, most)
        const refused = responses.filter(({ statusCode }) => statusCode !== 200)
        for (const response of refused) {
          t.match(response.json(), { code: onLimit === 'reject' ? 'SESSION_LIMIT' : 'SESSION_GONE' })
          t.equal(setCookieOf(response), undefined)
        }
      }
    })
  }
}

void t.test('a store that cannot find by user is refused at registration', async (t) => {
  const { get, create, update, destroy } = new MemoryStore()
  const store = { get, create, update, destroy }
  await t.rejects(setUp(t, { store, maxSessionsPerUser: 1 }), {
    code: 'SESSION_OPTION_INVALID',
    option: 'store',
    message: /listByUser/
  })
})

void t.test('a store that fails while it counts is a 503, and no cookie goes out', async (t) => {
  const memory = new MemoryStore()
  const store = wrap(memory, (method, _args, next) => {
    if (method === 'listByUser') throw new Error('away')
    return next()
  })
  const { app } = await setUp(t, { store, maxSessionsPerUser: 1 })
  const response = await new Browser(app).get('/login')
  t.equal(response.statusCode, 503)
  t.equal(setCookieOf(response), undefined)
})
