import t, { type Test } from 'tap'
import type { Session, SessionOptions } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { listen } from '../fixtures/diagnostics.js'
import { makeVisits, valuesOf, type Work } from '../fixtures/visits.js'

// These tests cover what a visitor's cookie does. See visitor-cookie.test.ts for the cookie itself.

const VISITOR = 'session_id_visitor'

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const clock = stopClock(t)
  const visits = await makeVisits(t, options)
  const { app, browser, memory, visit } = visits
  app.post('/guarded', { preHandler: app.csrfProtection }, async () => 'passed')
  const stored = () => memory.get(idOfCookie(`session_id=${browser.cookies.get('session_id')}`))

  /** Prints a CSRF token, as a page with a form does. */
  const print = async (client = browser) =>
    (await visit((_session, _request, reply) => reply.generateCsrf(), client)).result

  /** Posts a form, and returns the status of the reply. */
  async function post(token: string, site: string | null = 'same-origin', client = browser) {
    const headers = { 'x-csrf-token': token, ...(site !== null && { 'sec-fetch-site': site }) }
    return (await client.request({ method: 'POST', url: '/guarded', headers })).statusCode
  }
  return { ...visits, clock, stored, print, post }
}

const note = (session: Session): unknown => session.getFlash('note')
const setNote = (session: Session): void => session.setFlash('note', 'hello')

void t.test('a visitor’s flash message is shown once and costs no store call', async (t) => {
  const { store, visit, browser } = await setUp(t)
  await visit(setNote)
  const works: Work<unknown>[] = [(session) => session.peekFlash('note'), note]
  for (const work of works) t.match(await visit(work), { result: 'hello', calls: [] })
  t.equal(browser.cookies.size, 0)
  t.match(await visit(note), { result: undefined, calls: [], cookies: { length: 0 } })
  t.same(store.take(), [])
})

void t.test('a visitor’s token works, and no other one does', async (t) => {
  const { app, print, post, store } = await setUp(t)
  const [first, second] = [await print(), await print()]
  t.not(first, second)
  t.same([await post(first), await post(second), await post(first)], [200, 200, 200])
  const other = new Browser(app)
  const foreign = await print(other)
  t.same([await post(foreign), await post('x'), await post(first, 'same-origin', other)], [403, 403, 403])
  t.equal(await post(first, 'same-origin', new Browser(app)), 403, 'without the cookie')
  t.equal(await post(first, 'cross-site'), 403)
  t.same(store.take(), [])
})

void t.test('F5: 1,000 visits of a page with a form and a message make no store call', async (t) => {
  const { app, visit, store } = await setUp(t)
  const created = listen(t, 'created')
  for (let count = 0; count < 1000; count++) {
    const { calls } = await visit((session, _request, reply) => {
      session.setFlash('error', 'Please login to continue')
      return [reply.generateCsrf(), session.getFlash('note'), session.id, session.get('userId')]
    }, new Browser(app))
    if (calls.length > 0) t.fail(calls.join())
  }
  t.same([store.take(), created], [[], []])
})

void t.test('data moves the visitor’s own keys into a session, where the tokens stay valid', async (t) => {
  const { visit, print, post, browser, stored } = await setUp(t)
  const token = await print()
  await visit(setNote)
  const { calls } = await visit((session) => session.set('cart', 1))
  t.same(calls, ['create'])
  t.same([...browser.cookies.keys()], ['session_id'])
  t.same(Object.keys(stored()?.data ?? {}).sort(), ['$csrf', '$flash.note', 'cart'])
  t.equal(await post(token), 200)
  t.equal((await visit(note)).result, 'hello')
})

for (const [name, login] of Object.entries({
  'login()': (session: Session) => session.login('ada'),
  'set(userKey)': (session: Session) => session.set('userId', 'ada'),
  'login() with keep': (session: Session) => session.login('ada', { keep: [] })
})) {
  void t.test(`${name} moves the visitor’s flash messages, and its tokens become invalid`, async (t) => {
    const { app, visit, print, post, browser, stored } = await setUp(t)
    const token = await print()
    await visit(setNote)
    const tossed = browser.cookies.get(VISITOR) as string
    const { calls } = await visit((session) => {
      session.setFlash('welcome', 'Hello')
      login(session)
    })
    t.same(calls, ['create'])
    t.same([...browser.cookies.keys()], ['session_id'])
    t.same(Object.keys(stored()?.data ?? {}).sort(), ['$flash.note', '$flash.welcome', 'userId'])
    t.equal(await post(token), 403)
    browser.cookies.set(VISITOR, tossed)
    t.equal(await post(token), 403, 'D4, F6: even if the cookie of before comes again')
    t.equal((await visit(note)).result, 'hello')
    t.equal(await post(token, 'same-origin', new Browser(app)), 403)
  })
}

