import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import {
  MemoryStore,
  type SessionOptions,
  type SessionRecord,
  type SessionStore
} from '../../plugin/index.js'
import { addRoutes, Browser, cookiesIn, makeApp, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { counted } from '../fixtures/counts.js'
import { listen } from '../fixtures/diagnostics.js'
import { makeRecord, slowStore, spyStore, wrap } from '../fixtures/stores.js'

const STORES: Record<string, (store: MemoryStore) => SessionStore> = {
  'the memory store': (store) => store,
  'a slow store': (store) => slowStore(store)
}
const LIMITS = ['end-oldest', 'reject'] as const

async function setUp(t: Test, options: Partial<SessionOptions>) {
  const memory = new MemoryStore()
  const store = options.store ?? memory
  const app = await serve(t, { ...options, store })
  const list = async () => (await app.sessionManager.list('ada')).map(({ id }) => id)
  return { app, memory, list }
}

/** Starts a server. Several servers of one test can share a store. */
async function serve(
  t: Test,
  options: Partial<SessionOptions>,
  arrive: () => Promise<void> = async () => undefined
): Promise<FastifyInstance> {
  const app = addRoutes(await makeApp(t, { cleanupInterval: 0, ...options }))
  app.get('/together', async ({ session }) => {
    await arrive()
    session.login('ada')
    return 'in'
  })
  app.get('/who', async ({ session }) => ({ user: session.get('userId') ?? null }))
  app.get('/login-as/:user', async ({ session, params }) => {
    session.login((params as { user: string }).user)
    return session.createdAt
  })
  app.get('/again/:end', async ({ session, params }) => {
    const { end } = params as { end: 'invalidate' | 'remove' }
    if (end === 'invalidate') session.invalidate()
    else session.remove('userId')
    session.login('ada')
    return 'in'
  })
  app.get('/rotate', async ({ session }) => {
    session.regenerate()
    return 'rotated'
  })
  return app
}

const idOf = (browser: Browser): string => idOfCookie(`session_id=${browser.cookies.get('session_id')}`)
const isIn = async (browser: Browser): Promise<boolean> =>
  (await browser.get('/who')).json<{ user: unknown }>().user === 'ada'

/** Returns a function that resolves once it has been called `count` times. */
function barrier(count: number): () => Promise<void> {
  let left = count
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => (open = resolve))
  return () => {
    if (--left === 0) open()
    return opened
  }
}

async function signIn(app: FastifyInstance): Promise<Browser> {
  const browser = new Browser(app)
  const { statusCode } = await browser.get('/login')
  if (statusCode !== 200) throw new Error(`the sign-in was refused: ${statusCode}`)
  return browser
}

/** Runs `work` while the clock of the process is `skew` ms ahead. */
async function atClock<T>(skew: number, work: () => Promise<T>): Promise<T> {
  const { now } = Date
  Date.now = () => now() + skew
  try {
    return await work()
  } finally {
    Date.now = now
  }
}

void t.test('without maxSessionsPerUser, a sign-in does not list the user’s sessions', async (t) => {
  const store = spyStore()
  const { app } = await setUp(t, { store })
  await new Browser(app).get('/login')
  t.same(store.takeNames(), ['create'])
})

void t.test('a sign-in beyond the limit ends the oldest login, whatever it has written since', async (t) => {
  const clock = stopClock(t)
  const destroyed = listen(t, 'destroyed')
  const { app, list } = await setUp(t, { maxSessionsPerUser: 2 })
  const [first, second] = [await signIn(app), (clock.move(1000), await signIn(app))]
  clock.move(1000)
  await first.get('/set?name=again')
  await first.get('/rotate')
  const ended = idOf(first)
  clock.move(1000)
  const third = await signIn(app)
  t.match(destroyed, [{ id: ended, reason: 'limit' }])
  t.same([await isIn(first), await isIn(second), await isIn(third)], [false, true, true])
  t.equal((await list()).length, 2)
  t.equal((await first.get('/set?name=late')).statusCode, 200, 'its browser is a visitor')
})

