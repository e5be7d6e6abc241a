import t from 'tap'
import type { FastifyInstance } from 'fastify'
import { channels, MemoryStore, type SessionStore } from '../../plugin/index.js'
import { stopClock } from '../../plugin/testing/clock.js'
import { polluted } from '../fixtures/pollution.js'
import { failingStore, slowStore, spyStore, wrap } from '../fixtures/stores.js'
import { ADA, makeNew, send, SIGNED_IN, SIGNED_OUT } from './fixtures/new-app.js'
import { OLD_APPS, oldExpress, oldFastify, oldSecure, type OldApp } from './fixtures/old-apps.js'

for (const makeOld of OLD_APPS) {
  const { name } = makeOld(t)

  void t.test(`${name}: a browser with its cookie stays signed in and gets our cookie`, async (t) => {
    const old = makeOld(t)
    const store = new MemoryStore()
    const cookie = { path: '/shop', domain: 'example.com' }
    const app = await makeNew(t, { store, migrateFrom: old.predecessor({ cookie }) })
    const first = await send(app, await old.signIn(ADA))
    t.equal(first.body, SIGNED_IN)
    t.match(first.set, [/^session_id=/])
    t.match(first.cleared, [
      new RegExp(`^${old.cookieName}=; Max-Age=0; Domain=example.com; Path=/shop; HttpOnly`)
    ])
    t.equal((await send(app, first.cookie)).body, SIGNED_IN)
    t.same((await send(app, first.cookie)).set, [])
    t.equal(old.store?.records.size ?? 0, 0, 'the old record is destroyed')
    t.equal((await app.sessionManager.list('ada')).length, 1)
  })

  void t.test(`${name}: forged and malformed cookies cost no store call and no error`, async (t) => {
    const old = makeOld(t)
    const store = spyStore()
    const app = await makeNew(t, { store, migrateFrom: old.predecessor() })
    store.take()
    const good = await old.signIn(ADA)
    const calls = old.store?.calls
    for (const cookie of [
      old.forge(),
      good.replace('=', '=x'),
      good.slice(0, -4),
      `${old.cookieName}=`,
      `${old.cookieName}=%ff%`,
      `${old.cookieName}=s:a.b;${old.cookieName}=;;`
    ]) {
      const answer = await send(app, cookie)
      t.same([answer.statusCode, answer.body, answer.set], [200, SIGNED_OUT, []], cookie)
    }
    t.same(store.takeNames(), [])
    t.equal(old.store?.calls, calls)
  })

  void t.test(`${name}: ten requests at once on two servers make one session`, async (t) => {
    const old = makeOld(t)
    const memory = new MemoryStore()
    const store = slowStore(memory)
    const apps = [
      await makeNew(t, { store, migrateFrom: old.predecessor() }),
      await makeNew(t, { store, migrateFrom: old.predecessor() })
    ]
    const cookie = await old.signIn(ADA)
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) => send(apps[index % 2] as FastifyInstance, cookie))
    )
    t.same(new Set(answers.map(({ body }) => body)), new Set([SIGNED_IN]))
    t.equal(new Set(answers.map(({ cookie }) => cookie)).size, 1)
    t.equal(memory.listByUser('ada').length, 1)
  })

  void t.test(`${name}: a session ends when it would have ended, or by the idle timeout`, async (t) => {
    const old = makeOld(t)
    const clock = stopClock(1e12)
    t.teardown(() => clock.restore())
    const cookie = await old.signIn(ADA, clock.start + 3_600_000)
    const app = await makeNew(t, { migrateFrom: old.predecessor() })
    const { cookie: moved, set } = await send(app, cookie)
    t.match(set, [/; Max-Age=3600;/])
    clock.move(3_599_000)
    t.equal((await send(app, moved)).body, SIGNED_IN)
    await send(app, moved, 'POST /set')
    clock.move(1000)
    t.equal((await send(app, moved)).body, SIGNED_OUT)

    const again = await old.signIn(ADA, Date.now() + 60_000)
    const idle = await makeNew(t, { migrateFrom: old.predecessor(), idleTimeout: 600 })
    const active = await send(idle, again)
    clock.move(500_000)
    t.equal((await send(idle, active.cookie)).body, SIGNED_IN)
    t.equal(
      (await send(app, await old.signIn(ADA, Date.now() - 1000))).body,
      SIGNED_OUT,
      'an expired session'
    )
  })

  void t.test(`${name}: moving is no login`, async (t) => {
    const old = makeOld(t)
    const app = await makeNew(t, { migrateFrom: old.predecessor(), maxSessionsPerUser: 1, onLimit: 'reject' })
    t.equal((await send(app, await old.signIn(ADA))).body, SIGNED_IN)
    const second = await send(app, await old.signIn(ADA))
    t.equal(second.body, SIGNED_IN, 'a limit does not refuse it')
    t.equal((await send(app, second.cookie, 'GET /fresh')).statusCode, 401)
    const { id, at } = JSON.parse((await send(app, second.cookie, 'GET /login')).body) as {
      id: string
      at: null
    }
    t.equal(at, null)
    await app.sessionManager.revokeAll('ada', { except: id })
    const login = await send(app, second.cookie, 'POST /login')
    t.equal((await send(app, login.cookie, 'GET /fresh')).body, 'fresh')
  })

  void t.test(`${name}: with keep, the old cookie and record stay until a logout`, async (t) => {
    const old = makeOld(t)
    const app = await makeNew(t, { migrateFrom: old.predecessor({ keep: true }) })
    const cookie = await old.signIn(ADA)
    const first = await send(app, cookie)
    t.same([first.body, first.cleared], [SIGNED_IN, []])
    t.equal(old.store?.records.size ?? 1, 1)
    t.equal((await send(app, cookie)).body, SIGNED_IN, 'the old cookie alone finds the session')
    const logout = await send(app, `${cookie}; ${first.cookie}`, 'POST /logout')
    t.match(
      [...logout.cleared].sort(),
      [old.cookieName, 'session_id'].sort().map((name) => new RegExp(`^${name}=;`))
    )
    t.equal(old.store?.records.size ?? 0, 0)
    t.equal((await send(app, cookie)).body, SIGNED_OUT)
    t.equal((await send(app, first.cookie)).body, SIGNED_OUT)
  })

  for (const keep of [false, true])
    void t.test(`${name}: an old cookie that is replayed is refused (keep: ${keep})`, async (t) => {
      const old = makeOld(t)
      const app = await makeNew(t, { migrateFrom: old.predecessor({ keep }) })
      const replayed = async (end: (moved: string, cookie: string) => Promise<unknown>): Promise<string> => {
        const cookie = await old.signIn(ADA)
        await end((await send(app, cookie)).cookie, cookie)
        return (await send(app, cookie)).body
      }
      t.equal(await replayed((moved) => send(app, moved, 'POST /logout')), SIGNED_OUT, 'after a logout')
      t.equal(
        await replayed((moved, cookie) => send(app, `${moved}; ${cookie}`, 'POST /logout')),
        SIGNED_OUT,
        'after a logout with both cookies'
      )
      t.equal(await replayed(() => app.sessionManager.revokeAll('ada')), SIGNED_OUT, 'after revokeAll')
      t.equal(await replayed((moved) => send(app, moved, 'POST /login')), SIGNED_OUT, 'after a login')
      // A cookie that means the same but is written in another way is the same cookie.
      const cookie = await old.signIn(ADA)
      await send(app, (await send(app, cookie)).cookie, 'POST /logout')
      const [start, value = ''] = cookie.split(/=(.*)/s)
      const variants = [
        `%${value.charCodeAt(0).toString(16)}${value.slice(1)}`,
        decodeURIComponent(value).replace(';', '%3B')
      ]
      for (const variant of [...variants, `${value}x`])
        t.equal((await send(app, `${start}=${variant}`)).body, SIGNED_OUT)
    })

  void t.test(`${name}: old cookies are refused after \`until\``, async (t) => {
    const old = makeOld(t)
    const clock = stopClock()
    t.teardown(() => clock.restore())
    const app = await makeNew(t, { migrateFrom: old.predecessor({ until: new Date(clock.start + 1000) }) })
    const [before, after] = [await old.signIn(ADA), await old.signIn(ADA)]
    const { cookie } = await send(app, before)
    clock.move(1000)
    t.equal((await send(app, after)).body, SIGNED_OUT)
    t.equal((await send(app, cookie)).body, SIGNED_IN, 'a session that has moved stays')
  })

  void t.test(`${name}: userOf says whose session it is`, async (t) => {
    const old = makeOld(t)
    const userOf = (data: Readonly<Record<string, unknown>>) =>
      (data['passport'] as { user: string } | undefined)?.user
    const app = await makeNew(t, { migrateFrom: old.predecessor({ userOf }) })
    t.equal((await send(app, await old.signIn({ passport: { user: 'ada' } }))).body, '{"user":"ada"}')
    t.equal((await app.sessionManager.list('ada')).length, 1)
    t.equal((await send(app, await old.signIn({ userId: 'eve' }))).body, SIGNED_OUT)
  })

  void t.test(`${name}: readonly routes, failed replies and 5xx replies lose nothing`, async (t) => {
    const old = makeOld(t)
    const app = await makeNew(t, { migrateFrom: old.predecessor() })
    const cookie = await old.signIn(ADA)
    t.equal((await send(app, cookie, 'GET /polled')).body, 'ada')
    t.same((await send(app, cookie, 'GET /broken')).set, [])
    const later = await send(app, cookie)
    t.equal(later.body, SIGNED_IN)
    t.match(later.set, [/^session_id=/])
  })

  void t.test(
    `${name}: keys that begin with "$" and values that JSON cannot represent are left out`,
    async (t) => {
      const old = makeOld(t)
      const app = await makeNew(t, { migrateFrom: old.predecessor() })
      const cookie = await old.signIn({ ...ADA, $csrf: 'x', ['__proto__x']: 1 })
      const { cookie: moved } = await send(app, cookie)
      const [info] = await app.sessionManager.list('ada', { data: true })
      t.same(Object.keys(info?.data ?? {}).sort(), ['__proto__x', 'cart', 'userId'])
      t.ok(moved)
    }
  )
}

