import type { FastifyServerOptions } from 'fastify'
import t from 'tap'
import { addRoutes, Browser, makeApp, makeLoggedApp, setCookieOf } from '../fixtures/app.js'

void t.test(
  'B8: a Secure cookie sent over plain HTTP causes one warning, which says what to do',
  async (t) => {
    const { app, lines } = await makeLoggedApp(t)
    const headers = { host: 'app.test' }
    for (let round = 0; round < 3; round++) await app.inject({ url: '/set?name=ada', headers })
    t.equal(lines.length, 1)
    t.match(lines[0], /"level":40.*trustProxy.*cookie\.secure to 'auto'/)
  }
)

void t.test(
  "B8: no warning is logged on loopback, over HTTPS, or if cookie.secure is false or 'auto'",
  async (t) => {
    const url = '/set?name=ada'
    const forwarded = { host: 'app.test', 'x-forwarded-proto': 'https' }
    const loopback = [
      'localhost',
      'LOCALHOST:3000',
      'app.localhost',
      '127.0.0.1',
      '127.1.2.3:80',
      '[::1]',
      '[::1]:80'
    ]
    const { app, lines } = await makeLoggedApp(t)
    for (const host of loopback) await app.inject({ url, headers: { host } })
    await app.inject({ url: '/read', headers: { host: 'app.test' } })
    t.same(lines, [])
    const proxied = await makeLoggedApp(t, {}, { trustProxy: true })
    await proxied.app.inject({ url, headers: forwarded })
    t.same(proxied.lines, [])
    for (const secure of [false, 'auto'] as const) {
      const relaxed = await makeLoggedApp(t, { cookie: { secure } })
      await relaxed.app.inject({ url, headers: { host: 'app.test' } })
      t.same(relaxed.lines, [])
    }
  }
)

void t.test('B8: a warning is logged for a host that only looks like a loopback host', async (t) => {
  for (const host of [
    'localhost.evil.test',
    'xlocalhost',
    '127.0.0.1.evil.test',
    '1127.0.0.1',
    '128.0.0.1',
    '[::2]'
  ]) {
    const { app, lines } = await makeLoggedApp(t)
    await app.inject({ url: '/set?name=ada', headers: { host } })
    t.equal(lines.length, 1, host)
  }
})

const WEBKIT = 'AppleWebKit/605.1.15 (KHTML, like Gecko)'
const MAC = `Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) ${WEBKIT}`
const SAFARI = `${MAC} Version/18.1 Safari/605.1.15`

void t.test(
  'B8: on loopback, Safari causes one warning, which says what to do, because it drops the cookie there too',
  async (t) => {
    const iphone = `Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) ${WEBKIT} Version/18.1 Mobile/15E148 Safari/604.1`
    for (const userAgent of [SAFARI, iphone]) {
      const { app, lines } = await makeLoggedApp(t)
      for (const host of ['localhost:3000', '127.0.0.1', '[::1]'])
        await app.inject({ url: '/set?name=ada', headers: { host, 'user-agent': userAgent } })
      t.equal(lines.length, 1)
      t.match(lines[0], /"level":40.*Safari.*localhost.*Set cookie\.secure to 'auto'/)
      await app.inject({ url: '/set?name=ada', headers: { host: 'app.test', 'user-agent': userAgent } })
      t.equal(lines.length, 2)
      t.match(lines[1], 'trustProxy')
    }
  }
)

void t.test(
  "B8: on loopback, no warning is logged for other browsers, over HTTPS, or if cookie.secure is 'auto'",
  async (t) => {
    const url = '/set?name=ada'
    const { app, lines } = await makeLoggedApp(t, {}, { trustProxy: true })
    for (const userAgent of [
      '',
      'curl/8.5.0',
      'Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0',
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
      `${MAC} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0`,
      `${MAC} Chrome/131.0.0.0 Safari/537.36 OPR/116.0.0.0`,
      `${MAC} Version/4.0 Chrome/131.0.0.0 Mobile Safari/537.36`,
      'Mozilla/5.0 (Linux; U; Android 4.0.3) AppleWebKit/534.30 Version/4.0 Mobile Safari/534.30',
      `${MAC} Ubuntu Chromium/131.0 Version/17.0 Safari/537.36`,
      `${MAC} Version/18.0 EdgiOS/131.0 Mobile/15E148 Safari/604.1`,
      'Opera/9.80 (X11; Linux x86_64) Presto/2.12.388 Version/12.16'
    ]) {
      await app.inject({ url, headers: { host: 'localhost', 'user-agent': userAgent } })
      t.same(lines, [], userAgent)
    }
    await app.inject({
      url,
      headers: { host: 'localhost', 'user-agent': SAFARI, 'x-forwarded-proto': 'https' }
    })
    t.same(lines, [])
    const relaxed = await makeLoggedApp(t, { cookie: { secure: 'auto' } })
    await relaxed.app.inject({ url, headers: { host: 'localhost', 'user-agent': SAFARI } })
    t.same(relaxed.lines, [])
  }
)

