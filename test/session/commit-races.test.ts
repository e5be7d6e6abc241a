import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { MemoryStore, type SessionStore } from '../../plugin/index.js'
import { addRoutes, Browser, makeApp, setCookieOf } from '../fixtures/app.js'
import { slowStore, spyStore, wrap } from '../fixtures/stores.js'

// These tests send requests that overlap in time. The results also depend on guarantees that the store must give. The
// kit in plugin/testing tests those guarantees.

type Wrapping = (store: MemoryStore) => SessionStore

const STORES: Record<string, Wrapping> = {
  'a synchronous store': (store) => store,
  'a slow store': (store) => slowStore(store)
}

/**
 * Creates an app with the route `/wait/:gate/:action`. The handler performs the action on its session and then waits
 * until the test calls `open(gate)`.
 */
async function setUp(t: Test, wrapping: Wrapping) {
  const memory = new MemoryStore()
  const app = addRoutes(await makeApp(t, { store: wrapping(memory) }))
  const gates = new Map<string, () => void>()
  app.get('/all', async ({ session }) =>
    Object.fromEntries(session.keys().map((key) => [key, session.get(key)]))
  )
  app.get('/wait/:gate/:action', async ({ session, params }) => {
    const { gate, action } = params as { gate: string; action: string }
    if (action === 'set') session.set(gate, 'set')
    if (action === 'read') session.get('name')
    if (action === 'rotate') session.regenerate()
    await new Promise<void>((resolve) => gates.set(gate, resolve))
    return session.id
  })
  /** Resolves once the handler has started to wait for `open(gate)`. */
  const arrive = async (gate: string): Promise<void> => {
    while (!gates.has(gate)) await nextTurn()
  }
  const open = async (gate: string): Promise<void> => {
    await arrive(gate)
    gates.get(gate)?.()
  }
  return { app, memory, arrive, open }
}

/** Creates a session with `name: 'ada'` and returns its cookie. */
async function signIn(app: FastifyInstance): Promise<string> {
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  return browser.cookie
}

/**
 * Sends the request immediately. Without the `await`, `inject()` would not send it until the caller awaits the result.
 */
async function send(app: FastifyInstance, cookie: string, url: string) {
  return await app.inject({ url, headers: { cookie } })
}