void t.test('the order is that of the logins, not of the sessions', async (t) => {
  const clock = stopClock(t)
  const { app } = await setUp(t, { maxSessionsPerUser: 2 })
  const [early, late, again] = [new Browser(app), new Browser(app), new Browser(app)]
  const steps: [Browser, string][] = [
    [early, '/set?name=anonymous'],
    [again, '/login'],
    [late, '/login'],
    // A new login of the session that has signed in first makes it the newest.
    [again, '/login'],
    [early, '/login']
  ]
  for (const [browser, url] of steps) {
    clock.move(1000)
    t.equal((await browser.get(url)).statusCode, 200, url)
  }
  t.same([await isIn(early), await isIn(late), await isIn(again)], [true, false, true])
})

void t.test('the order of logins at the same time goes by id, not by the order in the store', async (t) => {
  stopClock(t)
  const ends: string[][] = []
  for (const order of [
    ['a', 'b', 'c'],
    ['c', 'a', 'b']
  ]) {
    const { app, memory } = await setUp(t, { maxSessionsPerUser: 3 })
    for (const digit of order) memory.create(digit.repeat(64), makeRecord({ userId: 'ada' }))
    await signIn(app)
    ends.push(['a', 'b', 'c'].filter((digit) => memory.get(digit.repeat(64)) === undefined))
  }
  t.same([ends[0]?.length, ends[0]], [1, ends[1]])
})

