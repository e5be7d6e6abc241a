import t, { type Test } from 'tap'
import { MemoryStore, type Session, type SessionOptions } from '../../plugin/index.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { listen } from '../fixtures/diagnostics.js'
import { slowStore } from '../fixtures/stores.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

type Step = (session: Session) => void

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const clock = stopClock(t)
  const memory = new MemoryStore()
  const visits = await makeVisits(t, { store: memory, ...options })
  const { browser, visit } = visits
  const idNow = () => idOfCookie(`session_id=${browser.cookies.get('session_id')}`)
  const stored = () => memory.get(idNow())

  /** Replaces the browser's session by one of Ada with data, and returns its id. */
  async function signIn(): Promise<string> {
    browser.cookies.clear()
    await visit((session) => {
      session.login('ada', { maxAge: 60 })
      session.set('role', 'admin')
      session.set('count', 5)
      session.setFlash('note', 'for ada')
    })
    return idNow()
  }
  return { ...visits, memory, clock, idNow, stored, signIn }
}

/** Each way to remove the user. */
const LOGOUTS: Record<string, Step> = {
  'remove(userKey)': (session) => session.remove('userId'),
  'take(userKey)': (session) => void session.take('userId'),
  'set(userKey, undefined)': (session) => session.set('userId', undefined),
  'set(userKey, null)': (session) => session.set('userId', null),
  'update(userKey) to undefined': (session) => session.update('userId', () => undefined as never),
  'update(userKey) to null': (session) => session.update('userId', () => null),
  'clear()': (session) => session.clear(),
  'invalidate()': (session) => session.invalidate()
}
/** The logouts that remove everything, also what the request has set before. */
const WHOLE = ['clear()', 'invalidate()']

for (const [name, logout] of Object.entries(LOGOUTS)) {
  void t.test(`${name} is a logout: the session ends and its cookie is cleared`, async (t) => {
    const { signIn, attempt, browser, memory } = await setUp(t)
    const ended = listen(t, 'destroyed')
    const id = await signIn()
    const { result, response, storeCalls, cookies } = await attempt((session) => {
      logout(session)
      return [valuesOf(session), session.authenticatedAt, session.isNew, session.id === id]
    })
    t.equal(response.statusCode, 200)
    t.same(result, [{}, undefined, true, false])
    t.same(storeCalls, [
      ['get', id],
      ['destroy', id]
    ])
    t.match(cookies, [/^session_id=; Max-Age=0; /])
    t.same([memory.size, [...browser.cookies]], [0, []])
    t.match(ended, [{ id, reason: 'invalidated' }])
  })

  void t.test(`${name} holds on a 5xx reply`, async (t) => {
    const { signIn, attempt, memory } = await setUp(t)
    const id = await signIn()
    const { response, calls, cookies } = await attempt((session) => {
      session.set('early', 1)
      logout(session)
      session.set('late', 1)
      session.setFlash('note', 'bye')
      throw new Error('the handler failed')
    })
    t.equal(response.statusCode, 500)
    t.same(calls, ['get', 'destroy'])
    t.match(cookies, [/^session_id=; Max-Age=0; /])
    t.same([memory.get(id), memory.size], [undefined, 0])
  })

  for (const [kind, store] of [
    ['a synchronous store', (memory: MemoryStore) => memory],
    ['an asynchronous store', (memory: MemoryStore) => slowStore(memory)]
  ] as const) {
    void t.test(`${name}: what the request sets goes into a fresh session (${kind})`, async (t) => {
      const memory = new MemoryStore()
      const { signIn, attempt, visit, browser, clock, app } = await setUp(t, { store: store(memory) })
      const id = await signIn()
      clock.move(30_000)
      const { calls, cookies } = await attempt((session) => {
        session.set('early', 1)
        session.update('count', (count) => Number(count) + 1)
        logout(session)
        session.set('late', 1)
        session.update('role', (role) => `was ${String(role)}`)
      })
      t.same(calls, ['get', 'destroy', 'create'])
      t.match(cookies, [/^session_id=\*; Max-Age=86400; /])
      const next = idOfCookie(`session_id=${browser.cookies.get('session_id')}`)
      t.not(next, id)
      const early = WHOLE.includes(name) ? {} : { early: 1 }
      t.same((await visit(valuesOf)).result, { ...early, late: 1, role: 'was undefined' })
      t.match(memory.get(next), { createdAt: Date.now(), userId: null })
      const keys = Object.keys(memory.get(next)?.data ?? {})
      t.same(keys.sort(), [...Object.keys(early), 'late', 'role'], 'no lifetime, secret or flash message')
      t.same(await app.sessionManager.list('ada'), [])
    })
  }

  void t.test(`${name}, then own keys: the visitor cookie holds them`, async (t) => {
    const { signIn, visit, memory, browser } = await setUp(t)
    await signIn()
    const { calls, cookies } = await visit((session) => {
      logout(session)
      session.setFlash('bye', 'you are signed out')
    })
    t.same(calls, ['get', 'destroy'])
    t.equal(cookies.length, 2)
    t.same([memory.size, [...browser.cookies.keys()]], [0, ['session_id_visitor']])
    const { result } = await visit((session) => [session.getFlash('bye'), session.getFlash('note')])
    t.same(result, ['you are signed out', undefined], 'the user’s own messages are gone')
  })

  void t.test(`${name}, then a login as another user: only the new user’s session lives`, async (t) => {
    const { signIn, visit, stored, memory, clock } = await setUp(t)
    await signIn()
    clock.move(5000)
    const { calls } = await visit((session) => {
      logout(session)
      session.login('eve')
    })
    t.same(calls, ['get', 'destroy', 'create'])
    t.equal(memory.size, 1)
    t.match(stored(), { userId: 'eve', createdAt: Date.now(), expiresAt: Date.now() + 86_400_000 })
    t.same((await visit(valuesOf)).result, { userId: 'eve' })
  })

  void t.test(`${name} of a session that has ended meanwhile is answered, without a cookie`, async (t) => {
    const { signIn, attempt, memory } = await setUp(t)
    const id = await signIn()
    const { response, cookies } = await attempt((session) => {
      memory.destroy(id)
      logout(session)
    })
    t.same([response.statusCode, cookies], [200, []])
  })
}

