import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import type { Session, SessionOptions } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { makeVisits, pushTo, valuesOf } from '../fixtures/visits.js'

type Step = (session: Session) => void

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

  /** Runs `work` in the browser's session and returns its values in this request and in the next. */
  async function valuesAfter(work: Step) {
    const { result: now } = await visit((session) => {
      work(session)
      return valuesOf(session)
    })
    return { now, later: (await visit(valuesOf)).result }
  }
  return { ...visits, clock, idNow, stored, begin, valuesAfter }
}

const ofEve: Step = (session) => {
  session.login('eve')
  session.set('role', 'admin')
  session.set('list', ['of eve'])
  session.set('count', 5)
}
const ofNobody: Step = (session) => {
  session.set('cart', ['book'])
  session.set('count', 5)
}
const increment = (count: unknown): number => Number(count ?? 0) + 1

/** Each way to log in as `user`. */
const LOGINS: Record<string, (session: Session, user: string) => void> = {
  'login()': (session, user) => session.login(user),
  'set(userKey)': (session, user) => session.set('userId', user),
  'update(userKey)': (session, user) => session.update('userId', () => user),
  'regenerate() and set(userKey)': (session, user) => {
    session.regenerate()
    session.set('userId', user)
  },
  'set(userKey) and regenerate()': (session, user) => {
    session.set('userId', user)
    session.regenerate()
  }
}

for (const [name, login] of Object.entries(LOGINS)) {
  const isUnconditional = name !== 'set(userKey)' && name !== 'update(userKey)'

  void t.test(`${name}: the session gets a user, a new id, new clocks and no CSRF secret`, async (t) => {
    const { clock, memory, visit, begin, idNow, stored, app, browser } = await setUp(t, { idleTimeout: 600 })
    const id = await begin((session) => session.set('cart', 1))
    await visit((_session, _request, reply) => reply.generateCsrf())
    t.ok(stored()?.data.$csrf)
    const old = browser.cookies.get('session_id') as string
    clock.move(100_000)
    const now = Date.now()
    const { result } = await visit((session) => {
      login(session, 'ada')
      const { createdAt, authenticatedAt, lastAccessed, expiresAt } = session
      return { id: session.id, createdAt, authenticatedAt, lastAccessed, expiresAt }
    })
    const times = { createdAt: now, lastAccessed: now, expiresAt: now + 600_000 }
    t.same(result, { id: idNow(), authenticatedAt: now, ...times })
    t.same(stored(), { version: 3, data: { cart: '1', userId: '"ada"' }, ...times, userId: 'ada' })
    t.not(idNow(), id)
    t.equal(memory.get(id), undefined)
    t.same((await app.sessionManager.list('ada')).length, 1)
    const replay = new Browser(app)
    replay.cookies.set('session_id', old)
    t.same((await visit(valuesOf, replay)).result, {}, 'the old cookie is nobody')
  })

  void t.test(`${name}: nothing of another user’s session stays`, async (t) => {
    const { visit, begin, valuesAfter, stored, memory, app } = await setUp(t)
    const id = await begin((session) => {
      ofEve(session)
      session.setFlash('note', 'for eve')
    })
    await visit((_session, _request, reply) => reply.generateCsrf())
    const { now, later } = await valuesAfter((session) => {
      login(session, 'ada')
      t.equal(session.has('role'), false)
      t.equal(session.get('list'), undefined)
      t.equal(session.peekFlash('note'), undefined)
    })
    t.same([now, later], [{ userId: 'ada' }, { userId: 'ada' }])
    t.same(stored()?.data, { userId: '"ada"' })
    t.same([stored()?.userId, memory.get(id), await app.sessionManager.list('eve')], ['ada', undefined, []])
  })

  void t.test(`${name}: what the request sets stays, before and after the login`, async (t) => {
    const { begin, valuesAfter } = await setUp(t)
    for (const before of [ofEve, ofNobody]) {
      await begin(before)
      const { now, later } = await valuesAfter((session) => {
        session.set('early', { by: 'ada' })
        session.set('count', 5)
        session.set('list', ['of ada'])
        session.update('early', (value) => ({ ...(value as object), updated: true }))
        login(session, 'ada')
        session.set('late', 1)
        pushTo(session, 'list', 'more')
      })
      const expected = {
        early: { by: 'ada', updated: true },
        count: 5,
        list: ['of ada', 'more'],
        userId: 'ada',
        late: 1,
        ...(before === ofNobody && { cart: ['book'] })
      }
      t.same(now, expected)
      t.same(later, expected)
    }
  })

  void t.test(`${name}: what the request made of another user’s values goes`, async (t) => {
    const { begin, valuesAfter } = await setUp(t)
    await begin(ofEve)
    const { now, later } = await valuesAfter((session) => {
      const list = session.get('list') as string[]
      list.push('changed in place')
      session.update('count', increment)
      session.update('role', (role) => `${String(role)}!`)
      login(session, 'ada')
      list.push('changed again')
      session.update('count', increment)
    })
    t.same(now, { userId: 'ada', count: 1 }, 'update() after the login starts from nothing')
    t.same(later, now)
  })

  void t.test(
    `${name}: an anonymous session’s data and flash messages stay, and what was made of them`,
    async (t) => {
      const { begin, visit, valuesAfter } = await setUp(t)
      await begin((session) => {
        ofNobody(session)
        session.setFlash('note', 'hello')
      })
      const { now, later } = await valuesAfter((session) => {
        pushTo(session, 'cart', 'pen')
        session.update('count', increment)
        login(session, 'ada')
        session.update('count', increment)
      })
      t.same(now, { cart: ['book', 'pen'], count: 7, userId: 'ada' })
      t.same(later, now)
      t.equal((await visit((session) => session.getFlash('note'))).result, 'hello')
    }
  )

  if (!isUnconditional) {
    void t.test(`${name} to the user who is signed in already is not a login`, async (t) => {
      const { clock, begin, visit, idNow, stored } = await setUp(t)
      const id = await begin(ofEve)
      const { result, calls } = await visit((session) => {
        login(session, 'eve')
        return [session.id, session.authenticatedAt, session.modified]
      })
      t.same(result, [id, clock.start, false])
      t.same(calls, ['get'])
      t.same([idNow(), stored()?.createdAt], [id, clock.start])
    })
    continue
  }

  void t.test(`${name} of the same user keeps the data, rotates and starts the clocks again`, async (t) => {
    const { begin, visit, valuesAfter, idNow, stored } = await setUp(t)
    const id = await begin((session) => {
      ofEve(session)
      session.setFlash('note', 'hello')
    })
    await visit((_session, _request, reply) => reply.generateCsrf())
    const { later } = await valuesAfter((session) => {
      session.update('count', increment)
      pushTo(session, 'list', 'more')
      login(session, 'eve')
    })
    t.same(later, { userId: 'eve', role: 'admin', list: ['of eve', 'more'], count: 6 })
    t.not(idNow(), id)
    t.match(stored(), { createdAt: Date.now(), userId: 'eve' })
    t.equal(stored()?.data.$csrf, undefined)
    t.equal((await visit((session) => session.getFlash('note'))).result, 'hello')
  })
}