for (const [kind, store] of Object.entries(STORES)) {
  void t.test(`F8: while old sessions write in a loop, 40 new sign-ins all live (${kind})`, async (t) => {
    const memory = new MemoryStore()
    const { app, list } = await setUp(t, { store: store(memory), maxSessionsPerUser: 3 })
    const browsers = [await signIn(app), await signIn(app), await signIn(app)]
    const done = new AbortController()
    const writers = browsers.map(async (browser) => {
      for (let count = 0; !done.signal.aborted; count++) await browser.get(`/set?count=${count}`)
    })
    for (let count = 0; count < 40; count++) {
      const browser = await signIn(app)
      browsers.push(browser)
      t.ok(await isIn(browser), `sign-in ${count}`)
      t.ok((await list()).length <= 3)
      writers.push(
        (async () => {
          for (let turn = 0; turn < 20 && !done.signal.aborted; turn++)
            await browser.get(`/set?count=${turn}`)
        })()
      )
    }
    done.abort()
    await Promise.all(writers)
    t.same((await list()).sort(), browsers.slice(-3).map(idOf).sort(), 'the last three logins live')
  })

  for (const skew of [3000, -3000]) {
    void t.test(
      `F8: a server whose clock is off by ${skew} ms ends the oldest login too (${kind})`,
      async (t) => {
        const clock = stopClock(t)
        const memory = new MemoryStore()
        const shared = { store: store(memory), maxSessionsPerUser: 2 }
        const servers = [await serve(t, shared), await serve(t, shared)] as const
        const browsers: Browser[] = []
        for (const server of [0, 0, 1, 1, 0, 1, 0, 0] as const) {
          clock.move(100)
          const browser = await atClock(server * skew, () => signIn(servers[server]))
          browsers.push(browser)
          const live = memory.listByUser('ada')
          const expected = browsers.slice(-2).map(idOf)
          t.same(live.map(({ id }) => id).sort(), [...expected].sort(), `sign-in ${browsers.length}`)
          const newest = Math.max(...live.map(({ record }) => record.createdAt))
          const sameTime = live.filter(({ record }) => record.createdAt === newest)
          t.same(
            sameTime.map(({ id }) => id),
            [idOf(browser)],
            'a login’s createdAt is later than that of the user’s other sessions'
          )
        }
      }
    )
  }

  for (const onLimit of LIMITS) {
    void t.test(
      `F8: of 40 parallel sign-ins, each that is answered 200 lives (${onLimit}, ${kind})`,
      async (t) => {
        for (const [max, before] of [
          [1, 0],
          [5, 0],
          [5, 2],
          [5, 5]
        ] as const) {
          const memory = new MemoryStore()
          const shared = { store: store(memory), maxSessionsPerUser: max, onLimit }
          const arrive = barrier(40)
          const servers = [await serve(t, shared, arrive), await serve(t, shared, arrive)] as const
          const old: Browser[] = []
          for (let count = 0; count < before; count++) old.push(await signIn(servers[0]))
          const browsers = Array.from(
            { length: 40 },
            (_, index) => new Browser(servers[index % 2 === 0 ? 0 : 1])
          )
          const answers = await Promise.all(browsers.map((browser) => browser.get('/together')))
          const successful = browsers.filter((_, index) => answers[index]?.statusCode === 200)
          const code = onLimit === 'reject' ? 'SESSION_LIMIT' : 'SESSION_GONE'
          for (const answer of answers.filter(({ statusCode }) => statusCode !== 200))
            t.match([answer.json(), cookiesIn(answer)], [{ code }, { length: 0 }])
          for (const browser of successful) t.ok(await isIn(browser), 'answered 200')
          const live = memory.listByUser('ada').map(({ id }) => id)
          t.ok(live.length <= max, `at most ${max} live`)
          const name = `max ${max}, ${before} before: ${counted(answers.map(({ statusCode }) => statusCode))}`
          if (onLimit === 'reject') {
            t.equal(successful.length, max - before, name)
            for (const browser of old) t.ok(await isIn(browser), 'only the newcomer ever goes')
          } else t.ok(successful.length >= 1, name)
          t.equal(memory.size, live.length, 'no lock and no dead session stays')
        }
      }
    )

    void t.test(`F8: a refused sign-in leaves the browser’s own session (${onLimit}, ${kind})`, async (t) => {
      for (const before of ['nobody', 'anonymous', 'another user']) {
        const memory = new MemoryStore()
        const options = { store: store(memory), maxSessionsPerUser: 1, onLimit }
        const app = await serve(t, options, barrier(6))
        const browsers = Array.from({ length: 6 }, () => new Browser(app))
        for (const [index, browser] of browsers.entries()) {
          if (before === 'another user') await browser.get(`/login-as/eve${index}`)
          if (before !== 'nobody') await browser.get('/set?name=own')
        }
        const cookies = browsers.map(({ cookie }) => cookie)
        const answers = await Promise.all(browsers.map((browser) => browser.get('/together')))
        t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 1, before)
        for (const [index, browser] of browsers.entries()) {
          if (answers[index]?.statusCode === 200) continue
          t.equal(browser.cookie, cookies[index])
          if (before === 'nobody') continue
          t.same((await browser.get('/read')).json(), { name: 'own' })
          t.same((await browser.get('/who')).json(), { user: before === 'anonymous' ? null : `eve${index}` })
        }
        t.equal(memory.listByUser('ada').length, 1)
        t.equal(memory.size, before === 'nobody' ? 1 : 6)
      }
    })
  }

  void t.test(
    `onLimit 'reject' refuses a sign-in beyond the limit with a 403, and existing sessions stay signed in (${kind})`,
    async (t) => {
      const { app, list } = await setUp(t, {
        store: store(new MemoryStore()),
        maxSessionsPerUser: 1,
        onLimit: 'reject'
      })
      const [first, second] = [await signIn(app), new Browser(app)]
      const before = await list()
      for (const url of ['/login', '/set?name=visitor', '/login', '/login-as/ada', '/set?userId=ada']) {
        const response = await second.get(url)
        if (url === '/set?name=visitor') continue
        t.match(response.json(), { statusCode: 403, code: 'SESSION_LIMIT' }, url)
        t.equal(setCookieOf(response), undefined)
      }
      t.same((await second.get('/read')).json(), { name: 'visitor' }, 'the visitor keeps the data')
      t.same(await list(), before)
      await first.get('/logout')
      t.equal((await second.get('/login')).statusCode, 200)
    }
  )

  void t.test(
    `the lock of a user’s sign-ins is a record that expires, and is gone afterwards (${kind})`,
    async (t) => {
      const clock = stopClock(t)
      const memory = new MemoryStore()
      const spy = spyStore(store(memory))
      const { app, list } = await setUp(t, { store: spy, maxSessionsPerUser: 2, storeTimeout: 5000 })
      await signIn(app)
      const ids = await list()
      const locks = spy.take().filter(([method, id]) => method === 'create' && !ids.includes(id as string))
      for (const [, id, record] of locks) {
        const times = { createdAt: clock.start, expiresAt: clock.start + 3_600_000 }
        t.match(record, { userId: null, data: {}, ...times })
        t.match(id, /^[0-9a-f]{64}$/)
        t.equal(memory.get(id as string), undefined)
      }
      t.equal(locks.length, 1)
      t.equal(memory.size, 1)
      t.notMatch(JSON.stringify(locks), 'ada', 'it does not tell the user’s name')
    }
  )
}

