import t, { type Test } from 'tap'
import type { Session, SessionOptions } from '../../plugin/index.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { makeVisits, pushTo, valuesOf } from '../fixtures/visits.js'

type Step = (session: Session) => void
const HOUR = 3_600_000

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const clock = stopClock(t)
  const visits = await makeVisits(t, options)
  const { browser, memory, visit } = visits
  const idNow = () => idOfCookie(`session_id=${browser.cookies.get('session_id')}`)
  const stored = () => memory.get(idNow())

  /** Replaces the browser's session by one that `work` makes, and moves the clock by a second. */
  async function begin(work: Step): Promise<string> {
    browser.cookies.clear()
    await visit(work)
    clock.move(1000)
    return idNow()
  }
  return { ...visits, clock, idNow, stored, begin }
}

/** The times of a session that no rotation may change. */
function clocksOf({ createdAt, authenticatedAt, expiresAt }: Session) {
  return { createdAt, authenticatedAt, expiresAt }
}

void t.test('a rotation keeps the data, createdAt, authenticatedAt and the end of the session', async (t) => {
  const { clock, begin, visit, idNow, stored } = await setUp(t, { maxAge: 3600 })
  for (const keep of [undefined, ['userId', 'role']]) {
    const id = await begin((session) => {
      session.login('ada')
      session.set('role', 'admin')
    })
    const start = Date.now() - 1000
    clock.move(600_000)
    const clocks = { createdAt: start, authenticatedAt: start, expiresAt: start + HOUR }
    const { result: now } = await visit((session) => {
      session.regenerate(keep)
      return clocksOf(session)
    })
    t.same(now, clocks)
    t.same((await visit(clocksOf)).result, clocks)
    t.not(idNow(), id)
    t.same((await visit(valuesOf)).result, { userId: 'ada', role: 'admin' })
    t.equal(stored()?.lastAccessed, Date.now())
  }
})

void t.test('a session of an hour that is rotated every fifty minutes ends after an hour', async (t) => {
  const { clock, begin, visit } = await setUp(t, { maxAge: 3600 })
  const works: Step[] = [
    (session) => session.regenerate(),
    (session) => session.regenerate(['userId']),
    (session) => {
      session.regenerate()
      session.set('role', 'admin')
    }
  ]
  for (const work of works) {
    await begin((session) => session.login('ada'))
    clock.move(50 * 60_000)
    const { cookies } = await visit(work)
    t.match(cookies, [/^session_id=\*; Max-Age=599; /])
    clock.move(599_000 - 1)
    t.equal((await visit((session) => session.get('userId'))).result, 'ada')
    clock.move(1)
    t.equal((await visit((session) => session.get('userId'))).result, undefined)
  }
})

void t.test('a rotation is activity: it moves the idle timeout, within maxAge', async (t) => {
  const { clock, begin, visit } = await setUp(t, { maxAge: 3600, idleTimeout: 600 })
  await begin((session) => session.login('ada'))
  clock.move(30_000)
  await visit((session) => session.regenerate())
  clock.move(599_999)
  t.equal((await visit((session) => session.get('userId'))).result, 'ada')
})

void t.test('a rotation makes the CSRF tokens of before invalid, also with keep', async (t) => {
  const { begin, visit, stored } = await setUp(t)
  for (const keep of [undefined, ['name'], ['name', '$csrf']]) {
    await begin((session) => session.set('name', 'ada'))
    await visit((_session, _request, reply) => reply.generateCsrf())
    t.ok(stored()?.data.$csrf)
    await visit((session) => session.regenerate(keep))
    t.same(stored()?.data, { name: '"ada"' })
  }
})

void t.test('regenerate(keep) keeps only the named data, and what the request sets', async (t) => {
  const { begin, visit, stored } = await setUp(t)
  await begin((session) => {
    session.login('ada')
    for (const key of ['a', 'b', 'c', 'd']) session.set(key, [key])
  })
  const { result } = await visit((session) => {
    pushTo(session, 'a', 'in place')
    pushTo(session, 'b', 'in place')
    session.set('early', 1)
    session.set('d', 'set again')
    session.regenerate(['userId', 'a', 'absent'])
    session.set('late', 1)
    return valuesOf(session)
  })
  const expected = { userId: 'ada', a: ['a', 'in place'], d: 'set again', early: 1, late: 1 }
  t.same(result, expected)
  t.same((await visit(valuesOf)).result, expected)
  t.equal(stored()?.userId, 'ada')
})