for (const [name, wrapping] of Object.entries(STORES)) {
  void t.test(`E1: with ${name}, 500 logouts that race against slow writes leave no session`, async (t) => {
    const { app, memory, arrive, open } = await setUp(t, wrapping)
    let lost = 0
    for (let round = 0; round < 500; round++) {
      const cookie = await signIn(app)
      const writer = send(app, cookie, `/wait/${round}/set`)
      await arrive(String(round))
      const logout = send(app, cookie, '/logout')
      // In every second round, the writing request and the logout commit at the same time.
      if (round % 2 === 0) await logout
      await open(String(round))
      const [late] = await Promise.all([writer, logout])
      if (late.statusCode === 409) lost++
      else t.equal(late.statusCode, 200)
      if (late.statusCode === 409) t.equal(setCookieOf(late), undefined)
      if (memory.size > 0) t.fail(`round ${round} left a session`)
    }
    t.equal(memory.size, 0)
    t.ok(lost >= 250, `${lost} writes came after the logout and were refused`)
  })

  void t.test(
    `E2, E10: with ${name}, a read that finishes after a logout writes nothing and sends no cookie`,
    async (t) => {
      const { app, memory, open } = await setUp(t, wrapping)
      const cookie = await signIn(app)
      const reader = send(app, cookie, '/wait/a/read')
      await send(app, cookie, '/logout')
      await open('a')
      const late = await reader
      t.equal(late.statusCode, 200)
      t.equal(setCookieOf(late), undefined)
      t.equal(memory.size, 0)
    }
  )

  void t.test(
    `E3: with ${name}, a rotation that finishes after a logout sends no cookie and creates no session`,
    async (t) => {
      const { app, memory, open } = await setUp(t, wrapping)
      const cookie = await signIn(app)
      const rotation = send(app, cookie, '/wait/a/rotate')
      await send(app, cookie, '/logout')
      await open('a')
      const late = await rotation
      t.equal(late.statusCode, 200)
      t.equal(setCookieOf(late), undefined)
      t.equal(memory.size, 0)
    }
  )

  void t.test(`E4: with ${name}, only one of two concurrent rotations moves the session`, async (t) => {
    const { app, memory, open } = await setUp(t, wrapping)
    const cookie = await signIn(app)
    const rotations = [send(app, cookie, '/wait/a/rotate'), send(app, cookie, '/wait/b/rotate')]
    await Promise.all([open('a'), open('b')])
    const responses = await Promise.all(rotations)
    t.same(
      responses.map(({ statusCode }) => statusCode),
      [200, 200]
    )
    const moved = responses.filter((response) => setCookieOf(response) !== undefined)
    t.equal(moved.length, 1)
    t.equal(memory.size, 1)
    t.ok(memory.get(moved[0]?.body ?? ''), 'the record has the id that the winner returned')
  })

  void t.test(`D4: with ${name}, a login also removes a CSRF secret created during the login`, async (t) => {
    const { app, memory, arrive, open } = await setUp(t, wrapping)
    app.get('/form', async (_request, reply) => reply.generateCsrf())
    const cookie = await signIn(app)
    const rotation = send(app, cookie, '/wait/a/rotate')
    await arrive('a')
    t.match((await send(app, cookie, '/form')).body, /^[\w-]{86}$/)
    await open('a')
    const { data } = memory.get((await rotation).body) ?? {}
    t.same({ ...data }, { name: '"ada"' })
  })

  void t.test(`E5: with ${name}, overlapping changes to different keys are all kept`, async (t) => {
    const { app, open } = await setUp(t, wrapping)
    const cookie = await signIn(app)
    const keys = Array.from({ length: 20 }, (_, index) => `key${index}`)
    const writers = keys.map((key) => send(app, cookie, `/wait/${key}/set`))
    await Promise.all(keys.map(open))
    await Promise.all(writers)
    const all = (await send(app, cookie, '/all')).json<object>()
    t.same(Object.keys(all).sort(), ['name', ...keys].sort())
  })

  void t.test(`E6: with ${name}, if several requests set one key, the last commit wins`, async (t) => {
    const { app } = await setUp(t, wrapping)
    const cookie = await signIn(app)
    const values = ['first', 'second', 'third'].map((value) => send(app, cookie, `/set?name=${value}`))
    await Promise.all(values)
    t.match((await send(app, cookie, '/read')).json(), { name: /^(first|second|third)$/ })
  })

  void t.test(`E7: with ${name}, 1,000 concurrent updates increase a counter by exactly 1,000`, async (t) => {
    const { app } = await setUp(t, wrapping)
    const cookie = await signIn(app)
    const responses = await Promise.all(Array.from({ length: 1000 }, () => send(app, cookie, '/add')))
    t.same([...new Set(responses.map(({ statusCode }) => statusCode))], [200])
    t.match((await send(app, cookie, '/all')).json(), { count: 1000 })
  })

  void t.test(`E10: with ${name}, a response that finishes after a rotation sends no cookie`, async (t) => {
    const { app, memory, arrive, open } = await setUp(t, wrapping)
    const cookie = await signIn(app)
    const writer = send(app, cookie, '/wait/a/set')
    await arrive('a')
    t.match(setCookieOf(await send(app, cookie, '/login')), 'session_id=')
    await open('a')
    t.equal(setCookieOf(await writer), undefined)
    t.equal(memory.size, 1)
  })
}

void t.test('E8: creating a session with an id that already exists is refused with 409', async (t) => {
  const spy = spyStore()
  // `create` returns `false`, as if another process had created a session with the same token.
  const store = wrap(spy, (method, _args, next) => (method === 'create' ? false : next()))
  const app = addRoutes(await makeApp(t, { store }))
  const response = await app.inject('/set?name=ada')
  t.match(response.json(), { statusCode: 409, code: 'SESSION_CONFLICT' })
  t.equal(setCookieOf(response), undefined)
  t.same(spy.take(), [])
})

void t.test('E12: a rotation that is applied but times out is not applied twice', async (t) => {
  const memory = new MemoryStore()
  const late = wrap(memory, (method, _args, next) => {
    const answer = next()
    return method === 'update' ? new Promise(() => undefined) : answer
  })
  const app = addRoutes(await makeApp(t, { store: late, storeTimeout: 20 }))
  const cookie = await signIn(app)
  t.equal((await send(app, cookie, '/login')).statusCode, 503)
  t.equal(memory.size, 1)
  const retried = await send(app, cookie, '/read')
  t.same(retried.json(), { name: null }, 'the old cookie has no session')
  t.equal(memory.size, 1)
})