void t.test('a lock that a crashed process has left holds a sign-in up until it expires', async (t) => {
  const memory = new MemoryStore()
  const spy = spyStore(slowStore(memory))
  const { app, list } = await setUp(t, { store: spy, maxSessionsPerUser: 2, storeTimeout: 200 })
  await signIn(app)
  const ids = await list()
  const lock = spy.take().find(([method, id]) => method === 'create' && !ids.includes(id as string))
  const expiresAt = Date.now() + 150
  t.ok(memory.create(lock?.[1] as string, makeRecord({ expiresAt })))
  const second = await signIn(app)
  t.ok(Date.now() >= expiresAt)
  t.same([await isIn(second), memory.size], [true, 2])
})

void t.test('a lock that a crashed process has left is taken over, whatever its clock says', async (t) => {
  const memory = new MemoryStore()
  const spy = spyStore(slowStore(memory))
  const options = { store: spy, maxSessionsPerUser: 5, storeTimeout: 100 }
  const { app, list } = await setUp(t, options)
  await signIn(app)
  const ids = await list()
  const lock = spy.take().find(([method, id]) => method === 'create' && !ids.includes(id as string))
  t.ok(memory.create(lock?.[1] as string, makeRecord({ expiresAt: Date.now() + 9e6, version: 7 })))
  const began = performance.now()
  const others = await Promise.all([signIn(app), signIn(await serve(t, options))])
  t.ok(performance.now() - began >= 300, 'the holder could still write until then')
  for (const browser of others) t.ok(await isIn(browser))
  t.equal(memory.size, 3)
})

void t.test('a sign-in succeeds although the store cannot give its lock back', async (t) => {
  const memory = new MemoryStore()
  const store = wrap(memory, (method, args, next) => {
    if (method === 'destroy' && memory.get(args[0] as string)?.userId === null) throw new Error('down')
    return next()
  })
  const { app, list } = await setUp(t, { store, maxSessionsPerUser: 5, storeTimeout: 50 })
  const browsers = [await signIn(app), await signIn(app)]
  for (const browser of browsers) t.ok(await isIn(browser))
  t.equal((await list()).length, 2, 'the second sign-in has taken the lock over')
})

void t.test('a sign-in that never gets the lock is refused', async (t) => {
  const memory = new MemoryStore()
  const store = wrap(memory, (method, args, next) => {
    const isLock = method === 'create' && (args[1] as SessionRecord).userId === null
    return isLock ? false : next()
  })
  const { app } = await setUp(t, { store, maxSessionsPerUser: 5, storeTimeout: 50 })
  const { statusCode } = await new Browser(app).get('/login')
  t.same([statusCode, memory.size], [409, 0])
})

void t.test(
  'a sign-in that took too long leaves the lock, because another one may hold it now',
  async (t) => {
    const memory = new MemoryStore()
    const now = performance.now.bind(performance)
    let late = 0
    t.intercept(performance, 'now', { value: () => now() + late, configurable: true, writable: true })
    const store = wrap(memory, (method, args, next) => {
      if (method === 'create' && (args[1] as SessionRecord).userId !== null) late = 15_000
      return next()
    })
    const { app, list } = await setUp(t, { store, maxSessionsPerUser: 5, storeTimeout: 5000 })
    t.ok(await isIn(await signIn(app)))
    t.same([(await list()).length, memory.size], [1, 2])
  }
)