void t.test('a user is compared as text, so setting 7 in a session of "7" is not a login', async (t) => {
  const { begin, visit, idNow, stored } = await setUp(t)
  const id = await begin((session) => session.login('7'))
  await visit((session) => session.set('userId', 7))
  t.same([idNow(), stored()?.userId], [id, '7'])
  await begin((session) => session.login(7))
  t.same((await visit((session) => session.get('userId'))).result, 7)
  t.equal(stored()?.userId, '7')
})

for (const wrong of ['', NaN, Infinity, true, {}, ['ada'], 10n, new Date()]) {
  void t.test(`a user of ${inspect(wrong)} is refused, and nothing changes`, async (t) => {
    const { begin, visit } = await setUp(t)
    const id = await begin(ofEve)
    const { result, calls } = await visit((session) => {
      const error = { name: 'SessionValueError', code: 'SESSION_VALUE_INVALID', key: 'userId' }
      t.throws(() => session.login(wrong as string), error)
      t.throws(() => session.set('userId', wrong), error)
      t.throws(() => session.update('userId', () => wrong as string), error)
      return [session.id, session.modified, session.get('userId'), session.get('role')]
    })
    t.same(result, [id, false, 'eve', 'admin'])
    t.same(calls, ['get'])
  })
}

void t.test('login() without a user is refused: it is not a logout', async (t) => {
  const { begin, visit } = await setUp(t)
  await begin(ofEve)
  const { result } = await visit((session) => {
    for (const wrong of [undefined, null])
      t.throws(() => session.login(wrong as unknown as string), { code: 'SESSION_VALUE_INVALID' })
    return session.get('userId')
  })
  t.equal(result, 'eve')
})