void t.test('regenerate(keep) without the user leaves an anonymous session with what it kept', async (t) => {
  const { clock, app, begin, visit, stored, idNow, memory } = await setUp(t)
  for (const keep of [[], ['cart']]) {
    const id = await begin((session) => {
      session.login('ada')
      session.set('cart', 1)
      session.set('role', 'admin')
    })
    const { result, cookies } = await visit((session) => {
      session.regenerate(keep)
      return [session.authenticatedAt, session.get('userId'), session.has('role')]
    })
    t.same(result, [undefined, undefined, false])
    t.equal(cookies.length, 1)
    t.match(stored(), { userId: null, createdAt: Date.now() - 1000 })
    t.same(stored()?.data, keep.includes('cart') ? { cart: '1' } : {})
    t.not(idNow(), id)
    t.equal(memory.get(id), undefined)
    t.same(await app.sessionManager.list('ada'), [])
    t.equal((await visit((session) => session.authenticatedAt)).result, undefined)
    clock.move(1000)
  }
})

const DROPS: Record<string, Step> = {
  'regenerate(keep)': (session) => session.regenerate(['a']),
  'regenerate([])': (session) => session.regenerate([]),
  'login() with keep': (session) => session.login('eve', { keep: ['a'] })
}
const RENEWALS: Record<string, Step> = {
  'regenerate()': (session) => session.regenerate(),
  'regenerate(keep)': (session) => session.regenerate(['a', 'b', 'userId']),
  'login()': (session) => session.login('eve'),
  'login() with keep': (session) => session.login('eve', { keep: ['a', 'b'] })
}

for (const [dropName, drop] of Object.entries(DROPS)) {
  for (const [name, renew] of Object.entries(RENEWALS)) {
    void t.test(
      `what ${dropName} has dropped does not come back by ${name} in the same request`,
      async (t) => {
        const { begin, visit } = await setUp(t)
        for (const user of [undefined, 'eve']) {
          await begin((session) => {
            if (user !== undefined) session.login(user)
            session.set('a', 1)
            session.set('b', 2)
          })
          const { result } = await visit((session) => {
            drop(session)
            const dropped = valuesOf(session)
            renew(session)
            const values = valuesOf(session)
            if (name.startsWith('login')) delete values.userId
            return [dropped, values]
          })
          const [dropped = {}, values = {}] = result
          for (const key of Object.keys(values)) t.ok(key in dropped, `${key} of ${user ?? 'nobody'}`)
          const { result: later } = await visit(valuesOf)
          if (name.startsWith('login')) delete later.userId
          t.same(later, values)
        }
      }
    )
  }
}

void t.test('any other argument of regenerate() throws, and nothing changes', async (t) => {
  const { begin, visit } = await setUp(t)
  const id = await begin((session) => session.login('ada'))
  const { result, calls } = await visit((session) => {
    for (const wrong of [null, true, 'userId', 1, {}, [1], [undefined], new Set(['userId'])])
      t.throws(() => session.regenerate(wrong as string[]), { code: 'SESSION_OPTION_INVALID' })
    return [session.id, session.modified]
  })
  t.same([result, calls], [[id, false], ['get']])
})

/** Logs in as @fastify/passport does: it rotates, and keeps its own keys by default. */
function passportLogin(session: Session, user: string): void {
  session.regenerate(['passport', 'session'])
  session.set('passport', user)
}

