import type { AddressInfo } from 'node:net'
import type { FastifyServerOptions } from 'fastify'
import type { InjectOptions, Response } from 'light-my-request'
import t, { type Test } from 'tap'
import { idOfToken } from '../../plugin/cookies/tokens.js'
import { MemoryStore, requireAuth, type Session, type SessionOptions } from '../../plugin/index.js'
import { Browser, contextOf, makeApp } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { makeRecord, spyStore } from '../fixtures/stores.js'
import { openWire, requestText } from '../sockets/fixtures/wire.js'

// Tests how requireAuth remembers the page that was asked for, and how `takeReturnTo` returns it after the login.

const PAGE = { accept: 'text/html', 'sec-fetch-mode': 'navigate' }
const HOUR = 3_600_000
const ORIGIN = 'http://app.test'

type Change = (session: Session) => void

async function setUp(t: Test, options: Partial<SessionOptions> = {}, server: FastifyServerOptions = {}) {
  const clock = stopClock(t)
  const store = spyStore(options.store)
  const app = await makeApp(t, { cleanupInterval: 0, ...options, store }, server)
  const changes: Change[] = []
  app.get('/change/:index', async ({ session, params }) => {
    changes[Number((params as { index: string }).index)]?.(session)
    return 'changed'
  })
  app.get('/back', async ({ session }) => session.takeReturnTo())
  app.get('/back/home', async ({ session }) => session.takeReturnTo('/home?new=1'))
  app.route({
    method: ['GET', 'POST'],
    url: '/*',
    preHandler: requireAuth({ freshWithin: 300 }),
    handler: async () => 'guarded'
  })
  const browser = new Browser(app)

  /** Asks for a guarded page, from which the browser is redirected to the login. */
  async function ask(url: string, options: InjectOptions = {}, client = browser): Promise<Response> {
    return client.request({ url, headers: PAGE, ...options })
  }
  /** Changes the session of the browser in a request of its own. */
  async function change(work: Change): Promise<void> {
    const { statusCode } = await browser.get(`/change/${changes.push(work) - 1}`)
    if (statusCode !== 200) throw new Error('the change failed')
  }
  /** Returns the page to return to, and forgets it. */
  const back = async (client = browser) => (await client.get('/back')).payload
  return { app, browser, store, clock, ask, change, back }
}

void t.test('takeReturnTo() returns the page that was asked for, with its query string', async (t) => {
  const { ask, back, change } = await setUp(t)
  for (const url of ['/orders', '/orders?page=2&sort=%C3%BC', '/', '/%2F/evil.test', '/a?next=//b.test']) {
    t.equal((await ask(url)).headers['location'], '/login')
    await change((session) => session.login('ada'))
    t.equal(await back(), url)
    await change((session) => session.invalidate())
  }
})

void t.test('takeReturnTo() forgets the page, and then returns the fallback', async (t) => {
  const { ask, back, browser } = await setUp(t)
  t.equal(await back(), '/')
  t.equal((await browser.get('/back/home')).payload, '/home?new=1')
  await ask('/orders')
  t.equal((await browser.get('/back/home')).payload, '/orders')
  t.equal((await browser.get('/back/home')).payload, '/home?new=1')
})

void t.test('takeReturnTo() does not forget the page on HEAD and prefetch requests', async (t) => {
  const { ask, back, browser } = await setUp(t)
  await ask('/orders')
  await browser.request({ method: 'HEAD', url: '/back' })
  const prefetched = await browser.get('/back', { 'sec-purpose': 'prefetch;prerender' })
  t.same([prefetched.payload, await back(), await back()], ['/orders', '/orders', '/'])
})

void t.test('the page that was asked for last is remembered', async (t) => {
  const { ask, back } = await setUp(t)
  for (const url of ['/first', '/second', '/second', '/third']) await ask(url)
  t.equal(await back(), '/third')
})

void t.test('only GET navigations are remembered', async (t) => {
  const { app, ask, back } = await setUp(t)
  for (const [name, options, isKept] of [
    ['a navigation', {}, true],
    ['a browser without Fetch Metadata', { headers: { accept: 'text/html' } }, true],
    ['curl', { headers: { accept: '*/*' } }, true],
    ['a frame', { headers: { ...PAGE, 'sec-fetch-dest': 'iframe' } }, true],
    ['HEAD', { method: 'HEAD' }, false],
    ['POST', { method: 'POST' }, false],
    ['prefetch', { headers: { ...PAGE, 'sec-purpose': 'prefetch' } }, false],
    ['prerender', { headers: { ...PAGE, 'sec-purpose': 'prefetch;prerender' } }, false],
    ['a script that loads HTML', { headers: { ...PAGE, 'sec-fetch-mode': 'cors' } }, false],
    ['a same-origin script', { headers: { ...PAGE, 'sec-fetch-mode': 'same-origin' } }, false],
    ['JSON', { headers: { accept: 'application/json' } }, false],
    ['fetch', { headers: { accept: '*/*', 'sec-fetch-mode': 'cors' } }, false]
  ] as const) {
    const browser = new Browser(app)
    const { statusCode } = await ask('/orders', options, browser)
    t.equal(await back(browser), isKept ? '/orders' : '/', `${name}: ${statusCode}`)
  }
})