const WRONG: [option: string, options: object][] = [
  ['login.keep', { keep: 'cart' }],
  ['login.keep', { keep: [1] }],
  ['login.keep', { keep: { cart: true } }],
  ['login.keep', { keep: null }],
  ['login.maxAge', { maxAge: 0 }],
  ['login.maxAge', { maxAge: -1 }],
  ['login.maxAge', { maxAge: NaN }],
  ['login.maxAge', { maxAge: '1h' }],
  ['login.maxAge', { maxAge: null }],
  ['login.maxAge', { maxAge: 34_560_001 }],
  ['login.idleTimeout', { idleTimeout: 0 }],
  ['login.idleTimeout', { idleTimeout: Infinity }],
  ['login.idleTimeout', { idleTimeout: '1h' }],
  ['login.idleTimeout', { maxAge: 34_560_000, idleTimeout: 34_560_001 }],
  ['login.idleTimeout', { maxAge: 60, idleTimeout: 61 }],
  ['login.idleTimeout', { idleTimeout: 86_401 }],
  ['login.persistent', { persistent: 'yes' }],
  ['login.persistent', { persistent: null }],
  ['login.maxage', { maxage: 60 }],
  ['login.remember', { remember: true }]
]

void t.test('a wrong option of login() is refused by name, and nothing changes', async (t) => {
  const { begin, visit } = await setUp(t)
  const id = await begin(ofEve)
  const { result, calls } = await visit((session) => {
    for (const [option, options] of WRONG)
      t.throws(() => session.login('ada', options), { code: 'SESSION_OPTION_INVALID', option })
    return [session.id, session.modified, session.get('userId')]
  })
  t.same(result, [id, false, 'eve'])
  t.same(calls, ['get'])
})

void t.test('keep names what alone stays of the loaded data', async (t) => {
  const { begin, visit, valuesAfter, stored } = await setUp(t)
  for (const user of [undefined, 'ada']) {
    await begin((session) => {
      if (user !== undefined) session.login(user)
      session.set('cart', ['book'])
      session.set('count', 5)
      session.set('role', 'guest')
      session.setFlash('note', 'hello')
    })
    const { now, later } = await valuesAfter((session) => {
      pushTo(session, 'cart', 'pen')
      session.update('count', increment)
      session.set('early', 1)
      session.login('ada', { keep: ['cart', 'absent'] })
      session.set('late', 1)
    })
    t.same(now, { cart: ['book', 'pen'], early: 1, late: 1, userId: 'ada' })
    t.same(later, now)
    t.equal((await visit((session) => session.getFlash('note'))).result, 'hello')
    await valuesAfter((session) => session.login('ada', { keep: [] }))
    t.same(stored()?.data, { userId: '"ada"' })
  }
})

void t.test('keep does not pass data of another user on', async (t) => {
  const { begin, valuesAfter, stored } = await setUp(t)
  await begin(ofEve)
  const { later } = await valuesAfter((session) => session.login('ada', { keep: ['role', 'list'] }))
  t.same(later, { userId: 'ada' })
  t.same(stored()?.data, { userId: '"ada"' })
})

void t.test('a login that drops data carries ifVersion, and one that drops nothing does not', async (t) => {
  const { begin, visit } = await setUp(t)
  const patchOf = async (before: Step, work: Step) => {
    await begin(before)
    return (await visit(work)).storeCalls[1]?.[2]
  }
  t.match(await patchOf(ofEve, (session) => session.login('ada')), { ifVersion: 1 })
  t.match(await patchOf(ofNobody, (session) => session.login('ada', { keep: ['cart'] })), { ifVersion: 1 })
  t.match(await patchOf(ofNobody, (session) => session.regenerate(['cart'])), { ifVersion: 1 })
  t.notMatch(await patchOf(ofNobody, (session) => session.login('ada')), { ifVersion: 1 })
  t.notMatch(await patchOf(ofNobody, (session) => session.regenerate()), { ifVersion: 1 })
})

void t.test('the last of two logins in one request counts', async (t) => {
  const { begin, valuesAfter, stored } = await setUp(t)
  for (const [first, second] of [
    ['ada', 'bob'],
    ['bob', 'ada'],
    ['eve', 'ada']
  ] as const) {
    for (const login of Object.values(LOGINS)) {
      await begin(ofEve)
      const { later } = await valuesAfter((session) => {
        session.login(first, { maxAge: 60 })
        login(session, second)
      })
      t.same(later, { userId: second })
      t.same(stored()?.data, { userId: `"${second}"` })
    }
  }
})