void t.test('@fastify/passport: a login keeps what it names, also across a change of user', async (t) => {
  const { begin, visit, idNow, stored } = await setUp(t, { userKey: 'passport' })
  for (const before of [undefined, 'eve', 'ada']) {
    const id = await begin((session) => {
      if (before !== undefined) passportLogin(session, before)
      session.set('session', { flow: 1 })
      session.set('role', 'admin')
      session.set('list', [1])
    })
    await visit((_session, _request, reply) => reply.generateCsrf())
    const { result } = await visit((session) => {
      pushTo(session, 'list', 2)
      session.set('early', 1)
      passportLogin(session, 'ada')
      session.set('late', 1)
      return valuesOf(session)
    })
    const expected = { early: 1, late: 1, passport: 'ada', session: { flow: 1 } }
    t.same(result, expected)
    t.same((await visit(valuesOf)).result, expected)
    t.match(stored(), { userId: 'ada', createdAt: Date.now() })
    t.equal(stored()?.data.$csrf, undefined)
    t.not(idNow(), id)
  }
})

void t.test('@fastify/passport: a logout by set(userKey) and regenerate() leaves nobody', async (t) => {
  const { begin, visit, browser, memory } = await setUp(t, { userKey: 'passport' })
  for (const nobody of [undefined, null]) {
    const id = await begin((session) => {
      passportLogin(session, 'ada')
      session.set('role', 'admin')
    })
    const { calls } = await visit((session) => {
      session.set('passport', nobody)
      session.regenerate()
    })
    t.same(calls, ['get', 'destroy'])
    t.equal(memory.get(id), undefined)
    t.equal(browser.cookies.get('session_id'), undefined)
  }
})

void t.test('flash messages survive a rotation without keep', async (t) => {
  const { begin, visit } = await setUp(t)
  await begin((session) => {
    session.login('ada')
    session.setFlash('note', 'hello')
  })
  await visit((session) => session.regenerate())
  t.equal((await visit((session) => session.getFlash('note'))).result, 'hello')
})

void t.test(
  'flash messages of a user do not go to the anonymous session that regenerate(keep) leaves',
  async (t) => {
    const { begin, visit } = await setUp(t)
    await begin((session) => {
      session.login('ada')
      session.setFlash('note', 'for ada')
    })
    await visit((session) => session.regenerate([]))
    await visit((session) => session.login('eve'))
    t.equal((await visit((session) => session.getFlash('note'))).result, undefined)
  }
)

void t.test('a visitor’s rotation makes no session, and drops the CSRF secret', async (t) => {
  const { browser, app, visit } = await setUp(t)
  app.post('/guarded', { preHandler: app.csrfProtection }, async () => 'passed')
  const first = await visit((session) => session.regenerate())
  t.same([first.calls, first.cookies], [[], []])
  const { result: token } = await visit((session, _request, reply) => {
    session.setFlash('note', 'hello')
    return reply.generateCsrf()
  })
  const post = async () => {
    const headers = { 'x-csrf-token': token, 'sec-fetch-site': 'same-origin' }
    return (await browser.request({ method: 'POST', url: '/guarded', headers })).statusCode
  }
  t.equal(await post(), 200)
  const { calls, cookies } = await visit((session) => session.regenerate())
  t.same(calls, [])
  t.match(cookies, [/^session_id_visitor=\*/])
  t.equal(await post(), 403)
  t.equal((await visit((session) => session.getFlash('note'))).result, 'hello')
})

void t.test('authenticatedAt is the time of the login, and undefined without a user', async (t) => {
  const { clock, begin, visit } = await setUp(t)
  const ask = async () => (await visit((session) => session.authenticatedAt)).result
  t.equal(await ask(), undefined, 'a visitor')
  await begin((session) => session.set('cart', 1))
  t.equal(await ask(), undefined, 'an anonymous session')
  const login = await visit((session) => {
    session.login('ada')
    return session.authenticatedAt
  })
  const at = Date.now()
  t.equal(login.result, at)
  clock.move(5000)
  await visit((session) => session.set('cart', 2))
  t.equal(await ask(), at, 'a change')
  await visit((session) => session.regenerate())
  t.equal(await ask(), at, 'a rotation')
  clock.move(5000)
  await visit((session) => session.login('ada'))
  t.equal(await ask(), at + 10_000, 'a login of the same user')
  const logout = await visit((session) => {
    session.remove('userId')
    return session.authenticatedAt
  })
  t.equal(logout.result, undefined)
  t.equal(await ask(), undefined, 'a logout')
})
