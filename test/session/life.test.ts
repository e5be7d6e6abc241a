import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { idOfToken } from '../../plugin/cookies/tokens.js'
import sessions, {
  MemoryStore,
  requireAuth,
  type Session,
  type SessionOptions,
  type SessionStore
} from '../../plugin/index.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { slowStore, spyStore, wrap } from '../fixtures/stores.js'
import { lookAt, makeVisits, valuesOf } from '../fixtures/visits.js'

const DAY = 86_400_000

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

void t.test(
  'a new session is marked as new and unmodified, and its creation time is the current time',
  async (t) => {
    const { start } = stopClock(t)
    const { visit } = await makeVisits(t, { idleTimeout: 100 })
    const { result } = await visit(lookAt)
    t.match(result.id, /^[0-9a-f]{64}$/)
    const times = { createdAt: start, lastAccessed: start, expiresAt: start + 100_000 }
    t.match(result, { ...times, isNew: true, modified: false })
  }
)

void t.test('a stored session keeps its id and times, and a rotation gives it a new id', async (t) => {
  const { start, move } = stopClock(t)
  const { visit } = await makeVisits(t)
  const made = await visit((session) => {
    session.set('name', 'ada')
    return lookAt(session)
  })
  t.equal(made.result.modified, true)
  move(5000)
  const later = await visit((session) => ({
    before: lookAt(session),
    after: session.regenerate() ?? lookAt(session)
  }))
  const { before, after } = later.result
  const times = { createdAt: start, lastAccessed: start, expiresAt: start + DAY }
  t.same(before, { ...times, id: made.result.id, isNew: false, modified: false })
  const now = start + 5000
  t.match(after, { ...times, isNew: false, modified: true })
  t.not(after.id, before.id)
  move(1000)
  const last = await visit(lookAt)
  t.match(last.result, { ...times, id: after.id, lastAccessed: now })
})

void t.test(
  'lastAccessed is the time of the last write, and idleTimeout is counted from that time',
  async (t) => {
    const { start, move } = stopClock(t)
    const { visit } = await makeVisits(t, { idleTimeout: 100 })
    await visit((session) => session.set('name', 'ada'))
    move(5000)
    await visit((session) => session.set('name', 'eve'))
    move(1000)
    const { result } = await visit(lookAt)
    t.match(result, { createdAt: start, lastAccessed: start + 5000, expiresAt: start + 105_000 })
  }
)

void t.test(
  'if the stored record expires before maxAge ends, session.expiresAt is the record’s expiry time',
  async (t) => {
    const { start, move } = stopClock(t)
    const { visit, memory } = await makeVisits(t)
    const { result: id } = await visit((session) => session.set('name', 'ada') ?? session.id)
    memory.update(id, { set: {}, remove: [], lastAccessed: start, expiresAt: start + 7000 })
    move(1000)
    t.equal((await visit(lookAt)).result.expiresAt, start + 7000)
  }
)

void t.test(
  'after a change, session.id stays the same until the request ends, and the session is stored under that id',
  async (t) => {
    const { visit, memory } = await makeVisits(t)
    for (const change of [
      (session: Session) => session.set('name', 'ada'),
      (session: Session) => session.regenerate(),
      (session: Session) => session.invalidate() ?? session.set('name', 'eve')
    ]) {
      const { result } = await visit((session) => {
        change(session)
        const first = session.id
        session.set('n', 1)
        return [first, session.id]
      })
      t.equal(result[0], result[1])
      t.ok(memory.get(result[0] ?? ''))
      t.equal((await visit(({ id }) => id)).result, result[0])
    }
  }
)

void t.test('C1: a login changes the id, and the old cookie stops working', async (t) => {
  const { app, memory, browser } = await setUp(t)
  await browser.get('/set?name=ada')
  const [before, cookieBefore] = [idOf(browser), browser.cookie]
  await browser.get('/login')
  t.not(idOf(browser), before)
  t.equal(memory.get(before), undefined)
  t.equal(await userOf(app, cookieBefore), null)
  t.same((await browser.get('/read')).json(), { name: 'ada' }, 'the data is kept')
})