void t.test('a token that is printed after a login or rotation in the same request works', async (t) => {
  const { visit, post, browser } = await setUp(t)
  for (const before of [() => undefined, (session: Session) => session.set('cart', 1)]) {
    for (const renew of [
      (session: Session) => session.login('ada'),
      (session: Session) => session.regenerate(),
      (session: Session) => session.invalidate()
    ]) {
      browser.cookies.clear()
      await visit(before)
      const { result } = await visit((session, _request, reply) => {
        const early = reply.generateCsrf()
        renew(session)
        return [early, reply.generateCsrf()]
      })
      t.same([await post(result[0] as string), await post(result[1] as string)], [403, 200])
    }
  }
})

void t.test('beside a live session, nothing of a visitor cookie counts', async (t) => {
  const { app, visit, browser, print, post } = await setUp(t)
  const visitor = new Browser(app)
  await visit(setNote, visitor)
  const token = await print(visitor)
  for (const begin of [
    (session: Session) => session.set('cart', 1),
    (session: Session) => session.login('ada')
  ]) {
    await visit(begin)
    browser.cookies.set(VISITOR, visitor.cookies.get(VISITOR) as string)
    const { result, calls, cookies } = await visit((session) => [session.peekFlash('note'), note(session)])
    t.same([result, calls, cookies], [[undefined, undefined], ['get'], []])
    for (const site of [null, 'none', 'same-site', 'cross-site'])
      t.equal(await post(token, site), 403, `Sec-Fetch-Site: ${site}`)
    await visit((session) => session.invalidate())
  }
})

void t.test('F6: beside a session its token counts only where the browser says same-origin', async (t) => {
  const { app, clock, visit, browser, print, post } = await setUp(t)
  await visit((session) => session.login('ada'))
  clock.move(1000)
  // A link from another site with SameSite=Strict: the page with the form was printed without the session cookie.
  const withheld = new Browser(app)
  const token = await print(withheld)
  browser.cookies.set(VISITOR, withheld.cookies.get(VISITOR) as string)
  t.equal(await post(token, 'same-origin'), 200)
  for (const site of [null, 'none', 'same-site', 'cross-site', 'Same-Origin', 'same-origin, same-origin'])
    t.equal(await post(token, site), 403, `Sec-Fetch-Site: ${site}`)
  const own = await print()
  t.equal(await post(own), 200, 'the session’s own token still works')
  await visit((session) => session.login('ada'))
  browser.cookies.set(VISITOR, withheld.cookies.get(VISITOR) as string)
  t.equal(await post(token), 403, 'not after a login')
})

void t.test('a login beside a session takes over the visitor’s messages, except the secret', async (t) => {
  const { app, visit, browser, print, stored } = await setUp(t)
  for (const before of ['ada', 'eve', undefined]) {
    browser.cookies.clear()
    await visit((session) => {
      if (before !== undefined) session.login(before)
      session.set('cart', 1)
      session.setFlash('old', 'of the session')
      session.setFlash('note', 'of the session')
    })
    const withheld = new Browser(app)
    await print(withheld)
    await visit(setNote, withheld)
    browser.cookies.set(VISITOR, withheld.cookies.get(VISITOR) as string)
    const { calls } = await visit((session) => session.login('ada'))
    t.same(calls, ['get', 'update'])
    t.equal(browser.cookies.has(VISITOR), false)
    t.equal(stored()?.data.$csrf, undefined)
    const { result } = await visit((session) => [session.getFlash('note'), session.getFlash('old')])
    t.same(result, ['hello', before === 'eve' ? undefined : 'of the session'])
  }
})