void t.test('requireAuth({ loginPath: false }) remembers nothing', async (t) => {
  const { app, ask, back, browser } = await setUp(t)
  app.get('/api/*', { preHandler: requireAuth({ loginPath: false }) }, async () => 'guarded')
  t.match((await ask('/api/orders')).json(), { statusCode: 401, code: 'SESSION_UNAUTHENTICATED' })
  t.equal(browser.cookie, '')
  t.equal(await back(), '/')
})

void t.test('a page is remembered for an hour', async (t) => {
  const { ask, back, clock, app } = await setUp(t)
  const late = new Browser(app)
  for (const client of [undefined, late]) await ask('/orders', {}, client)
  clock.move(HOUR - 1)
  t.equal(await back(), '/orders')
  clock.move(1)
  t.equal(await back(late), '/')
})

void t.test('a path of at most 1,024 bytes is remembered', async (t) => {
  const { app, ask, back } = await setUp(t)
  for (const [length, isKept] of [
    [1024, true],
    [1025, false],
    [8192, false]
  ] as const) {
    const browser = new Browser(app)
    const url = `/${'a'.repeat(length - 1)}`
    await ask(url, {}, browser)
    t.equal(await back(browser), isKept ? url : '/', `${length}`)
  }
})

void t.test('a path that does not fit into the visitor cookie is not remembered', async (t) => {
  const { ask, back, change, browser } = await setUp(t)
  await change((session) => session.setFlash('note', 'x'.repeat(2000)))
  t.equal((await ask(`/${'a'.repeat(900)}`)).headers['location'], '/login')
  t.equal(await back(), '/')
  await ask('/orders')
  t.equal(await back(), '/orders')
  t.ok(browser.cookie.length < 4096)
})

const CHANGES: Record<string, Change> = {
  'login()': (session) => session.login('ada'),
  'login() with keep': (session) => session.login('ada', { keep: ['cart'] }),
  'set(userKey)': (session) => session.set('userId', 'ada'),
  'regenerate()': (session) => session.regenerate(),
  'regenerate() and set(userKey)': (session) => {
    session.regenerate()
    session.set('userId', 'ada')
  },
  'regenerate(keep) and set(userKey)': (session) => {
    session.regenerate(['cart'])
    session.set('userId', 'ada')
  },
  'data of the application': (session) => session.set('cart', 1)
}
const BEFORE: Record<string, Change> = {
  'a visitor': () => undefined,
  'an anonymous session': (session) => session.set('cart', 1),
  'a stale session of the same user': (session) => session.login('ada')
}

for (const [change, work] of Object.entries(CHANGES)) {
  for (const [before, begin] of Object.entries(BEFORE)) {
    void t.test(`the page that ${before} asked for survives ${change}`, async (t) => {
      const { clock, ask, back, change } = await setUp(t)
      await change(begin)
      clock.move(300_000)
      t.equal((await ask('/orders')).headers['location'], '/login')
      await change(work)
      t.equal(await back(), '/orders')
      t.equal(await back(), '/')
    })
  }
}

for (const [name, work] of Object.entries(CHANGES).filter(([name]) => /login|userKey/.test(name))) {
  void t.test(`F3: the page that one user asked for is gone after ${name} as another`, async (t) => {
    const { clock, ask, back, change } = await setUp(t)
    await change((session) => session.login('bob'))
    clock.move(300_000)
    await ask('/bobs-orders')
    await change(work)
    t.equal(await back(), '/')
  })
}

void t.test('a logout forgets the page', async (t) => {
  const { clock, ask, back, change } = await setUp(t)
  for (const begin of Object.values(BEFORE)) {
    await change(begin)
    clock.move(300_000)
    await ask('/orders')
    await change((session) => session.invalidate())
    t.equal(await back(), '/')
  }
})

void t.test('F5: a visitor who is sent to the login makes no store call', async (t) => {
  const { app, ask, back, store } = await setUp(t)
  for (let page = 0; page < 100; page++) {
    const browser = new Browser(app)
    await ask(`/orders/${page}`, {}, browser)
    await ask(`/orders/${page}?again`, {}, browser)
    t.equal(await back(browser), `/orders/${page}?again`)
    await back(browser)
  }
  t.same(store.take(), [])
})

void t.test('asking for the same page again changes nothing in a stale session', async (t) => {
  const { clock, ask, back, change, store } = await setUp(t)
  await change((session) => session.login('ada'))
  clock.move(300_000)
  store.take()
  const calls = []
  for (const url of ['/orders', '/orders', '/account']) {
    await ask(url)
    calls.push(store.takeNames())
  }
  t.same(calls, [['get', 'update'], ['get'], ['get', 'update']])
  t.equal(await back(), '/account')
})

