import t from 'tap'
import { SessionOptionError } from '../../plugin/index.js'
import { Browser, makeApp, setCookieOf } from '../fixtures/app.js'
import { HOST, makeCsrfApp, OWN, post, postRaw, PROTECTIONS, verdictOf, visit } from '../fixtures/csrf.js'
import { spyStore } from '../fixtures/stores.js'

// These tests cover the origin check, which runs before the token check and refuses requests from other sites.

void t.test('only the exact origin that a browser sends for the requested host is accepted', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all', token: false }, { trustProxy: true })
  const send = async (scheme: string, host: string, origin: string) =>
    verdictOf(await post(new Browser(app), { 'x-forwarded-proto': scheme, host, origin }))
  for (const [scheme, host, origin] of [
    ['http', 'app.test', 'http://app.test'],
    ['http', 'app.test:80', 'http://app.test'],
    ['https', 'app.test:443', 'https://app.test'],
    ['HTTPS', 'app.test', 'https://app.test'],
    ['http', 'app.test:8080', 'http://app.test:8080'],
    ['https', 'app.test:80', 'https://app.test:80'],
    ['http', 'APP.Test', 'http://app.test'],
    ['http', 'app.test.', 'http://app.test.'],
    ['http', '[::1]:3000', 'http://[::1]:3000'],
    ['https', '[2001:DB8:0::1]', 'https://[2001:db8::1]'],
    ['http', '127.0.0.1:3000', 'http://127.0.0.1:3000'],
    ['http', 'xn--bcher-kva.test', 'http://xn--bcher-kva.test']
  ] as const) {
    t.equal(await send(scheme, host, origin), 'passes', `${scheme}, ${host}, ${origin}`)
  }
  for (const [scheme, host, origin] of [
    ['http', 'app.test', 'https://app.test'],
    ['https', 'app.test', 'http://app.test'],
    ['http', 'app.test', 'http://app.test:80'],
    ['http', 'app.test', 'http://app.test:8080'],
    ['http', 'app.test:8080', 'http://app.test'],
    ['http', 'app.test', 'HTTP://APP.TEST'],
    ['http', 'app.test', 'http://app.test.'],
    ['http', 'app.test', 'http://app.test/'],
    ['http', 'app.test', 'http://user@app.test'],
    ['http', 'app.test', 'http://app.test@evil.test'],
    ['http', 'app.test', 'http://app.test.evil.test'],
    ['http', 'app.test', 'http://app.test, http://evil.test'],
    ['http', 'app.test', 'http://evil.test http://app.test'],
    ['http', 'app.test', 'app.test'],
    ['http', 'app.test', 'null'],
    ['http', 'app.test', ''],
    ['http', '', 'http://app.test'],
    ['http', '', 'http://'],
    ['http', '', ''],
    ['http', '', 'undefined'],
    ['http', 'evil.test@app.test', 'http://app.test'],
    ['http', 'app.test/evil', 'http://app.test'],
    ['http', 'app.test\\evil', 'http://app.test'],
    ['http', 'app.test?evil', 'http://app.test'],
    ['http', 'app.test#evil', 'http://app.test'],
    ['http', 'app\t.test', 'http://app.test'],
    ['http', 'app.test:99999', 'http://app.test'],
    ['http', 'app.test:99999', 'undefined'],
    ['http', '[::1', 'http://[::1]'],
    ['http', 'b\u00fccher.test', 'http://b\u00fccher.test'],
    ['xhttp', 'app.test', 'http://app.test'],
    ['xhttp', 'app.test', 'null'],
    ['h2', 'app.test', 'null']
  ] as const) {
    t.equal(await send(scheme, host, origin), 'origin', `${scheme}, ${host}, ${origin}`)
  }
})

void t.test(
  'raw requests with mixed-case header names, repeated headers or no Host header do not bypass the CSRF checks',
  async (t) => {
    const server = { trustProxy: false, http: { requireHostHeader: false } }
    const app = await makeCsrfApp(t, { protect: 'all' }, server)
    const { browser, token } = await visit(app)
    const send = async (headers: Record<string, string | string[]>, more = {}) =>
      verdictOf(
        await postRaw(app, {
          path: '/target',
          headers: { Cookie: browser.cookie, 'X-CSRF-TOKEN': token, ...headers },
          ...more
        })
      )
    t.equal(await send({ HOST, ORIGIN: OWN }), 'passes')
    t.equal(
      await send({ HOST, 'X-Note': 'origin', Origin: OWN }),
      'passes',
      'a header value is not mistaken for a header name'
    )
    t.equal(await send({ HOST, oRiGiN: 'http://evil.test' }), 'origin')
    t.equal(await send({ HOST, 'SEC-FETCH-SITE': 'cross-site' }), 'origin')
    t.equal(await send({ HOST, Origin: [OWN, 'http://evil.test'] }), 'origin')
    t.equal(await send({ HOST, Origin: ['http://evil.test', OWN] }), 'origin')
    t.equal(
      await send({ HOST, Origin: ['http://app', '.test'] }),
      'origin',
      'repeated headers are not joined'
    )
    t.equal(await send({ HOST, 'Sec-Fetch-Site': ['same-origin', 'cross-site'] }), 'origin')
    t.equal(await send({ HOST, 'Sec-Fetch-Site': ['same-', 'origin'] }), 'origin')
    t.equal(await send({ HOST, Origin: OWN, 'X-CSRF-TOKEN': [token, token] }), 'token')
    t.equal(
      await send({ Origin: OWN }, { setHost: false }),
      'origin',
      'without a Host header no origin matches'
    )
    t.equal(await send({}, { setHost: false }), 'passes')
  }
)