void t.test('E13: a cleanup that runs during a write removes only expired sessions', async (t) => {
  const { app, memory, open } = await setUp(t, slowStore)
  const cookie = await signIn(app)
  const now = Date.now()
  memory.create('old', {
    version: 1,
    data: {},
    createdAt: 0,
    lastAccessed: 0,
    expiresAt: now + 5,
    userId: null
  })
  const writer = send(app, cookie, '/wait/a/set')
  while (Date.now() < now + 5) await nextTurn()
  const [removed] = await Promise.all([app.sessionManager.cleanup(), open('a')])
  await writer
  t.equal(removed, 1)
  t.match((await send(app, cookie, '/all')).json(), { name: 'ada', a: 'set' })
})

void t.test(
  'a request fails with 409 and writes nothing if other processes keep changing its session',
  async (t) => {
    // The delay before each retry is random. With `Math.random()` fixed at 0, there is no delay.
    t.intercept(Math, 'random', { value: () => 0 })
    const memory = new MemoryStore()
    const contended = wrap(memory, (method, args, next) => {
      const { ifVersion } = (args[1] ?? {}) as { ifVersion?: number }
      return method === 'update' && ifVersion !== undefined ? 'conflict' : next()
    })
    const app = addRoutes(await makeApp(t, { store: contended }))
    const cookie = await signIn(app)
    t.match((await send(app, cookie, '/add')).json(), { statusCode: 409, code: 'SESSION_CONFLICT' })
    t.same((await send(app, cookie, '/read')).json(), { name: 'ada' })
  }
)

void t.test('an update() fails with 409 SESSION_GONE if the session ends before the retry', async (t) => {
  const memory = new MemoryStore()
  const ending = wrap(memory, (method, args, next) => {
    if (method !== 'update') return next()
    memory.destroy(args[0] as string)
    return 'conflict'
  })
  const app = addRoutes(await makeApp(t, { store: ending }))
  const cookie = await signIn(app)
  t.match((await send(app, cookie, '/add')).json(), { statusCode: 409, code: 'SESSION_GONE' })
  t.equal(memory.size, 0)
})

void t.test('a retried update() writes nothing if it does not change the newer value', async (t) => {
  const memory = new MemoryStore()
  const spy = spyStore(memory)
  const app = addRoutes(await makeApp(t, { store: spy }))
  app.get('/upper', async ({ session }) => {
    session.update('name', () => 'ADA')
    const own = memory.get(session.id)
    if (own?.data['name'] === '"ada"') {
      const { lastAccessed, expiresAt } = own
      memory.update(session.id, { set: { name: '"ADA"' }, remove: [], lastAccessed, expiresAt })
    }
    return session.get('name')
  })
  const cookie = await signIn(app)
  spy.take()
  t.equal((await send(app, cookie, '/upper')).body, 'ADA')
  t.same(spy.takeNames(), ['get', 'update', 'get'])
})

void t.test('if the store does not respond to one retry, all waiting retries fail with a 503', async (t) => {
  const memory = new MemoryStore()
  let unanswered = 0
  const store = wrap(memory, async (method, _args, next) => {
    await nextTurn()
    if (unanswered > 0 || (method === 'get' && conflicts > 0)) {
      unanswered++
      return new Promise(() => undefined)
    }
    const answer = next()
    if (answer === 'conflict') conflicts++
    return answer
  })
  let conflicts = 0
  const app = addRoutes(await makeApp(t, { store, storeTimeout: 300 }))
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  const answers = await Promise.all(Array.from({ length: 10 }, () => browser.get('/add')))
  const refused = answers.filter(({ statusCode }) => statusCode === 503)
  t.equal(refused.length, 9, 'all except the first request')
  t.equal(unanswered, 1)
})

void t.test(
  'updates that wait too long behind others get a 503, and none that succeeded is lost',
  async (t) => {
    const memory = new MemoryStore()
    const now = performance.now.bind(performance)
    let shift = 0
    t.intercept(performance, 'now', { value: () => now() + shift })
    // Each call takes 200 ms, by a clock that the calls move.
    const store = wrap(memory, async (_method, _args, next) => {
      await nextTurn()
      shift += 200
      return next()
    })
    const app = addRoutes(await makeApp(t, { store, storeTimeout: 1000 }))
    app.get('/count', async ({ session }) => String(session.get('count')))
    const browser = new Browser(app)
    await browser.get('/set?name=ada')
    const answers = await Promise.all(Array.from({ length: 40 }, () => browser.get('/add')))
    const statuses = answers.map(({ statusCode }) => statusCode)
    const added = statuses.filter((status) => status === 200).length
    t.ok(added >= 2 && added < 40, `${added} updates`)
    t.same(
      statuses.filter((status) => status !== 200),
      Array(40 - added).fill(503)
    )
    t.equal((await browser.get('/count')).body, String(added))
    t.equal((await browser.get('/add')).statusCode, 200, 'the next one succeeds')
  }
)