void t.test('the sign-ins of one user do not hold up those of another', async (t) => {
  const memory = new MemoryStore()
  const { app } = await setUp(t, { store: slowStore(memory), maxSessionsPerUser: 5, onLimit: 'reject' })
  const users = Array.from({ length: 40 }, (_, index) => `user${index % 8}`)
  const answers = await Promise.all(users.map((user) => new Browser(app).get(`/login-as/${user}`)))
  t.equal(counted(answers.map(({ statusCode }) => statusCode)), '{"200":40}')
  t.equal(memory.size, 40)
})

void t.test('a session does not count twice, and one without a user does not count', async (t) => {
  const { app, list } = await setUp(t, { maxSessionsPerUser: 1, onLimit: 'reject' })
  const browser = new Browser(app)
  await browser.get('/login')
  await browser.get('/set?userId=eve')
  for (const url of ['/login', '/login', '/rotate', '/login-as/ada', '/set?name=ada'])
    t.equal((await browser.get(url)).statusCode, 200, url)
  t.equal((await list()).length, 1)
  t.equal((await browser.get('/logout')).statusCode, 200)
  t.same(await list(), [])
  for (let count = 0; count < 3; count++) await new Browser(app).get('/set?name=visitor')
  t.ok(await isIn(await signIn(app)))
})

void t.test('a login in a session that the user has already ends no other session', async (t) => {
  const destroyed = listen(t, 'destroyed')
  const { app, list } = await setUp(t, { maxSessionsPerUser: 2 })
  const [first, second] = [await signIn(app), await signIn(app)]
  for (const url of ['/login', '/login-as/ada', '/login']) {
    await second.get(url)
    t.same([await isIn(first), await isIn(second), (await list()).length], [true, true, 2], url)
  }
  t.same(destroyed, [])
})

for (const onLimit of LIMITS) {
  for (const end of ['invalidate', 'remove'] as const) {
    void t.test(`a login after ${end}() in the same request keeps to the limit (${onLimit})`, async (t) => {
      const memory = new MemoryStore()
      const { app, list } = await setUp(t, { store: memory, maxSessionsPerUser: 1, onLimit })
      const [browser, other] = [new Browser(app), new Browser(app)]
      const before = ['/login', '/login-as/eve', '/set?name=anonymous']
      for (const url of end === 'remove' ? before.slice(0, 2) : before) {
        for (const { id } of await app.sessionManager.list('ada')) memory.destroy(id)
        await browser.get(url)
        const { statusCode } = await browser.get(`/again/${end}`)
        t.same([statusCode, await isIn(browser), (await list()).length], [200, true, 1], url)
      }
      await other.get('/login-as/eve')
      const { statusCode } = await other.get(`/again/${end}`)
      t.equal(statusCode, onLimit === 'reject' ? 403 : 200)
      t.same([await isIn(browser), await isIn(other)], onLimit === 'reject' ? [true, false] : [false, true])
    })
  }
}

void t.test('a session that has expired does not count, also if maxAge was shortened', async (t) => {
  const clock = stopClock(t)
  const memory = new MemoryStore()
  const before = await setUp(t, { store: memory, maxAge: 1000 })
  await signIn(before.app)
  const { app, list } = await setUp(t, {
    store: memory,
    maxAge: 60,
    maxSessionsPerUser: 1,
    onLimit: 'reject'
  })
  t.equal((await new Browser(app).get('/login')).statusCode, 403)
  clock.move(61_000)
  t.same(await list(), [])
  await signIn(app)
})

void t.test('a store that cannot find sessions by user is refused with maxSessionsPerUser', async (t) => {
  const { get, create, update, destroy } = new MemoryStore()
  const store = { get, create, update, destroy }
  await t.rejects(setUp(t, { store, maxSessionsPerUser: 1 }), {
    code: 'SESSION_OPTION_INVALID',
    option: 'store',
    message: /listByUser/
  })
})

