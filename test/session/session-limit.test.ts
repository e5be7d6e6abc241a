import t, { type Test } from 'tap'
import { MemoryStore, type SessionOptions } from '../../plugin/index.js'
import { addRoutes, Browser, makeApp, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { listen } from '../fixtures/diagnostics.js'
import { slowStore, spyStore, wrap } from '../fixtures/stores.js'

async function setUp(t: Test, options: Partial<SessionOptions>) {
  const memory = new MemoryStore()
  const store = options.store ?? memory
  const app = addRoutes(await makeApp(t, { cleanupInterval: 0, ...options, store }))
  const list = async () => (await app.sessionManager.list('ada')).map(({ id }) => id)
  return { app, memory, list }
}

void t.test('without maxSessionsPerUser, a sign-in does not list the user’s sessions', async (t) => {
  const store = spyStore()
  const { app } = await setUp(t, { store })
  await new Browser(app).get('/login')
  t.same(store.takeNames(), ['create'])
})

void t.test('a sign-in beyond the limit ends the least recently written session', async (t) => {
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
  t.equal(
    (await browsers[1].get('/set?name=late')).statusCode,
    200,
    'the browser of the ended session is a visitor'
  )
})

void t.test(
  "onLimit 'reject' refuses a sign-in beyond the limit with a 403, and existing sessions stay signed in",
  async (t) => {
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
    t.same((await second.get('/read')).json(), { name: 'visitor' }, 'the visitor keeps the data')
    t.same(await list(), before)
    t.equal(memory.size, 2)
    await first.get('/logout')
    t.equal((await second.get('/login')).statusCode, 200)
  }
)

void t.test(
  'signing in again does not count a session twice, and a session without a user is not counted',
  async (t) => {
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
  }
)

for (const onLimit of ['end-oldest', 'reject'] as const) {
  for (const kind of ['new', 'rotated'] as const) {
    void t.test(
      `onLimit '${onLimit}': after more parallel sign-ins than the limit allows, the limit holds for ${kind} sessions`,
      async (t) => {
        for (const limit of [1, 3]) {
          const { app, list } = await setUp(t, {
            store: slowStore(),
            maxSessionsPerUser: limit,
            onLimit
          })
          const browsers = Array.from({ length: limit + 1 }, () => new Browser(app))
          if (kind === 'rotated') for (const browser of browsers) await browser.get('/set?name=visitor')
          const responses = await Promise.all(browsers.map((browser) => browser.get('/login')))
          t.equal((await list()).length, limit)
          const refused = responses.filter(({ statusCode }) => statusCode !== 200)
          for (const response of refused) {
            t.match(response.json(), { code: onLimit === 'reject' ? 'SESSION_LIMIT' : 'SESSION_GONE' })
            t.equal(setCookieOf(response), undefined)
          }
        }
      }
    )
  }
}

void t.test(
  'registration refuses maxSessionsPerUser with a store that cannot find sessions by user',
  async (t) => {
    const { get, create, update, destroy } = new MemoryStore()
    const store = { get, create, update, destroy }
    await t.rejects(setUp(t, { store, maxSessionsPerUser: 1 }), {
      code: 'SESSION_OPTION_INVALID',
      option: 'store',
      message: /listByUser/
    })
  }
)

void t.test('a store failure while counting sessions causes a 503 without a cookie', async (t) => {
  const memory = new MemoryStore()
  const store = wrap(memory, (method, _args, next) => {
    if (method === 'listByUser') throw new Error('connection lost')
    return next()
  })
  const { app } = await setUp(t, { store, maxSessionsPerUser: 1 })
  const response = await new Browser(app).get('/login')
  t.equal(response.statusCode, 503)
  t.equal(setCookieOf(response), undefined)
})

void t.test(
  'if the sessions cannot be counted after a sign-in has been written, the new session is removed',
  async (t) => {
    for (const later of ['listByUser', 'destroy']) {
      let counts = 0
      const memory = new MemoryStore()
      const store = wrap(memory, (method, _args, next) => {
        if (method === 'listByUser' && ++counts === 2) throw new Error('connection lost')
        if (method === later && counts === 2) throw new Error('connection still lost')
        return next()
      })
      const { app } = await setUp(t, { store, maxSessionsPerUser: 1, onLimit: 'reject' })
      const response = await new Browser(app).get('/login')
      t.equal(response.statusCode, 503)
      t.equal(setCookieOf(response), undefined)
      t.equal(memory.size, later === 'destroy' ? 1 : 0)
      if (later === 'listByUser') t.equal((await new Browser(app).get('/login')).statusCode, 200)
    }
  }
)

void t.test(
  "with onLimit 'reject', a session that changes during other sign-ins stays signed in",
  async (t) => {
    const clock = stopClock(t)
    const memory = new MemoryStore()
    let others: (() => Promise<unknown>) | undefined
    const store = wrap(memory, async (method, _args, next) => {
      const answer = await next()
      // After the second sign-in has counted the sessions and before it writes to the store, a third browser signs in
      // and the first session changes.
      const work = others
      others = undefined
      if (method === 'listByUser') await work?.()
      return answer
    })
    const { app, list } = await setUp(t, { store, maxSessionsPerUser: 2, onLimit: 'reject' })
    const [first, second, third] = [new Browser(app), new Browser(app), new Browser(app)]
    await first.get('/login')
    clock.move(1000)
    others = async () => {
      t.equal((await third.get('/login')).statusCode, 200)
      clock.move(1000)
      await first.get('/set?name=busy')
    }
    await second.get('/login')
    t.same((await first.get('/read')).json(), { name: 'busy' })
    t.equal((await list()).length, 2)
  }
)

void t.test('a sign-in that is retried after a conflict counts the user’s sessions again', async (t) => {
  let conflicts = 1
  const memory = new MemoryStore()
  const store = wrap(memory, (method, _args, next) =>
    method === 'update' && conflicts-- > 0 ? 'conflict' : next()
  )
  const { app, list } = await setUp(t, { store, maxSessionsPerUser: 1, onLimit: 'reject' })
  app.get('/count-in', async ({ session }) => {
    session.update('visits', (visits) => Number(visits ?? 0) + 1)
    session.set('userId', 'ada')
    return 'in'
  })
  const [first, second] = [new Browser(app), new Browser(app)]
  conflicts = 0
  await second.get('/set?name=visitor')
  await first.get('/set?name=visitor')
  t.equal((await second.get('/count-in')).statusCode, 200)
  const before = await list()
  conflicts = 1
  const spied: string[] = []
  const find = memory.listByUser.bind(memory)
  memory.listByUser = (userId) => {
    spied.push(userId)
    return spied.length === 1 ? [] : find(userId)
  }
  t.equal((await first.get('/count-in')).statusCode, 403)
  memory.listByUser = find
  t.same(await list(), before)
  t.match(memory.listByUser('ada'), { length: 1 })
  t.same((await first.get('/read')).json(), { name: 'visitor' }, 'the visitor keeps the data')
})

void t.test(
  "with onLimit 'reject', a session that has ended because maxAge was shortened does not count",
  async (t) => {
    const clock = stopClock(t)
    const memory = new MemoryStore()
    const before = await setUp(t, { store: memory, maxAge: 1000 })
    await new Browser(before.app).get('/login')
    const { app, list } = await setUp(t, {
      store: memory,
      maxAge: 60,
      maxSessionsPerUser: 1,
      onLimit: 'reject'
    })
    t.equal((await new Browser(app).get('/login')).statusCode, 403)
    clock.move(61_000)
    t.same(await list(), [])
    t.equal((await new Browser(app).get('/login')).statusCode, 200)
  }
)