for (const makeOld of [oldExpress, oldFastify]) {
  const { name } = makeOld(t)
  void t.test(
    `${name}: a failing old store is a 503 that keeps the cookies and shows no values`,
    async (t) => {
      const old = makeOld(t)
      const app = await makeNew(t, { migrateFrom: old.predecessor() })
      const cookie = await old.signIn(ADA)
      const store = old.store as NonNullable<OldApp['store']>
      store.failure = new Error('ECONNREFUSED tea')
      const failed = await send(app, cookie)
      t.same([failed.statusCode, failed.set, failed.cleared], [503, [], []])
      store.failure = undefined
      const { cookie: moved } = await send(app, cookie)
      store.failure = new Error('ECONNREFUSED')
      t.equal((await send(app, `${moved}; ${cookie}`, 'POST /logout')).statusCode, 503)
      store.failure = undefined
      t.equal((await send(app, moved)).body, SIGNED_IN, 'a logout that failed can be repeated')
      t.equal((await send(app, `${moved}; ${cookie}`, 'POST /logout')).statusCode, 200)
    }
  )
}

void t.test('a session whose move was interrupted moves later', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  let fails = true
  let creates = 0
  const store = wrap(memory, (method, _args, next) => {
    if (method === 'create' && ++creates === 2 && fails) throw new Error('killed')
    return next()
  })
  const app = await makeNew(t, { store, storeTimeout: 100, migrateFrom: old.predecessor() })
  const cookie = await old.signIn(ADA)
  t.equal((await send(app, cookie)).statusCode, 503)
  fails = false
  t.equal((await send(app, cookie)).body, SIGNED_IN)
})