for (const failing of ['listByUser', 'create', 'destroy'] as const) {
  void t.test(
    `a store whose ${failing} fails causes a 503 without a cookie, and no session more`,
    async (t) => {
      const memory = new MemoryStore()
      let isDown = false
      const store = wrap(memory, (method, args, next) => {
        // Ending the oldest session fails, but not giving the lock back.
        const isSession = memory.get(args[0] as string)?.userId === 'ada'
        if (isDown && method === failing && (method !== 'destroy' || isSession))
          throw new Error('connection lost')
        return next()
      })
      const { app } = await setUp(t, { store, maxSessionsPerUser: 1 })
      const first = await signIn(app)
      isDown = true
      const response = await new Browser(app).get('/login')
      t.equal(response.statusCode, 503)
      t.equal(setCookieOf(response), undefined)
      isDown = false
      if (failing !== 'destroy') t.same([await isIn(first), memory.size], [true, 1])
      const later = await signIn(app)
      t.same([await isIn(later), memory.listByUser('ada').length], [true, 1], 'the next sign-in succeeds')
    }
  )
}

void t.test('a sign-in whose write is retried keeps to the limit', async (t) => {
  for (const onLimit of LIMITS) {
    let conflicts = 0
    const memory = new MemoryStore()
    const store = wrap(memory, (method, _args, next) =>
      method === 'update' && conflicts-- > 0 ? 'conflict' : next()
    )
    const { app, list } = await setUp(t, { store, maxSessionsPerUser: 1, onLimit })
    const [first, second] = [await signIn(app), new Browser(app)]
    await second.get('/set?name=visitor')
    conflicts = 2
    t.equal((await second.get('/login')).statusCode, onLimit === 'reject' ? 403 : 200)
    conflicts = 0
    t.same([await isIn(first), await isIn(second)], onLimit === 'reject' ? [true, false] : [false, true])
    t.equal((await list()).length, 1)
    t.same((await second.get('/read')).json(), { name: 'visitor' })
  }
})

for (const onLimit of LIMITS) {
  void t.test(
    `F8: overlapping sign-ins keep to the limit although the clocks of two servers are 3 s apart (${onLimit})`,
    async (t) => {
      const memory = new MemoryStore()
      // A store checks with the clock of its own process whether a record has expired.
      const ahead = slowStore(wrap(memory, (_method, _args, next) => shifted(3000, next)))
      const options = { maxSessionsPerUser: 1, onLimit }
      const arrive = barrier(40)
      const servers = [
        await serve(t, { ...options, store: slowStore(memory) }, arrive),
        await serve(t, { ...options, store: ahead }, arrive)
      ] as const
      const browsers = Array.from({ length: 40 }, (_, index) => new Browser(servers[index % 2 ? 1 : 0]))
      const answers = await Promise.all(browsers.map((browser) => browser.get('/together')))
      const successful = answers.filter(({ statusCode }) => statusCode === 200)
      t.equal(successful.length, 1, counted(answers.map(({ statusCode }) => statusCode)))
      t.equal(memory.listByUser('ada').length, 1)
    }
  )

  void t.test(
    `F8: overlapping sign-ins keep to the limit if one server’s store answers slowly, but in time (${onLimit})`,
    async (t) => {
      const memory = new MemoryStore()
      const [storeTimeout, latency] = [400, 320]
      const late = wrap(memory, async (method, args, next) => {
        const isLock = method === 'create' && (args[1] as SessionRecord).userId === null
        if (!isLock) await delay(latency)
        return next()
      })
      const options = { maxSessionsPerUser: 1, onLimit, storeTimeout }
      const slow = await serve(t, { ...options, store: late })
      const fast = await serve(t, { ...options, store: slowStore(memory) })
      const first = new Browser(slow).get('/together')
      while (memory.size === 0) await nextTurn()
      const answers = await Promise.all([first, new Browser(fast).get('/together')])
      const statuses = answers.map(({ statusCode }) => statusCode)
      t.same([...statuses].sort(), [200, onLimit === 'reject' ? 403 : 409])
      t.equal(memory.listByUser('ada').length, 1)
    }
  )
}

/** Runs `work` while the clock of the process is `skew` ms ahead. */
function shifted<T>(skew: number, work: () => T): T {
  const { now } = Date
  Date.now = () => now() + skew
  try {
    return work()
  } finally {
    Date.now = now
  }
}