void t.test('of two replies to one visitor, the later cookie wins whole', async (t) => {
  const { app, visit, print, post } = await setUp(t)
  const [one, two] = [new Browser(app), new Browser(app)]
  const [first, second] = [await print(one), await print(two)]
  await visit(setNote, one)
  // Both tabs belong to one browser, which keeps the cookie that came last.
  const browser = new Browser(app)
  browser.cookies.set(VISITOR, two.cookies.get(VISITOR) as string)
  t.same([await post(first, 'same-origin', browser), await post(second, 'same-origin', browser)], [403, 200])
  t.equal((await visit(note, browser)).result, undefined)
})

void t.test(
  'F2: a visitor cookie leaves the session cookie of another server or an ended session alone',
  async (t) => {
    const { app, visit, browser } = await setUp(t)
    const other = await makeVisits(t, { secret: 'the secret of a server that is older' })
    await other.visit((session) => session.login('ada'))
    const foreign = other.browser.cookies.get('session_id') as string
    await visit((session) => session.set('cart', 1))
    const ended = browser.cookies.get('session_id') as string
    await visit((session) => session.invalidate())
    for (const value of [foreign, ended, 'x']) {
      const client = new Browser(app)
      client.cookies.set('session_id', value)
      const works: Work<unknown>[] = [
        setNote,
        (_session, _request, reply) => reply.generateCsrf(),
        (session) => session.regenerate(),
        (session) => session.clear(),
        (session) => session.invalidate(),
        note
      ]
      for (const work of works) {
        const { cookies } = await visit(work, client)
        for (const cookie of cookies) t.match(cookie, /^session_id_visitor=/)
      }
      t.equal(client.cookies.get('session_id'), value)
      await visit((session) => session.set('cart', 1), client)
      t.not(client.cookies.get('session_id'), value, 'data makes a session')
    }
  }
)

void t.test('an invalidate() of a visitor forgets the visitor cookie, and makes no store call', async (t) => {
  const { visit, browser, print, post, app } = await setUp(t)
  const bare = await visit((session) => session.invalidate(), new Browser(app))
  t.same([bare.calls, bare.cookies], [[], []])
  const token = await print()
  await visit(setNote)
  const { result, calls, cookies } = await visit((session) => {
    session.invalidate()
    return session.peekFlash('note')
  })
  t.same([result, calls], [undefined, []])
  t.match(cookies, [/^session_id_visitor=; Max-Age=0; /])
  t.same([browser.cookies.size, await post(token)], [0, 403])
})

void t.test('a visitor is new, and modified when the visitor cookie will change', async (t) => {
  const { visit, clock } = await setUp(t)
  const seen = (work: Work<unknown>) =>
    visit(async (session, ...others) => {
      await work(session, ...others)
      return [session.isNew, session.modified]
    })
  const printToken: Work<unknown> = (_session, _request, reply) => reply.generateCsrf()
  const expectations: [work: Work<unknown>, modified: boolean][] = [
    [() => undefined, false],
    [note, false],
    [(session) => session.peekFlash('note'), false],
    [(session) => session.regenerate(), false],
    [setNote, true],
    [setNote, false],
    [(session) => session.peekFlash('note'), false],
    [note, true],
    [printToken, true],
    [printToken, false],
    [() => clock.move(8_640_000), false],
    [printToken, true],
    [(session) => session.invalidate(), true]
  ]
  for (const [index, [work, modified]] of expectations.entries()) {
    const { result, cookies } = await seen(work)
    t.same(result, [true, modified], String(index))
    t.equal(cookies.length > 0, modified, `${index}: the cookie`)
  }
})

void t.test(
  'a visitor’s id is what a session of this request would get, and another in the next',
  async (t) => {
    const { visit, print, browser } = await setUp(t)
    await print()
    const ids = new Set<string>()
    for (let count = 0; count < 10; count++) {
      const { result } = await visit((session) => [session.id, session.id])
      t.equal(result[0], result[1])
      ids.add(result[0] as string)
    }
    t.equal(ids.size, 10)
    const { result, storeCalls } = await visit((session) => {
      const { id } = session
      session.set('cart', 1)
      return id
    })
    t.same(
      [storeCalls[0]?.[1], idOfCookie(`session_id=${browser.cookies.get('session_id')}`)],
      [result, result]
    )
  }
)