void t.test(
  'a server that was suspended in a move does not bring back a session that has ended',
  async (t) => {
    const old = oldFastify()
    const memory = new MemoryStore()
    let resume: (() => void) | undefined
    const suspended = wrap(memory, async (method, args, next) => {
      const isSession = method === 'create' && Object.keys((args[1] as { data: object }).data).length > 0
      if (isSession) await new Promise<void>((resolve) => (resume = resolve))
      return next()
    })
    const [slow, fast] = [
      await makeNew(t, { store: suspended, storeTimeout: 60_000, migrateFrom: old.predecessor() }),
      await makeNew(t, { store: memory, storeTimeout: 50, migrateFrom: old.predecessor() })
    ]
    const cookie = await old.signIn(ADA)
    const first = send(slow, cookie)
    while (resume === undefined) await new Promise((resolve) => setImmediate(resolve))
    const second = await send(fast, cookie)
    t.equal(second.body, SIGNED_IN)
    await send(fast, second.cookie, 'POST /logout')
    resume()
    t.equal((await first).body, SIGNED_OUT)
    t.equal((await send(fast, cookie)).body, SIGNED_OUT)
    t.equal(memory.listByUser('ada').length, 0)
  }
)

void t.test(
  'a request that finds the old record gone uses the session that another server has made',
  async (t) => {
    const old = oldFastify()
    const store: SessionStore = new MemoryStore()
    const [first, second] = [
      await makeNew(t, { store, migrateFrom: old.predecessor() }),
      await makeNew(t, { store: wrap(store, lateFirstGets()), migrateFrom: old.predecessor() })
    ]
    const cookie = await old.signIn(ADA)
    const waiting = send(second, cookie)
    t.equal((await send(first, cookie)).body, SIGNED_IN)
    t.equal((await waiting).body, SIGNED_IN)

    /** The first two `get` find nothing, as if they had run before the other server's move, and answer late. */
    function lateFirstGets() {
      let gets = 0
      return async (method: string, _args: unknown[], next: () => unknown) => {
        if (method !== 'get' || ++gets > 2) return next()
        await new Promise((resolve) => setTimeout(resolve, 50))
        return undefined
      }
    }
  }
)