void t.test('take(userKey) returns the user whom it logs out', async (t) => {
  const { signIn, visit } = await setUp(t)
  await signIn()
  t.equal((await visit((session) => session.take('userId'))).result, 'ada')
})

void t.test('removing the user of a session without a user is not a change', async (t) => {
  const { visit, memory } = await setUp(t)
  for (const [name, logout] of Object.entries(LOGOUTS)) {
    const visitor = await visit(logout)
    t.same([visitor.calls, visitor.cookies], [[], []], name)
  }
  await visit((session) => session.set('cart', 1))
  for (const [name, logout] of Object.entries(LOGOUTS).filter(([name]) => !WHOLE.includes(name))) {
    const { calls, cookies, result } = await visit((session) => {
      logout(session)
      return session.modified
    })
    t.same([calls, cookies, result], [['get'], [], false], name)
  }
  t.same((await visit(valuesOf)).result, { cart: 1 })
  t.equal(memory.size, 1)
})

void t.test('clear() of an anonymous session removes its data, and the session stays', async (t) => {
  const { visit, stored, idNow } = await setUp(t)
  await visit((session) => {
    session.set('cart', 1)
    session.setFlash('note', 'hello')
  })
  const id = idNow()
  const { calls, cookies } = await visit((session) => session.clear())
  t.same([calls, cookies], [['get', 'update'], []])
  t.equal(idNow(), id)
  t.same(stored()?.data, {})
})

void t.test('a login that the same request takes back leaves nobody signed in', async (t) => {
  const { visit, app, browser, stored } = await setUp(t)
  const takeBack = Object.entries(LOGOUTS).filter(([name]) => name !== 'invalidate()')
  for (const [name, logout] of takeBack) {
    browser.cookies.clear()
    const fresh = await visit((session) => {
      session.login('ada')
      logout(session)
    })
    t.same([fresh.calls, fresh.cookies], [[], []], name)
    await visit((session) => session.set('cart', 1))
    const { result } = await visit((session) => {
      session.login('ada')
      logout(session)
      return [session.authenticatedAt, session.get('userId')]
    })
    t.same(result, [undefined, undefined], name)
    t.same(await app.sessionManager.list('ada'), [], name)
    t.equal(stored()?.userId, null, name)
  }
})

void t.test('a login as another user and then a logout ends the loaded session', async (t) => {
  const { signIn, visit, memory } = await setUp(t)
  for (const [name, logout] of Object.entries(LOGOUTS)) {
    await signIn()
    const { calls } = await visit((session) => {
      session.login('eve')
      logout(session)
    })
    t.same([calls, memory.size], [['get', 'destroy'], 0], name)
  }
})

void t.test('a logout makes the CSRF tokens of before invalid', async (t) => {
  const { app, signIn, visit, browser } = await setUp(t)
  app.post('/guarded', { preHandler: app.csrfProtection }, async () => 'passed')
  for (const [name, logout] of Object.entries(LOGOUTS)) {
    await signIn()
    const { result: token } = await visit((_session, _request, reply) => reply.generateCsrf())
    await visit((session) => {
      logout(session)
      session.set('cart', 1)
    })
    const headers = { 'x-csrf-token': token, 'sec-fetch-site': 'same-origin' }
    const { statusCode } = await browser.request({ method: 'POST', url: '/guarded', headers })
    t.equal(statusCode, 403, name)
  }
})

void t.test('on a readonly route a logout throws', async (t) => {
  const { signIn, visit, browser } = await setUp(t)
  const id = await signIn()
  await visit(
    (session) => {
      for (const [name, logout] of Object.entries(LOGOUTS))
        t.throws(() => logout(session), { code: 'SESSION_READONLY' }, name)
    },
    browser,
    'readonly'
  )
  t.equal((await visit((session) => session.id)).result, id)
})

void t.test('take() returns a value and removes it', async (t) => {
  const { visit } = await setUp(t)
  await visit((session) => {
    session.set('list', [1, 2])
    session.set('name', 'ada')
  })
  const { result, calls } = await visit((session) => {
    const taken = [session.take('list'), session.take('list'), session.take('absent'), session.has('list')]
    return taken
  })
  t.same(
    [result, calls],
    [
      [[1, 2], undefined, undefined, false],
      ['get', 'update']
    ]
  )
  t.same((await visit(valuesOf)).result, { name: 'ada' })
  t.same((await visit((session) => session.take('absent'))).calls, ['get'], 'an absent key is not a change')
})

void t.test('set(key, undefined) removes the value', async (t) => {
  const { visit, stored } = await setUp(t)
  await visit((session) => {
    session.set('name', 'ada')
    session.set('other', 1)
  })
  const { result } = await visit((session) => {
    session.set('name', undefined)
    session.set('absent', undefined)
    return [session.has('name'), session.get('name'), session.keys()]
  })
  t.same(result, [false, undefined, ['other']])
  t.same(stored()?.data, { other: '1' })
  t.same((await visit((session) => session.set('name', undefined))).calls, ['get'])
})
