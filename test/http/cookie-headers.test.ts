import { fastifyCookie } from '@fastify/cookie'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { createCookies, type Cookies } from '../../plugin/http/cookie.js'
import sessions, { MemoryStore, type Session, type SessionOptions } from '../../plugin/index.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const app = addRoutes(await makeApp(t, options))
  return { app, browser: new Browser(app) }
}

function cookiesOf(options: Partial<SessionOptions> = {}): Cookies {
  const resolved = resolveOptions({ secret: SECRET, ...options }, () => new MemoryStore())
  return createCookies(resolved, fastifyCookie.serialize)
}

void t.test(
  'B7: a response that sets the session cookie is marked no-store, even if the handler marks it public',
  async (t) => {
    const { app, browser } = await setUp(t)
    app.get('/public/:action', async ({ session, params }, reply) => {
      reply.header('cache-control', 'public, max-age=3600')
      const { action } = params as { action: string }
      if (action === 'set') session.set('name', 'ada')
      if (action === 'login') session.regenerate()
      if (action === 'logout') session.invalidate()
      return session.get('name') ?? null
    })
    for (const action of ['set', 'login', 'logout']) {
      const response = await browser.get(`/public/${action}`)
      t.match(setCookieOf(response), /^session_id=/)
      t.equal(response.headers['cache-control'], 'no-store', action)
    }
    const { headers } = await browser.get('/public/read')
    t.equal(
      headers['cache-control'],
      'public, max-age=3600',
      'without a session cookie, the handler’s Cache-Control stays'
    )
  }
)

void t.test('B7: the Vary header contains Cookie if the session was read in any way', async (t) => {
  const { app, browser } = await setUp(t)
  const uses: Record<string, (session: Session) => unknown> = {
    get: (session) => session.get('name'),
    has: (session) => session.has('name'),
    keys: (session) => session.keys(),
    getFlash: (session) => session.getFlash('note'),
    peekFlash: (session) => session.peekFlash('note'),
    id: (session) => session.id,
    isNew: (session) => session.isNew,
    set: (session) => session.set('name', 'ada')
  }
  for (const [name, use] of Object.entries(uses)) {
    app.get(`/use/${name}`, async ({ session }, reply) => {
      reply.header('vary', 'Accept')
      return { used: use(session) ?? null }
    })
  }
  app.get('/use/csrf', async (_request, reply) => reply.header('vary', 'Accept').send(reply.generateCsrf()))
  app.get('/use/manager', async (request, reply) => {
    reply.header('vary', 'Accept')
    return { isThere: (await app.sessionManager.get(request)) !== undefined }
  })
  for (const url of [...Object.keys(uses), 'csrf', 'manager'].map((name) => `/use/${name}`)) {
    t.equal((await app.inject(url)).headers.vary, 'Accept, Cookie', `${url} without a cookie`)
    t.equal((await browser.get(url)).headers.vary, 'Accept, Cookie', url)
  }
  t.equal(
    (await browser.get('/empty')).headers.vary,
    undefined,
    'a response whose session was not read does not vary'
  )
})

void t.test(
  'Cookie is added to the handler’s Vary header, unless the header already covers it',
  async (t) => {
    const { app } = await setUp(t)
    app.get('/vary', async ({ session, query }, reply) => {
      const { vary } = query as { vary?: string | string[] }
      if (vary !== undefined) reply.header('vary', vary)
      return session.get('name') ?? null
    })
    const cases: [query: string, vary: string][] = [
      ['', 'Cookie'],
      ['?vary=Accept', 'Accept, Cookie'],
      ['?vary=Accept,%20Origin', 'Accept, Origin, Cookie'],
      ['?vary=Accept&vary=Origin', 'Accept, Origin, Cookie'],
      ['?vary=cookie', 'cookie'],
      ['?vary=Accept,COOKIE', 'Accept,COOKIE'],
      ['?vary=Cookie2', 'Cookie2, Cookie'],
      ['?vary=*', '*']
    ]
    for (const [query, vary] of cases) {
      t.equal((await app.inject(`/vary${query}`)).headers.vary, vary, query)
    }
  }
)

void t.test(
  'the handler’s own cookies are kept, whether @fastify/cookie is registered before or after the plugin',
  async (t) => {
    for (const isFirst of [true, false]) {
      const app = Fastify()
      t.teardown(() => app.close())
      if (isFirst) await app.register(fastifyCookie)
      await app.register(sessions, { secret: SECRET })
      if (!isFirst) await app.register(fastifyCookie)
      app.get('/both', async ({ cookies, session }, reply) => {
        reply.setCookie('color', 'red').header('set-cookie', 'plain=1')
        session.set('name', 'ada')
        return cookies
      })
      const response = await app.inject({ url: '/both', headers: { cookie: 'size=2' } })
      t.same(response.cookies.map(({ name }) => name).sort(), ['color', 'plain', 'session_id'])
      t.same(response.json(), { size: '2' })
    }
  }
)