void t.test('with onStoreError "anonymous", a failing old store gives an anonymous request', async (t) => {
  const old = oldFastify()
  const app = await makeNew(t, { migrateFrom: old.predecessor(), onStoreError: 'anonymous' })
  const cookie = await old.signIn(ADA)
  if (old.store !== undefined) old.store.failure = new Error('down')
  t.equal((await send(app, cookie)).body, SIGNED_OUT)
})

void t.test('migrateFrom can be a list of an old store and other libraries', async (t) => {
  const [express, secure] = [oldExpress(t), oldSecure()]
  const before = new MemoryStore()
  const past = await makeNew(t, { store: before })
  const { cookie } = await send(past, '', 'POST /login')
  const app = await makeNew(t, { migrateFrom: [before, express.predecessor(), secure.predecessor()] })
  t.equal((await send(app, cookie)).body, '{"user":"ada"}')
  t.equal((await send(app, await express.signIn(ADA))).body, SIGNED_IN)
  t.equal((await send(app, await secure.signIn(ADA))).body, SIGNED_IN)
  t.equal((await send(app, `${secure.forge()}; ${await express.signIn(ADA)}`)).body, SIGNED_IN)
})

void t.test('a request with a live session of ours leaves the old session alone', async (t) => {
  const old = oldFastify()
  const app = await makeNew(t, { migrateFrom: old.predecessor() })
  const { cookie } = await send(app, '', 'POST /login')
  const both = `${await old.signIn({ userId: 'eve' })}; ${cookie}`
  t.equal((await send(app, both)).body, '{"user":"ada"}')
  t.equal(old.store?.calls, 0)
})

void t.test('a failing store of ours gives a 503 and keeps the old record', async (t) => {
  const old = oldFastify()
  const app = await makeNew(t, {
    store: failingStore((method) => method === 'create'),
    migrateFrom: old.predecessor()
  })
  t.equal((await send(app, await old.signIn(ADA))).statusCode, 503)
  t.equal(old.store?.records.size, 1)
})

void t.test('at most four correctly signed cookies cause store calls', async (t) => {
  const old = oldFastify()
  const app = await makeNew(t, { migrateFrom: old.predecessor() })
  const gone: string[] = []
  for (let count = 0; count < 4; count++) gone.push(await old.signIn(ADA, Date.now() - 1))
  const good = await old.signIn(ADA)
  const before = old.store?.calls ?? 0
  t.equal((await send(app, [...gone, good].join('; '))).body, SIGNED_OUT)
  t.equal((old.store?.calls ?? 0) - before, 4)
  t.equal((await send(app, [old.forge(), ...gone.slice(1), good].join('; '))).body, SIGNED_IN)
})