void t.test('a route schema that removes headers does not hide the origin of a request', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeApp(t, { csrf: { protect } })
    const properties = { host: { type: 'string' }, 'x-csrf-token': { type: 'string' } }
    const headers = { type: 'object', properties, additionalProperties: false }
    app.get('/token', async (_request, reply) => reply.generateCsrf())
    app.post('/target', { schema: { headers }, preHandler: app.csrfProtection }, async () => 'target')
    const { browser, token } = await visit(app)
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
    for (const foreign of [{ origin: 'http://evil.test' }, { 'sec-fetch-site': 'cross-site' }]) {
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token, ...foreign })), 'origin')
    }
  }
})

void t.test('D9/CVE-2025-24358, CVE-2025-47909: a trusted origin must match exactly', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all', trustedOrigins: ['https://a.test'] })
  const { browser, token } = await visit(app)
  const send = (origin: string, more = {}) => post(browser, { origin, 'x-csrf-token': token, ...more })
  t.equal(verdictOf(await send('https://a.test')), 'passes')
  t.equal(verdictOf(await send('https://a.test', { 'sec-fetch-site': 'cross-site' })), 'passes')
  for (const origin of [
    'http://a.test',
    'https://a.test:444',
    'https://a.test:443',
    'https://a.test.evil',
    'https://evil.a.test',
    'https://evila.test',
    'https://a.test/',
    'https://a.test.',
    'https://A.test',
    'https://user@a.test',
    'https://a.test@evil.test',
    'https://a.test, https://evil.test',
    'https://evil.test#https://a.test',
    '//a.test',
    'a.test',
    'null',
    ''
  ]) {
    t.equal(verdictOf(await send(origin)), 'origin', origin)
    t.equal(verdictOf(await send(origin, { 'sec-fetch-site': 'cross-site' })), 'origin', origin)
  }
})

const SHELLS = [
  'capacitor://localhost',
  'ionic://localhost',
  'tauri://localhost',
  'chrome-extension://abcdefghijklmnopabcdefghijklmnop',
  'moz-extension://0b2f7c1e-3a44-4d7b-9c2e-5f1d2a3b4c5d'
]

void t.test('D9: the origins of native shells and browser extensions can be trusted, exactly', async (t) => {
  const trustedOrigins = [...SHELLS, 'capacitor://app.localhost:8080']
  const app = await makeCsrfApp(t, { trustedOrigins, token: false })
  const send = async (origin: string) =>
    verdictOf(await post(new Browser(app), { origin, 'sec-fetch-site': 'cross-site' }))
  for (const origin of trustedOrigins) {
    t.equal(await send(origin), 'passes', origin)
    for (const other of [
      `${origin}/`,
      `${origin}.evil`,
      `${origin}a`,
      origin.replace(/:.*/, '://evil.test')
    ]) {
      t.equal(await send(other), 'origin', other)
    }
  }
  t.equal(await send('capacitor://localhost:8080'), 'origin')
  t.equal(await send('http://localhost'), 'origin', 'the same host with another scheme')
  const strict = await makeCsrfApp(t, { token: false })
  for (const origin of SHELLS) {
    t.equal(verdictOf(await post(new Browser(strict), { origin })), 'origin', `${origin} is not listed`)
  }
})

void t.test('D9: registration refuses a malformed trusted origin', async (t) => {
  for (const origin of [
    'https://a.test/',
    'https://a.test:443',
    'HTTPS://a.test',
    'https://user@a.test',
    'https://bücher.test',
    'ftp://a.test',
    'a.test',
    'null',
    '*',
    'https://*.a.test',
    '',
    ...SHELLS.flatMap((origin) => [
      `${origin}/`,
      `${origin}:0`,
      origin.toUpperCase(),
      ` ${origin}`,
      `${origin}\n`
    ]),
    'capacitor://',
    'capacitor:localhost',
    'capacitor://*',
    'capacitor://*.localhost',
    'capacitor://local host',
    'capacitor://.localhost',
    'capacitor://localhost.',
    'capacitor://user@localhost',
    'capacitor://localhost?a',
    'capacitor://localhost#a',
    'capacitor://localhost:123456',
    'chrome-extension://*',
    'file://localhost',
    'app://localhost',
    'xcapacitor://localhost'
  ]) {
    const csrf = { trustedOrigins: ['https://fine.test', origin] }
    await t.rejects(makeApp(t, { csrf }), { message: /"csrf\.trustedOrigins"/ }, origin)
  }
  const csrf = { trustedOrigins: 'https://a.test' as unknown as string[] }
  await t.rejects(makeApp(t, { csrf }), SessionOptionError, 'a string instead of a list')
})