void t.test('the plugin does not change the application’s own serializeCookie decorator', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorate('serializeCookie', (name: string) => name)
  await app.register(sessions, { secret: SECRET })
  addRoutes(app)
  t.match(
    setCookieOf(await app.inject('/set?name=ada')),
    /^session_id=\w{64}\..*; HttpOnly; Secure; SameSite=Lax$/
  )
  t.equal(app.serializeCookie('own', ''), 'own')
})

void t.test('the plugin does not add the decorators of @fastify/cookie to the application', async (t) => {
  const { app } = await setUp(t)
  t.notOk(app.hasDecorator('serializeCookie'))
  t.notOk(app.hasReplyDecorator('setCookie'))
})

void t.test(
  'a session can still be extended after a raw cookie has been sent, but its own cookie is not sent',
  async (t) => {
    const clock = stopClock(t)
    const { app, browser } = await setUp(t, { idleTimeout: 1000 })
    app.get('/events', async ({ session }, reply) => {
      reply.hijack()
      reply.raw.setHeader('set-cookie', 'a=1')
      reply.raw.writeHead(200)
      await session.save()
      reply.raw.end()
    })
    await browser.get('/set?name=ada')
    clock.move(900_000)
    t.equal(setCookieOf(await browser.get('/events')), 'a=1')
    clock.move(900_000)
    t.same((await browser.get('/read')).json(), { name: 'ada' })
  }
)

void t.test(
  'with clearSiteData, a logout tells the browser to delete its cache, and no other reply does',
  async (t) => {
    for (const [clearSiteData, expected] of [
      [true, '"cache"'],
      [false, undefined]
    ] as const) {
      const { app, browser } = await setUp(t, { clearSiteData })
      app.get('/destroy', async ({ session }, reply) => {
        await app.sessionManager.destroy(session, reply)
        return 'destroyed'
      })
      for (const [url, isLogout] of [
        ['/logout', false],
        ['/login', false],
        ['/read', false],
        ['/logout', true],
        ['/login', false],
        ['/destroy', true]
      ] as const)
        t.equal((await browser.get(url)).headers['clear-site-data'], isLogout ? expected : undefined, url)
    }
  }
)

void t.test('a logout keeps the other directives of the Clear-Site-Data header', async (t) => {
  const { app, browser } = await setUp(t, { clearSiteData: true })
  app.get('/logout/:order', async ({ session, params, query }, reply) => {
    const { order } = params as { order: string }
    const { value } = query as { value: string[] }
    session.invalidate()
    if (order === 'save-first') await session.save()
    if (order === 'raw') reply.raw.setHeader('clear-site-data', value)
    else reply.header('clear-site-data', value)
    return 'logout'
  })
  for (const [query, expected] of [
    ['value="cookies"', '"cookies", "cache"'],
    ['value="cookies","storage"', '"cookies", "storage", "cache"'],
    ['value="cookies"&value="storage"', '"cookies", "storage", "cache"'],
    ['value="cache","storage"', '"cache","storage"'],
    ['value="*"', '"*"'],
    ['value=', '"cache"']
  ] as const) {
    for (const order of ['plain', 'save-first', 'raw']) {
      await browser.get('/set?name=ada')
      const { headers } = await browser.get(`/logout/${order}?${query}`)
      t.equal(headers['clear-site-data'], expected, `${order} ${query}`)
    }
  }
})

void t.test('with clearSiteData, a logout sends the header even if a new session begins', async (t) => {
  const { app, browser } = await setUp(t, { clearSiteData: true })
  app.get('/again', async ({ session }) => {
    session.invalidate()
    session.login('eve')
    return 'again'
  })
  await browser.get('/login')
  const { headers } = await browser.get('/again')
  t.equal(headers['clear-site-data'], '"cache"')
  t.match(headers['set-cookie'], /^session_id=[0-9a-f]/)
})

void t.test('keepPrivate marks a reply no-store only if it sets one of the plugin’s cookies', async (t) => {
  const { keepPrivate } = cookiesOf()
  const { app } = await setUp(t)
  app.get('/keep', async ({ query }, reply) => {
    const { name } = query as { name: string }
    reply.header('cache-control', 'public').header('set-cookie', `${name}=x`)
    keepPrivate(reply)
    return 'kept'
  })
  for (const [name, cacheControl] of [
    ['session_id', 'no-store'],
    ['session_id_visitor', 'no-store'],
    ['session_id_', 'public'],
    ['x_session_id_visitor', 'public']
  ] as const)
    t.equal((await app.inject(`/keep?name=${name}`)).headers['cache-control'], cacheControl, name)
})