void t.test(
  "B8: with secure: 'auto', the cookie is Secure over HTTPS, and proxy headers are used only with trustProxy",
  async (t) => {
    const isSecure = async (server: FastifyServerOptions, headers: Record<string, string>) => {
      const app = addRoutes(await makeApp(t, { cookie: { secure: 'auto' } }, server))
      const browser = new Browser(app)
      const set = setCookieOf(await browser.get('/set?name=ada', headers))
      const cleared = setCookieOf(await browser.get('/logout', headers))
      return [/; Secure/.test(set ?? ''), /; Secure/.test(cleared ?? '')]
    }
    const https = { 'x-forwarded-proto': 'https' }
    t.same(await isSecure({}, {}), [false, false])
    t.same(await isSecure({}, https), [false, false])
    t.same(await isSecure({ trustProxy: true }, https), [true, true])
    t.same(await isSecure({ trustProxy: true }, { 'x-forwarded-proto': 'http' }), [false, false])
  }
)

const PATHS: [cookiePath: string, matching: string[], others: string[]][] = [
  ['/', ['/', '/app', '/app/x?y=/'], []],
  [
    '/app',
    ['/app', '/app/', '/app/x', '/app?x=1'],
    ['/', '/ap', '/apple', '/App', '/x/app', '/login?next=/app/']
  ],
  ['/app/', ['/app/', '/app/x'], ['/app', '/app?/', '/apple/']]
]

void t.test(
  'a session cookie set outside cookie.path causes one warning, and the session is kept',
  async (t) => {
    for (const [path, matching, others] of PATHS) {
      for (const url of [...matching, ...others]) {
        const { app, lines } = await makeLoggedApp(t, { cookie: { path, secure: 'auto' } })
        app.get('/*', async ({ session }) => {
          session.set('name', 'ada')
          return 'set'
        })
        const browser = new Browser(app)
        t.match(setCookieOf(await browser.get(url)), `; Path=${path};`)
        await browser.get('/logout')
        t.equal(lines.length, others.includes(url) ? 1 : 0, `${url} with the path ${path}`)
      }
    }
  }
)

void t.test(
  'the warning about cookie.path names both paths and proxies that strip a prefix, but not the query',
  async (t) => {
    const { app, lines } = await makeLoggedApp(t, { cookie: { path: '/app', secure: 'auto' } })
    const browser = new Browser(app)
    await browser.get('/set?name=ada')
    t.same((await browser.get('/read')).json(), { name: 'ada' })
    await browser.get('/login')
    t.equal(lines.length, 1)
    t.match(lines[0], /"level":40.*for '\/set', but cookie\.path is '\/app'.*proxy strips a prefix/)
  }
)

void t.test(
  'the warning about cookie.path uses the path that the server received, not the one that rewriteUrl makes of it',
  async (t) => {
    const server = { rewriteUrl: ({ url = '' }) => url.replace('/app/', '/') }
    const { app, lines } = await makeLoggedApp(t, { cookie: { path: '/app', secure: 'auto' } }, server)
    t.match(setCookieOf(await app.inject('/app/set?name=ada')), /^session_id=/)
    t.same(lines, [])
  }
)

void t.test('clearing a cookie outside cookie.path causes no warning', async (t) => {
  const { app, lines } = await makeLoggedApp(t, { cookie: { path: '/app', secure: 'auto' } })
  app.get('/app/set', async ({ session }) => session.set('name', 'ada'))
  const browser = new Browser(app)
  await browser.get('/app/set')
  t.match(setCookieOf(await browser.get('/logout')), /^session_id=;/)
  t.same(lines, [])
})