void t.test(
  'D10: forwarded headers change the accepted origin only if they come from a trusted proxy',
  async (t) => {
    const forwarded = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'front.test' }
    for (const trustProxy of [true, false, '10.0.0.1', '127.0.0.1']) {
      const app = await makeCsrfApp(t, { protect: 'all', token: false }, { trustProxy })
      const isTrusted = trustProxy === true || trustProxy === '127.0.0.1'
      const send = async (origin: string, headers: Record<string, string> = forwarded) =>
        verdictOf(await post(new Browser(app), { origin, ...headers }))
      t.equal(await send('https://front.test'), isTrusted ? 'passes' : 'origin')
      t.equal(await send(OWN), isTrusted ? 'origin' : 'passes')
      t.equal(await send('http://front.test'), 'origin')
      const list = { 'x-forwarded-proto': 'http, https', 'x-forwarded-host': 'evil.test, front.test' }
      t.equal(await send('https://front.test', list), isTrusted ? 'passes' : 'origin')
      t.equal(await send('http://evil.test', list), 'origin', 'the value of the nearest proxy counts')
    }
  }
)

void t.test('D10: the origin `null` is refused, whatever scheme X-Forwarded-Proto contains', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all', token: false }, { trustProxy: true })
  for (const scheme of ['h2', 'file', 'javascript', 'data', 'wss', '', ' ', 'https:']) {
    const headers = { 'x-forwarded-proto': scheme, origin: 'null' }
    t.equal(verdictOf(await post(new Browser(app), headers)), 'origin', scheme)
  }
})

void t.test('a cross-site request is refused before its body is read', async (t) => {
  const app = await makeCsrfApp(t, {}, { bodyLimit: 10_000 })
  let parsed = 0
  app.addContentTypeParser('application/x-huge', { parseAs: 'buffer' }, (_request, _body, done) => {
    parsed++
    done(null, null)
  })
  const { browser, token } = await visit(app)
  const huge = (headers: Record<string, string>, size: number) =>
    post(browser, { 'content-type': 'application/x-huge', ...headers }, 'a'.repeat(size))
  t.equal(verdictOf(await huge({ origin: 'http://evil.test', 'x-csrf-token': token }, 100)), 'origin')
  t.equal(
    verdictOf(await huge({ origin: 'http://evil.test' }, 5_000_000)),
    'origin',
    'refused before the size of the body is checked'
  )
  t.equal(parsed, 0)
  t.equal(verdictOf(await huge({ 'x-csrf-token': token }, 100)), 'passes')
  t.equal(parsed, 1)
})

void t.test('a cross-site request is refused before any store call', async (t) => {
  const store = spyStore()
  const app = await makeApp(t, { store })
  app.setErrorHandler(async (error, { session }, reply) => {
    session.setFlash('error', 'refused')
    return reply.code(403).send(error)
  })
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.post('/target', async () => 'target')
  const { browser, token } = await visit(app)
  store.take()
  const response = await post(browser, { origin: 'http://evil.test', 'x-csrf-token': token })
  t.equal(verdictOf(response), 'origin')
  t.equal(setCookieOf(response), undefined)
  t.same(store.take(), [])
})

void t.test(
  'a WebSocket handshake from another origin is refused, but no handshake needs a token',
  async (t) => {
    for (const protect of PROTECTIONS) {
      const app = await makeCsrfApp(t, { protect })
      const preHandler = protect === 'all' ? [] : [app.csrfProtection]
      app.get('/exempt', { preHandler, config: { csrf: false } }, async () => 'exempt')
      const { browser } = await visit(app)
      const handshake = async (headers: Record<string, string>, url = '/target') =>
        verdictOf(
          await browser.request({
            url,
            headers: { host: HOST, upgrade: 'websocket', connection: 'upgrade', ...headers }
          })
        )
      t.equal(await handshake({ origin: OWN }), 'passes')
      t.equal(await handshake({ origin: OWN, 'sec-fetch-site': 'same-origin' }), 'passes')
      t.equal(await handshake({}), 'passes', 'a client that is not a browser')
      t.equal(await handshake({ origin: 'http://evil.test' }), 'origin')
      t.equal(await handshake({ origin: 'http://blog.app.test', 'sec-fetch-site': 'same-site' }), 'origin')
      t.equal(await handshake({ origin: 'null' }), 'origin')
      t.equal(await handshake({ origin: 'http://evil.test' }, '/exempt'), 'passes')
    }
  }
)