void t.test(
  'C2: a second login or a second factor also changes the id, and restarts idleTimeout and maxAge',
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
  'C3: a session expires at lastAccessed + idleTimeout, even if the store still returns it',
  async (t) => {
    const clock = stopClock(t)
    const memory = new MemoryStore()
    const store = wrap(memory, (method, args, next) =>
      method === 'create'
        ? memory.create(args[0] as string, { ...(args[1] as object), expiresAt: 8e15 } as never)
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
  'C3: not every read extends a session, so it can end up to a tenth of idleTimeout early, but never late',
  async (t) => {
    const clock = stopClock(t)
    const { app, browser } = await setUp(t, { idleTimeout: 100 })
    await browser.get('/login')
    clock.move(9_999)
    t.equal(await userOf(app, browser.cookie), 'ada', 'used too early for a touch')
    clock.move(90_000)
    t.equal(await userOf(app, browser.cookie), 'ada', 'live 90 s after its last use')
    clock.move(100_000)
    t.equal(await userOf(app, browser.cookie), null, 'ended 100 s after its last use')
  }
)

void t.test('C4: a session that is used every second still ends at createdAt + maxAge', async (t) => {
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

void t.test(
  'C4: shortening maxAge also ends existing sessions that are older than the new maxAge',
  async (t) => {
    const clock = stopClock(t)
    const { app, memory, browser } = await setUp(t, { maxAge: 1000 })
    await browser.get('/login')
    const shorter = await setUp(t, { store: memory, maxAge: 10 })
    clock.move(10_000)
    t.equal(await userOf(app, browser.cookie), 'ada')
    t.equal(await userOf(shorter.app, browser.cookie), null)
  }
)

void t.test(
  'C5: after a logout the old cookie does not work, and the store has no record of the session',
  async (t) => {
    const { app, memory, browser } = await setUp(t)
    await browser.get('/login')
    const { cookie } = browser
    await browser.get('/logout')
    t.equal(browser.cookie, '', 'the browser was told to delete the cookie')
    t.equal(memory.size, 0)
    const replayed = await app.inject({ url: '/dashboard', headers: { cookie, accept: 'text/html' } })
    t.equal(replayed.headers.location, '/login')
  }
)

void t.test('C6: expired data cannot be read in any way', async (t) => {
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

/**
 * Sequences of method calls on a session. `calls` lists the store calls that the request must make. `lives` is true if
 * a session must exist afterwards.
 */
const ENDS: Record<string, { work: (session: Session) => unknown; calls: string[]; lives: boolean }> = {
  'regenerate twice': {
    work: (session) => session.regenerate() ?? session.regenerate(),
    calls: ['get', 'update'],
    lives: true
  },
  'regenerate, then invalidate': {
    work: (session) => session.regenerate() ?? session.invalidate(),
    calls: ['get', 'destroy'],
    lives: false
  },
  'invalidate, then regenerate': {
    work: (session) => session.invalidate() ?? session.regenerate(),
    calls: ['get', 'destroy'],
    lives: false
  },
  'invalidate twice': {
    work: (session) => session.invalidate() ?? session.set('x', 1) ?? session.invalidate(),
    calls: ['get', 'destroy'],
    lives: false
  },
  'change, then invalidate': {
    work: (session) => session.set('name', 'eve') ?? session.invalidate(),
    calls: ['get', 'destroy'],
    lives: false
  }
}

for (const [name, { work, calls, lives }] of Object.entries(ENDS)) {
  void t.test(
    `a request with the operations “${name}” makes only the store calls ${calls.join(' and ')}`,
    async (t) => {
      const { visit, memory, browser } = await makeVisits(t)
      const { result: before } = await visit((session) => session.set('name', 'ada') ?? session.id)
      const old = browser.cookie
      const ended = await visit((session) => {
        const ids = [session.id]
        work(session)
        ids.push(session.id)
        t.equal(session.modified, true)
        t.equal(session.isNew, !lives)
        t.same(session.keys(), lives ? ['name'] : [])
        return ids
      })
      t.same(ended.calls, calls)
      t.not(ended.result[0], ended.result[1])
      t.equal(memory.get(before), undefined)
      t.equal(memory.size, lives ? 1 : 0)
      t.equal(browser.cookies.size, lives ? 1 : 0)
      t.equal(memory.get(ended.result[1] as string) !== undefined, lives)
      browser.cookies.set('session_id', old.slice('session_id='.length))
      t.same((await visit(valuesOf)).result, {}, 'the old cookie has no session')
    }
  )
}

void t.test('regenerate() and invalidate() write nothing for a visitor without a session', async (t) => {
  const { visit } = await makeVisits(t)
  for (const name of ['regenerate', 'invalidate'] as const) {
    const { calls, result, response } = await visit((session) => {
      const before = session.id
      session[name]()
      return [session.modified, session.id !== before]
    })
    t.same(calls, [])
    t.same(result, [false, true])
    t.equal(setCookieOf(response), undefined)
  }
})

void t.test('regenerate(), clear() and invalidate() remove the CSRF secret', async (t) => {
  const { visit, memory } = await makeVisits(t)
  for (const change of ['regenerate', 'clear', 'invalidate'] as const) {
    await visit((session, _request, reply) => {
      session.set('name', 'ada')
      reply.generateCsrf()
    })
    const { result: id } = await visit((session) => session[change]() ?? session.set('n', 1) ?? session.id)
    t.notOk('$csrf' in (memory.get(id)?.data ?? { $csrf: 'no record' }), change)
  }
})

void t.test(
  'C7: revokeAll() ends every session of the user, even one in use by a request, and empties the user index',
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

void t.test('C7: revokeAll() does not end the session that is given in the except option', async (t) => {
  const { app } = await setUp(t)
  const [mine, other] = [new Browser(app), new Browser(app)]
  await mine.get('/login')
  await other.get('/login')
  t.equal(await app.sessionManager.revokeAll('ada', { except: idOf(mine) }), 1)
  t.equal(await userOf(app, mine.cookie), 'ada')
  t.equal(await userOf(app, other.cookie), null)
})

void t.test(
  'C9: list() shows ids and times, on request the application’s data too, but no tokens and no internal keys',
  async (t) => {
    const clock = stopClock(t)
    const { app, browser } = await setUp(t)
    app.get('/form', async (_request, reply) => reply.generateCsrf())
    await browser.get('/login')
    await browser.get('/form')
    await browser.get('/set?agent=Firefox')
    const list = await app.sessionManager.list('ada', { data: true })
    const info = {
      id: idOf(browser),
      userId: 'ada',
      createdAt: clock.start,
      lastAccessed: clock.start,
      expiresAt: clock.start + 86_400_000
    }
    t.same(list, [{ ...info, data: { userId: 'ada', agent: 'Firefox' } }])
    t.same(await app.sessionManager.list('ada'), [info])
    t.notMatch(JSON.stringify(list), browser.cookies.get('session_id')?.split('.')[0])
  }
)

void t.test(
  'C10: 1,000 anonymous requests, including 100 logouts, set no cookie and make no store call',
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

void t.test(
  'C11: after the store has been emptied, a request with an old cookie does not create a record',
  async (t) => {
    const { memory, browser } = await setUp(t)
    await browser.get('/login')
    memory.destroy(idOf(browser))
    const response = await browser.get('/read')
    t.equal(setCookieOf(response), undefined)
    t.equal(memory.size, 0)
  }
)

void t.test('C12: a logout ends the session even if a hook and a diagnostics listener throw', async (t) => {
  const { app, memory, browser } = await setUp(t)
  app.addHook('onSend', async ({ url }) => {
    if (url === '/logout') throw new Error('a hook failed')
  })
  // If a diagnostics subscriber throws, Node rethrows the error later as an uncaught exception.
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
  'a store that responds immediately': (store: SessionStore) => store,
  'a slow store': slowStore
})) {
  void t.test(
    `C12: with ${name}, a logout ends the session even if an onSend hook registered before the plugin always throws`,
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
        'no other change is saved'
      )
      const response = await browser.get('/logout')
      t.equal(response.statusCode, 500)
      t.match(setCookieOf(response), /^session_id=; Max-Age=0/)
      t.equal(memory.size, 0)
    }
  )
}

void t.test('a session is saved even if an earlier onSend hook throws once', async (t) => {
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
    t.same((await browser.get('/read')).json(), { name: 'kept' }, isCustom ? 'custom' : 'default')
  }
})

void t.test(
  'C13: in 1,000 rounds, a request right after the login response always sees the signed-in user',
  async (t) => {
    const { app } = await setUp(t)
    for (let round = 0; round < 1000; round++) {
      const browser = new Browser(app)
      await browser.get('/login')
      const response = await browser.get('/dashboard')
      if (response.statusCode !== 200) t.fail(`round ${round}: ${response.statusCode}`)
    }
    t.pass('every request saw the user')
  }
)

void t.test('a write by a server whose clock is behind does not shorten the life of a session', async (t) => {
  const { start } = stopClock(t)
  const now = Date.now.bind(Date)
  let skew = 0
  t.intercept(Date, 'now', { value: () => now() + skew })
  const { visit } = await makeVisits(t, { idleTimeout: 900 })
  await visit((session) => session.login('ada'))
  skew = -960_000
  await visit((session) => session.set('name', 'Ada'))
  skew = 0
  const { result } = await visit((session) => ({ ...valuesOf(session), ...lookAt(session) }))
  t.match(result, { userId: 'ada', name: 'Ada', lastAccessed: start, expiresAt: start + 900_000 })
})