void t.test('on a readonly route, the page is remembered for a visitor only', async (t) => {
  const { app, clock, ask, back, change, store } = await setUp(t)
  const preHandler = requireAuth({ freshWithin: 300 })
  app.get('/readonly/*', { config: { session: 'readonly' }, preHandler }, async () => 'guarded')
  await ask('/readonly/orders')
  t.equal(await back(), '/readonly/orders')
  await change((session) => session.login('ada'))
  clock.move(300_000)
  store.take()
  t.equal((await ask('/readonly/orders')).headers['location'], '/login')
  t.same(store.takeNames(), ['get'])
  t.equal(await back(), '/')
})

void t.test('the path is remembered as the browser sent it, before rewriteUrl', async (t) => {
  const rewriteUrl = ({ url = '' }) => url.replace('/en/', '/rewritten/')
  const { ask, back } = await setUp(t, {}, { rewriteUrl })
  await ask('/en/orders?page=2')
  t.equal(await back(), '/en/orders?page=2')
})

/** Paths that are kept, although some of them look like URLs of another host: browsers resolve them to this origin. */
const HARMLESS = [
  '/',
  '/evil.test',
  '/%2F/evil.test',
  '/%2f%2fevil.test',
  '/%5Cevil.test',
  '/%09/evil.test',
  '/.//evil.test',
  '/a/..//evil.test',
  '/@evil.test',
  '/:80@evil.test/',
  '/https:evil.test',
  '/?https://evil.test',
  '/?next=//evil.test',
  '/a"<script>alert(1)</script>'
]
/** Paths that are never kept, because a browser would open another host or because they are no plain ASCII paths. */
const HOSTILE = [
  '//evil.test',
  '///evil.test',
  '////evil.test/a',
  '/\\evil.test',
  '/\\/evil.test',
  '\\\\evil.test',
  '\\/evil.test',
  '/a\\b',
  '/\t/evil.test',
  '/\n/evil.test',
  '/\r/evil.test',
  ' //evil.test',
  '\t//evil.test',
  '/a b',
  '/\u0000',
  '/\u001f',
  '/\u007f',
  '/\u0085',
  '/\u00fc',
  '/\u2028',
  '/\ufeff/evil.test',
  '/\u{1f600}',
  'https:evil.test',
  'https:/evil.test',
  'https://evil.test',
  'http://app.test/a',
  'http:a',
  'javascript:alert(1)',
  'data:text/html,x',
  'evil.test',
  '*',
  '?a',
  '#a',
  '',
  `/${'a'.repeat(1024)}`,
  `/${'a'.repeat(8192)}`
]

/** Encodes a path, so that its characters cannot break tap's output. */
const show = (path: string): string => encodeURI(path).slice(0, 80)

void t.test('F7: every path that is kept is a path of this origin', async (t) => {
  for (const path of HARMLESS) t.equal(new URL(path, ORIGIN).origin, ORIGIN, path)
})

void t.test('F7: a hostile path in the request is refused or not kept', async (t) => {
  const { app, back } = await setUp(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  for (const [paths, isKept] of [
    [HARMLESS, true],
    [HOSTILE, false]
  ] as const) {
    for (const path of paths) {
      const wire = await openWire(port)
      wire.write(requestText(Buffer.from(path).toString('latin1'), { ...PAGE, connection: 'close' }))
      const { status, headers, cookies } = await wire.next()
      const name = `${status} ${show(path)}`
      const browser = new Browser(app)
      for (const [, name = '', value = ''] of cookies.map((text) => /^([^=]+)=([^;]*)/.exec(text) ?? []))
        browser.cookies.set(name, value)
      t.equal(await back(browser), isKept ? path : '/', name)
      t.ok(status === 302 ? headers['location'] === '/login' : !isKept && status < 500, name)
    }
  }
})

const NEVER_IN_A_REQUEST: readonly unknown[] = [
  '/a\r\nset-cookie: a=b',
  5,
  true,
  null,
  [],
  ['/a'],
  {},
  { toString: '/a' }
]

void t.test('F7: a hostile path in a visitor cookie or in the store is not returned', async (t) => {
  const memory = new MemoryStore()
  const { app, back } = await setUp(t, { store: memory })
  const { tokens, visitors } = contextOf(app)
  const withinHour = (value: unknown) => ({ value, at: Date.now() })
  const cases = [
    ...HARMLESS.map((path) => [withinHour(path), path] as const),
    ...[...HOSTILE, ...NEVER_IN_A_REQUEST].map((path) => [withinHour(path), '/'] as const),
    ...['/a', null, [], { value: '/a' }, { value: '/a', at: 'now' }, { value: '/a', at: null }].map(
      (stored) => [stored, '/'] as const
    ),
    [{ value: '/a', at: Date.now() - HOUR }, '/']
  ] as const
  for (const [stored, expected] of cases) {
    const data = { $returnTo: JSON.stringify(stored) }
    const token = tokens.mint()
    memory.create(idOfToken(token), makeRecord({ data }))
    const browsers = { store: new Browser(app), cookie: new Browser(app) }
    browsers.store.cookies.set('session_id', tokens.sign(token))
    if (visitors.fits(data)) browsers.cookie.cookies.set('session_id_visitor', visitors.seal(data, undefined))
    for (const [where, browser] of Object.entries(browsers))
      t.equal(await back(browser), expected, `${where}: ${show(data.$returnTo)}`)
  }
})