void t.test('only one of two servers that take over an interrupted move makes the session', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  let creates = 0
  const broken = wrap(memory, (method, _args, next) => {
    if (method === 'create' && ++creates === 2) throw new Error('killed')
    return next()
  })
  const options = { storeTimeout: 50, migrateFrom: old.predecessor() }
  const cookie = await old.signIn(ADA)
  t.equal((await send(await makeNew(t, { ...options, store: broken }), cookie)).statusCode, 503)
  const slow = slowStore(memory)
  const apps = [await makeNew(t, { ...options, store: slow }), await makeNew(t, { ...options, store: slow })]
  const answers = await Promise.all(apps.map((app) => send(app, cookie)))
  t.ok(answers.some(({ body }) => body === SIGNED_IN))
  t.equal(memory.listByUser('ada').length, 1)
  t.equal((await send(apps[0] as FastifyInstance, cookie)).body, SIGNED_IN)
})

void t.test('a move and its failure are published', async (t) => {
  const old = oldFastify()
  const published: string[] = []
  for (const name of ['created', 'migrated', 'loaded', 'storeFailure'] as const) {
    const listener = (): void => void published.push(name)
    channels[name].subscribe(listener)
    t.teardown(() => channels[name].unsubscribe(listener))
  }
  const app = await makeNew(t, { migrateFrom: old.predecessor() })
  const cookie = await old.signIn(ADA)
  if (old.store !== undefined) old.store.failure = new Error('down')
  await send(app, cookie)
  t.same(published.splice(0), ['storeFailure'])
  if (old.store !== undefined) old.store.failure = undefined
  await send(app, cookie)
  t.same(published, ['created', 'migrated', 'loaded'])
})

void t.test(
  'a user who is not an id is an error, so that the data cannot pass to another user',
  async (t) => {
    for (const userId of [{ id: 'ada' }, true, ['ada'], NaN]) {
      const old = oldFastify()
      const userOf = (): never => userId as never
      for (const predecessor of [old.predecessor(), old.predecessor({ userOf })]) {
        const app = await makeNew(t, { migrateFrom: predecessor })
        if (Number.isNaN(userId) && predecessor.userOf === undefined) continue
        const { statusCode, body } = await send(app, await old.signIn({ ...ADA, userId }))
        t.equal(statusCode, 500)
        t.match(body, /migrateFrom.userOf.* returned (a value of type|NaN)/)
        t.notMatch(body, 'ada')
      }
    }
    for (const userId of ['', false, null]) {
      const old = oldFastify()
      const app = await makeNew(t, { migrateFrom: old.predecessor() })
      t.equal((await send(app, await old.signIn({ ...ADA, userId }))).body, '{"cart":["tea"]}')
    }
  }
)

void t.test('a polluted Object.prototype signs nobody in', async (t) => {
  const old = oldFastify()
  const app = await makeNew(t, { migrateFrom: old.predecessor() })
  const cookie = await old.signIn({ cart: ['tea'] })
  Object.defineProperty(Object.prototype, 'userId', { value: 'eve', configurable: true })
  t.teardown(() => Reflect.deleteProperty(Object.prototype, 'userId'))
  const answer = await send(app, cookie)
  t.equal(answer.body, '{"cart":["tea"]}')
})

void t.test('a value that cannot be turned into JSON is left out', async (t) => {
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  const old = oldFastify()
  const store = old.store as NonNullable<OldApp['store']>
  store.get = (_id, callback) => callback(null, { ...ADA, big: 1n, cycle, made: () => 1 })
  const app = await makeNew(t, { migrateFrom: old.predecessor() })
  const { body, cookie } = await send(app, await old.signIn(ADA))
  t.equal(body, SIGNED_IN)
  t.equal((await send(app, cookie)).body, SIGNED_IN)
})

void t.test(
  'an attribute that is only on Object.prototype is not in the cookie that is cleared',
  async (t) => {
    const old = oldFastify()
    const app = await makeNew(t, { migrateFrom: old.predecessor() })
    const clear = async () => (await send(app, await old.signIn(ADA))).cleared
    const plain = await clear()
    t.equal(plain.length, 1)
    for (const [name, value] of Object.entries({ domain: 'evil.test', priority: 'low' }))
      t.same(await polluted(name, value, clear), plain, name)
  }
)