void t.test('logging in as another user and back leaves the user’s own data', async (t) => {
  const { begin, valuesAfter } = await setUp(t)
  await begin(ofEve)
  const { later } = await valuesAfter((session) => {
    session.set('userId', 'ada')
    session.set('userId', 'eve')
  })
  t.same(later, { userId: 'eve', role: 'admin', list: ['of eve'], count: 5 })
})

void t.test('a login by a visitor makes a session with what the request sets', async (t) => {
  const { browser, valuesAfter, visit, stored } = await setUp(t)
  for (const login of Object.values(LOGINS)) {
    browser.cookies.clear()
    const { now, later } = await valuesAfter((session) => {
      session.set('early', 1)
      login(session, 'ada')
      session.set('late', 1)
    })
    t.same(now, { early: 1, userId: 'ada', late: 1 })
    t.same(later, now)
    t.match(stored(), { userId: 'ada', createdAt: Date.now() })
    t.equal((await visit((session) => session.authenticatedAt)).result, Date.now())
  }
})

void t.test('with another userKey, login() sets that key', async (t) => {
  const { valuesAfter, stored, begin } = await setUp(t, { userKey: 'account' })
  await begin((session) => session.set('userId', 'not the user'))
  t.equal(stored()?.userId, null)
  const { later } = await valuesAfter((session) => session.login(0))
  t.same(later, { userId: 'not the user', account: 0 })
  t.equal(stored()?.userId, '0')
})

void t.test(
  'after a failed load, a login or logout is a 503, and anything else changes nothing',
  async (t) => {
    const { memory, begin, attempt, browser, stored } = await setUp(t, { onStoreError: 'anonymous' })
    await begin(ofEve)
    const before = stored()
    const { get } = memory
    const works: Record<string, Step> = {
      ...Object.fromEntries(
        Object.entries(LOGINS).map(([name, login]) => [name, (session: Session) => login(session, 'ada')])
      ),
      'set(userKey, null)': (session) => session.set('userId', null),
      'set(userKey, undefined)': (session) => session.set('userId', undefined),
      'remove(userKey)': (session) => session.remove('userId'),
      'take(userKey)': (session) => void session.take('userId'),
      clear: (session) => session.clear(),
      invalidate: (session) => session.invalidate()
    }
    memory.get = () => {
      throw new Error('connection lost')
    }
    for (const [name, work] of Object.entries(works)) {
      const { response, calls, cookies } = await attempt(work)
      t.match(response.json(), { statusCode: 503, code: 'SESSION_STORE_UNAVAILABLE' }, name)
      t.same([calls, cookies], [['get'], []], name)
    }
    browser.cookies.set('session_id_visitor', 'whatever')
    const { response, calls, cookies, result } = await attempt((session, _request, reply) => {
      session.set('name', 'eve')
      session.setFlash('note', 'hello')
      session.regenerate()
      reply.generateCsrf()
      return [session.get('name'), session.isNew, session.modified]
    })
    t.equal(response.statusCode, 200)
    t.same([calls, cookies], [['get'], []])
    t.match(result, ['eve', true])
    memory.get = get
    t.equal(stored(), before)
  }
)

void t.test("onStoreError: 'anonymous': a login or logout that cannot be written is a 503", async (t) => {
  const { memory, begin, attempt, browser, app } = await setUp(t, { onStoreError: 'anonymous' })
  const { create, update, destroy } = memory
  const fail = () => {
    throw new Error('connection lost')
  }
  for (const [before, work] of [
    [undefined, (session) => session.login('ada')],
    [ofNobody, (session) => session.login('ada')],
    [ofEve, (session) => session.set('userId', 'ada')],
    [ofEve, (session) => session.remove('userId')],
    [ofEve, (session) => session.clear()]
  ] as [Step | undefined, Step][]) {
    if (before === undefined) browser.cookies.clear()
    else await begin(before)
    Object.assign(memory, { create: fail, update: fail, destroy: fail })
    const { response, cookies } = await attempt(work)
    t.match(
      [response.json(), cookies],
      [{ statusCode: 503, code: 'SESSION_STORE_UNAVAILABLE' }, { length: 0 }]
    )
    Object.assign(memory, { create, update, destroy })
  }
  memory.create = fail
  const { response, cookies } = await attempt((session) => session.set('cart', 1), new Browser(app))
  t.same([response.statusCode, cookies], [200, []])
})
