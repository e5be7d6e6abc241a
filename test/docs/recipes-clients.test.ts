import { once, type EventEmitter } from 'node:events'
import { get } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import sessions from 'fastify-sesame'
import Fastify from 'fastify'
import { stopClock } from 'fastify-sesame/testing'
import { Browser, SECRET } from '../fixtures/app.js'
import { addProbes, post, probe, recipe, signedIn } from './fixtures/recipes.js'

async function serve(app: FastifyInstance): Promise<string> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return `127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

// test/browser/recipes.test.ts runs the code for the browser.
recipe('A single-page application on another origin', async (t, load) => {
  const { app } = await load()
  const browser = new Browser(app)
  const origin = 'https://app.example.com'
  const page = { origin, 'sec-fetch-site': 'same-site' }
  const token = await browser.get('/csrf', page)
  t.match(token.headers, {
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true',
    'cache-control': 'no-store'
  })
  const headers = { ...page, 'x-csrf-token': token.json<{ token: string }>().token }
  t.equal((await post(browser, '/login', {}, page)).statusCode, 403, 'without a token')
  const foreign = { ...headers, origin: 'https://evil.example.com' }
  t.equal((await post(browser, '/login', {}, foreign)).statusCode, 403, 'from another origin')
  t.equal((await post(browser, '/login', {}, headers)).statusCode, 200)
  t.same((await browser.get('/account', page)).json(), { userId: 'ada' })
  t.equal((await new Browser(app).get('/account', { ...page, accept: 'text/html' })).statusCode, 401)
  const preflight = await browser.request({
    method: 'OPTIONS',
    url: '/login',
    headers: { origin, 'access-control-request-method': 'POST' }
  })
  t.equal(preflight.headers['access-control-allow-headers'], 'content-type, x-csrf-token')
})

recipe('A mobile app, desktop app or browser extension', async (t, load) => {
  const { app, origins } = await load({ exported: ['origins'] })
  app.post('/login', async ({ session }) => session.login('ada'))
  const send = (origin: string) =>
    post(new Browser(app), '/login', {}, { origin, 'sec-fetch-site': 'cross-site' })
  for (const origin of origins as string[]) {
    const reply = await send(origin)
    t.match(reply.headers, {
      'access-control-allow-origin': origin,
      'access-control-allow-credentials': 'true'
    })
    t.match(reply.cookies, [{ sameSite: 'None', secure: true }], origin)
  }
  for (const origin of ['http://localhost', 'null', 'https://evil.example'])
    t.equal((await send(origin)).statusCode, 403, origin)
})

recipe('Sign in with Apple and returns from a bank', async (t, load) => {
  const { app } = await load()
  addProbes(app)
  app.post('/cart', async ({ session }) => session.set('cart', ['tea']))
  const browser = new Browser(app)
  await post(browser, '/cart')
  const { location = '' } = (await browser.get('/login/apple')).headers
  t.equal(new URL(location).hostname, 'appleid.apple.com')
  const state = new URL(location).searchParams.get('state') ?? ''

  const before = browser.cookie
  // The browser sends no cookie with this request, because the cookie is SameSite=Lax.
  const posted = await app.inject({
    method: 'POST',
    url: '/login/apple/done',
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'cross-site' },
    payload: new URLSearchParams({ code: '7', state }).toString()
  })
  t.equal(posted.statusCode, 303)
  t.equal(posted.headers['set-cookie'], undefined, 'the POST replaces no session')
  t.equal((await browser.get('/login/apple/done?code=7&state=wrong')).statusCode, 403)
  t.equal((await browser.get(posted.headers.location ?? '')).statusCode, 403, 'the state counts only once')

  t.equal((await new Browser(app).get('/login/apple/done?code=7')).statusCode, 403, 'no state at all')

  const again = new URL((await browser.get('/login/apple')).headers.location ?? '').searchParams
  const target = `/login/apple/done?code=7&state=${again.get('state') ?? ''}`
  t.equal((await new Browser(app).get(target)).statusCode, 403, 'another browser does not know the state')
  t.equal((await browser.get(target)).headers.location, '/')
  t.same(await probe(browser), { cart: ['tea'], userId: 'apple-7' })
  t.not(browser.cookie, before)
})

recipe('Rate limit by user', async (t, load) => {
  const { app } = await load()
  app.get('/page', async () => 'a page')
  app.get('/health', { config: { session: false } }, async () => 'ok')
  const left = async (browser: Browser, url = '/page') =>
    (await browser.get(url)).headers['x-ratelimit-remaining']
  const { browser: ada } = await signedIn(app, { userId: 'ada' })
  const { browser: sameUser } = await signedIn(app, { userId: 'ada' })
  const { browser: grace } = await signedIn(app, { userId: 'grace' })
  t.same([await left(ada), await left(sameUser)], ['99', '98'], 'the user counts, not the session')
  t.equal(await left(grace), '99')
  t.same(
    [await left(new Browser(app)), await left(new Browser(app))],
    ['99', '98'],
    'visitors of one address'
  )
  t.equal(await left(ada, '/health'), '97', 'a route without a session')
})

/** The part of the client of `ws` that the test uses. The package has no types of its own. */
interface Socket extends EventEmitter {
  readonly readyState: number
  send(text: string): void
  close(): void
}
const { WebSocket } = createRequire(import.meta.url)('ws') as {
  WebSocket: new (url: string, options: { headers: Record<string, string> }) => Socket
}
const OPEN = 1

recipe('Sessions with WebSocket', async (t, load) => {
  const { app, sockets } = await load({ exported: ['sockets'] })
  app.post('/logout', async ({ session }) => session.invalidate())
  app.post('/rotate', async ({ session }) => session.regenerate())
  // The connection of a refused handshake stays open, and app.close() would wait for it.
  app.server.prependListener('upgrade', (_request, socket) => t.teardown(() => socket.destroy()))
  const url = `ws://${await serve(app)}/chat`
  const connect = (headers: Record<string, string>) => new WebSocket(url, { headers })
  const { browser } = await signedIn(app, { userId: 'ada' })
  const { browser: grace } = await signedIn(app, { userId: 'grace' })
  const other = connect({ cookie: grace.cookie })
  await once(other, 'open')
  const { websocketServer } = app as unknown as { websocketServer: EventEmitter }
  for (const path of ['/rotate', '/logout']) {
    const accepted = once(websocketServer, 'connection')
    const socket = connect({ cookie: browser.cookie })
    await once(socket, 'open')
    const [serverSide] = (await accepted) as [Socket]
    socket.send('hello')
    t.match(await once(socket, 'message'), [Buffer.from('ada: hello')])
    const closed = [once(socket, 'close'), once(serverSide, 'close')] as const
    await post(browser, path)
    t.equal((await closed[0])[0], 4401, path)
    await closed[1]
  }
  t.equal(other.readyState, OPEN, 'the socket of another session stays open')
  t.equal((sockets as Map<string, unknown>).size, 1, 'closed sockets are forgotten')
  other.close()
  for (const [headers, status] of [
    [{}, '401'],
    [{ cookie: grace.cookie, origin: 'https://evil.example' }, '403']
  ] as const) {
    const [refusal] = (await once(connect(headers), 'error')) as [Error]
    t.match(refusal.message, status)
  }
})

