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