void t.test('list and sessionManager.get() know no visitors', async (t) => {
  const { app, visit, print } = await setUp(t)
  await print()
  await visit(setNote)
  const { result } = await visit(async (session, request) => [
    await app.sessionManager.get(request),
    await app.sessionManager.list('null'),
    (await app.sessionManager.getOrCreate(request)) === session
  ])
  t.same(result, [undefined, [], true])
})

void t.test('on a readonly route a visitor’s cookie may be set, and a session is not made', async (t) => {
  const { visit, attempt, browser, app, print, post } = await setUp(t)
  const flashed = await visit(setNote, browser, 'readonly')
  t.match([flashed.calls, flashed.cookies], [[], [/^session_id_visitor=\*/]])
  t.match(await visit(note, browser, 'readonly'), { result: 'hello', calls: [], cookies: [/Max-Age=0/] })
  const printed = await visit((_session, _request, reply) => reply.generateCsrf(), browser, 'readonly')
  t.equal(await post(printed.result), 200)
  for (const refused of [
    (session: Session) => session.set('cart', 1),
    (session: Session) => session.login('ada'),
    (session: Session) => session.invalidate()
  ]) {
    const { response, calls } = await attempt(refused, new Browser(app), 'readonly')
    t.match([response.json(), calls], [{ code: 'SESSION_READONLY' }, { length: 0 }])
  }
  await visit((session) => {
    session.set('cart', 1)
    setNote(session)
  })
  const touched = await attempt(setNote, browser, 'readonly')
  t.same([touched.calls, touched.cookies], [['get'], []], 'a stored session is not touched')
  t.equal((await visit(valuesOf, browser, 'readonly')).result.cart, 1)
  t.ok(await print())
})

for (const [name, options] of Object.entries({
  HEAD: { method: 'HEAD' as const },
  prefetch: { headers: { 'sec-purpose': 'prefetch' } },
  prerender: { headers: { 'sec-purpose': 'prefetch;prerender' } }
})) {
  void t.test(`a ${name} request reads a flash message without using it up`, async (t) => {
    const { attempt, visit, browser, app } = await setUp(t)
    for (const before of [() => undefined, (session: Session) => session.set('cart', 1)]) {
      const client = new Browser(app)
      await visit((session) => {
        before(session)
        setNote(session)
      }, client)
      const reads = client.cookies.has('session_id') ? ['get'] : []
      const { result, calls, cookies } = await attempt(
        (session) => [note(session), note(session)],
        client,
        'open',
        options
      )
      t.same([result, calls, cookies], [['hello', 'hello'], reads, []])
      t.equal((await visit(note, client)).result, 'hello', 'the next GET still sees it')
      t.equal((await visit(note, client)).result, undefined)
    }
    t.equal(browser.cookies.size, 0)
  })
}

void t.test('a 5xx reply does not use up a visitor’s message', async (t) => {
  const { attempt, visit } = await setUp(t)
  await visit(setNote)
  const { cookies } = await attempt((session) => {
    note(session)
    throw new Error('the handler failed')
  })
  t.same(cookies, [])
  t.equal((await visit(note)).result, 'hello')
})

for (const [onStoreError, status] of [
  ['anonymous', 200],
  ['fail', 503]
] as const) {
  void t.test(
    `after a failed load, no cookie of any kind is sent (onStoreError: '${onStoreError}')`,
    async (t) => {
      const { memory, visit, attempt, browser, app } = await setUp(t, { onStoreError })
      app.setErrorHandler(async (_error, { session }, reply) => {
        session.setFlash('error', 'sorry')
        return reply.code(503).send({ token: reply.generateCsrf(), flash: session.getFlash('note') })
      })
      await visit((session) => session.set('cart', 1))
      const withVisitor = new Browser(app)
      await visit(setNote, withVisitor)
      browser.cookies.set(VISITOR, withVisitor.cookies.get(VISITOR) as string)
      memory.get = () => {
        throw new Error('connection lost')
      }
      const { response, cookies } = await attempt((session, _request, reply) => {
        setNote(session)
        reply.generateCsrf()
        return session.getFlash('note')
      })
      t.same([response.statusCode, cookies], [status, []])
    }
  )
}