recipe('Sessions with server-sent events', async (t, load) => {
  const { app } = await load()
  app.post('/logout', async ({ session }) => session.invalidate())
  app.post('/rotate', async ({ session }) => session.regenerate())
  const host = await serve(app)
  const { browser } = await signedIn(app, { userId: 'ada' })
  const { browser: grace } = await signedIn(app, { userId: 'grace' })
  const open = async (cookie: string) => {
    const sent = get(`http://${host}/events`, {
      agent: false,
      headers: { cookie, accept: 'text/event-stream' }
    })
    const [response] = (await once(sent, 'response')) as [NodeJS.ReadableStream & { statusCode: number }]
    const [chunk] = (await once(response, 'data')) as [Buffer]
    return { response, text: chunk.toString() }
  }
  const [ada, other] = [await open(browser.cookie), await open(grace.cookie)]
  t.equal(ada.text, 'data: hello ada\n\n')
  let otherHasEnded = false
  other.response.once('end', () => (otherHasEnded = true))
  const ended = once(ada.response, 'end')
  await post(browser, '/logout')
  await ended
  t.notOk(otherHasEnded)
  const otherEnds = once(other.response, 'end')
  await post(grace, '/rotate')
  await otherEnds
  t.equal((await open(grace.cookie)).text, 'data: hello grace\n\n', 'the browser connects again')
  await post(grace, '/logout')
  t.equal((await app.inject({ url: '/events', headers: { accept: 'text/event-stream' } })).statusCode, 401)
})

recipe('Next.js and other code that writes the raw reply', async (t, load) => {
  const { app } = await load()
  const browser = new Browser(app)
  const first = await browser.get('/any/page')
  t.equal(first.body, 'a page')
  t.match(first.headers, { vary: 'Cookie', 'cache-control': 'no-store' })
  await browser.get('/any/page')
  t.equal(browser.cookies.size, 1)
  t.equal((await browser.get('/')).headers['set-cookie'], undefined, 'the session is found again')
})

recipe('Serverless functions', async (t, load) => {
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const { app, cleanup } = await load()
  app.post('/login', async ({ session }) => session.login('ada'))
  const headers = { origin: 'https://shop.example', host: 'shop.example', 'x-forwarded-proto': 'https' }
  t.equal((await post(new Browser(app), '/login', {}, headers)).statusCode, 200, 'the origin is our own')
  clock.move(2 * 86_400_000)
  t.equal(await (cleanup as () => Promise<number>)(), 1, 'nothing else has removed the session')
})

recipe('Two sessions: a shop and its admin area', async (t, load) => {
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const { app } = await load()
  const browser = new Browser(app)
  const [shop] = (await post(browser, '/login')).cookies
  const [admin] = (await post(browser, '/admin/login')).cookies
  t.match(
    [shop, admin],
    [
      { name: 'shop', path: '/', maxAge: 86_400 },
      { name: 'admin', path: '/admin', maxAge: 3600 }
    ]
  )
  t.equal((await browser.get('/account')).body, 'ada')
  t.equal((await browser.get('/admin/users')).body, 'root')
  browser.cookies.set('admin', browser.cookies.get('shop') ?? '')
  const refused = await browser.get('/admin/users', { accept: 'text/html' })
  t.equal(refused.headers.location, '/admin/login')
})

recipe('Two applications on one host', async (t, load) => {
  const { app: shop } = await load()
  const other = Fastify()
  t.teardown(() => other.close())
  await other.register(sessions, { secret: SECRET })
  const jar = new Map<string, string>()
  for (const app of [shop, other]) {
    app.post('/login', async ({ session }) => session.login(app === shop ? 'ada' : 'grace'))
    app.get('/me', async ({ session }) => session.get('userId'))
    const browser = new Browser(app)
    await post(browser, '/login')
    for (const [name, value] of browser.cookies) jar.set(name, value)
  }
  const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
  t.equal((await shop.inject({ url: '/me', headers: { cookie } })).body, 'ada')
  t.equal((await other.inject({ url: '/me', headers: { cookie } })).body, 'grace')
})
