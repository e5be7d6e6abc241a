import Fastify, { type FastifyInstance, type preHandlerHookHandler } from 'fastify'
import t, { type Test } from 'tap'
import sessions, {
  MemoryStore,
  requireAuth,
  type RequireAuthOptions,
  SessionOptionError,
  type SessionOptions
} from '../../plugin/index.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { failingStore, spyStore, wrap } from '../fixtures/stores.js'
import { disconnectAt, makeGate } from '../sockets/fixtures/server.js'
import { requestText } from '../sockets/fixtures/wire.js'

const CHROME = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8'
const PAGE = { accept: CHROME, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
const JSON_ONLY = { accept: 'application/json' }

async function setUp(t: Test, guard: RequireAuthOptions = {}, options: Partial<SessionOptions> = {}) {
  const app = addRoutes(await makeApp(t, { cleanupInterval: 0, ...options }))
  const preHandler = requireAuth(guard)
  app.route({
    method: ['GET', 'POST', 'PUT', 'DELETE'],
    url: '/guarded',
    preHandler,
    handler: async () => 'guarded'
  })
  app.get('/flash', async ({ session }) => ({ error: session.getFlash('error') ?? null }))
  app.get('/put', async ({ session, query }) => {
    const { key, json } = query as { key: string; json: string }
    session.set(key, JSON.parse(json))
    return 'put'
  })
  return { app, browser: new Browser(app) }
}

function put(browser: Browser, key: string, value: unknown) {
  return browser.get(`/put?key=${key}&json=${encodeURIComponent(JSON.stringify(value))}`)
}

void t.test('a signed-in user can open a guarded route, and the response is marked no-store', async (t) => {
  const { browser } = await setUp(t)
  await browser.get('/login')
  for (const headers of [PAGE, JSON_ONLY]) {
    const response = await browser.get('/guarded', headers)
    t.equal(response.payload, 'guarded')
    t.equal(response.headers['cache-control'], 'no-store')
    t.equal(response.headers['vary'], 'Cookie')
  }
})

void t.test('requireAuth keeps a Cache-Control header that an earlier hook has set', async (t) => {
  const { app, browser } = await setUp(t)
  app.addHook('onRequest', async (_request, reply) => void reply.header('cache-control', 'private'))
  await browser.get('/login')
  t.equal((await browser.get('/guarded')).headers['cache-control'], 'private')
})

void t.test('a page request is redirected to the login page, where a message is shown once', async (t) => {
  const { browser } = await setUp(t)
  const response = await browser.get('/guarded', PAGE)
  t.equal(response.statusCode, 302)
  t.equal(response.headers['location'], '/login')
  t.equal(response.headers['cache-control'], 'no-store')
  t.equal(response.payload, '')
  t.same((await browser.get('/flash')).json(), { error: 'Please login to continue' })
  t.same((await browser.get('/flash')).json(), { error: null })
})

void t.test('an anonymous request for JSON gets a 401, without a store call or a cookie', async (t) => {
  const store = spyStore()
  const { browser } = await setUp(t, { message: 'Who are you?' }, { store })
  const response = await browser.get('/guarded', JSON_ONLY)
  t.same(response.json(), {
    statusCode: 401,
    code: 'SESSION_UNAUTHENTICATED',
    error: 'Unauthorized',
    message: 'Who are you?'
  })
  t.equal(response.headers['cache-control'], 'no-store')
  t.equal(setCookieOf(response), undefined)
  t.same(store.take(), [])
})

void t.test(
  'requireAuth treats requests from browsers, frames, curl and page-loading scripts as page requests',
  async (t) => {
    const { app } = await setUp(t)
    for (const [client, headers] of [
      ['Chrome', PAGE],
      ['Safari', { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' }],
      ['an iframe', { ...PAGE, 'sec-fetch-dest': 'iframe' }],
      ['curl, wget', { accept: '*/*' }],
      ['a navigation that accepts anything', { accept: ' */* ', 'sec-fetch-mode': 'navigate' }],
      ['Turbo', { accept: 'text/vnd.turbo-stream.html, text/html', 'sec-fetch-mode': 'cors' }],
      ['jQuery.load', { accept: 'text/html, */*; q=0.01', 'x-requested-with': 'XMLHttpRequest' }],
      ['mixed case', { accept: 'Text/HTML' }]
    ] as const) {
      t.equal((await app.inject({ url: '/guarded', headers })).statusCode, 302, client)
    }
    for (const [client, headers] of [
      ['fetch', { accept: '*/*', 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' }],
      ['a same-origin fetch', { accept: '*/*', 'sec-fetch-mode': 'same-origin' }],
      ['htmx', { accept: '*/*', 'sec-fetch-mode': 'cors', 'hx-request': 'true' }],
      ['axios', { accept: 'application/json, text/plain, */*' }],
      ['jQuery.getJSON', { accept: 'application/json, text/javascript, */*; q=0.01' }],
      ['an image', { accept: 'image/avif,image/webp,*/*;q=0.8', 'sec-fetch-mode': 'no-cors' }],
      ['a script', { accept: '*/*', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script' }],
      ['an EventSource', { accept: 'text/event-stream' }],
      ['an empty Accept', { accept: '' }],
      ['no Accept', {}]
    ] as const) {
      t.equal((await app.inject({ url: '/guarded', headers })).statusCode, 401, client)
    }
  }
)

void t.test('POST, PUT and DELETE requests are redirected to the login page with status 303', async (t) => {
  const { browser } = await setUp(t, { loginPath: 'https://sso.test/start?app=1' })
  for (const [method, statusCode] of [
    ['GET', 302],
    ['HEAD', 302],
    ['POST', 303],
    ['PUT', 303],
    ['DELETE', 303]
  ] as const) {
    const response = await browser.request({ method, url: '/guarded', headers: PAGE })
    t.equal(response.statusCode, statusCode, method)
    t.equal(response.headers['location'], 'https://sso.test/start?app=1')
  }
})

void t.test('no part of the request can change the redirect target', async (t) => {
  const { app } = await setUp(t)
  app.get('/*', { preHandler: requireAuth() }, async () => 'rest')
  for (const url of [
    '//evil.test',
    '/%2Fevil.test',
    '/guarded?next=//evil.test',
    '/\\evil.test',
    '/%0d%0aa:b'
  ]) {
    const headers = {
      ...PAGE,
      host: 'evil.test',
      'x-forwarded-host': 'evil.test',
      referer: 'http://evil.test'
    }
    const response = await app.inject({ url, headers })
    t.equal(response.headers['location'], '/login', url)
  }
})

void t.test('an expired session is reported on the login page and in the JSON reply', async (t) => {
  const clock = stopClock(t)
  const { browser } = await setUp(t, {}, { maxAge: 60 })
  await browser.get('/login')
  const cookie = browser.cookie
  clock.move(59_999)
  t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 200)
  clock.move(1)
  t.same((await browser.get('/guarded', JSON_ONLY)).json(), {
    statusCode: 401,
    code: 'SESSION_EXPIRED',
    error: 'Unauthorized',
    message: 'Session expired'
  })
  t.equal((await browser.get('/guarded', PAGE)).headers['location'], '/login')
  t.not(browser.cookie, cookie, 'the message is in a new session')
  t.same((await browser.get('/flash')).json(), { error: 'Session expired' })
  t.same((await browser.get('/flash')).json(), { error: null })
})

void t.test('a live anonymous session is not reported as expired', async (t) => {
  const { browser } = await setUp(t)
  await browser.get('/set?theme=dark')
  t.match((await browser.get('/guarded', JSON_ONLY)).json(), { code: 'SESSION_UNAUTHENTICATED' })
  await browser.get('/guarded', PAGE)
  t.same((await browser.get('/flash')).json(), { error: 'Please login to continue' })
})

void t.test(
  'a logged-out session is reported as expired, and a forged cookie as unauthenticated',
  async (t) => {
    const { app, browser } = await setUp(t)
    await browser.get('/login')
    const { cookie } = browser
    await browser.get('/logout')
    const codeOf = async (value: string) =>
      (await app.inject({ url: '/guarded', headers: { ...JSON_ONLY, cookie: value } })).json<{
        code: string
      }>().code
    t.equal(await codeOf(cookie), 'SESSION_EXPIRED')
    t.equal(await codeOf(`${cookie.slice(0, -1)}!`), 'SESSION_UNAUTHENTICATED')
  }
)

void t.test(
  'C8: with freshWithin: 300, a session is refused if its login is at least 300 seconds old',
  async (t) => {
    const clock = stopClock(t)
    const { browser } = await setUp(t, { freshWithin: 300 })
    await browser.get('/login')
    clock.move(299_999)
    t.equal((await browser.get('/guarded', PAGE)).statusCode, 200)
    clock.move(1)
    t.equal((await browser.get('/guarded', PAGE)).headers['location'], '/login')
    t.same((await browser.get('/flash')).json(), { error: 'Please login to continue' })
    t.match((await browser.get('/guarded', JSON_ONLY)).json(), { statusCode: 401, code: 'SESSION_NOT_FRESH' })
    await browser.get('/set?name=ada')
    t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 401, 'activity is not a login')
    await browser.get('/login')
    t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 200)
    clock.move(300_000)
    t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 401)
  }
)

void t.test('freshWithin can be a fraction of a second, and there is no limit by default', async (t) => {
  const clock = stopClock(t)
  const { browser } = await setUp(t, { freshWithin: 0.5 })
  const unlimited = await setUp(t, { freshWithin: undefined } as unknown as RequireAuthOptions)
  await browser.get('/login')
  await unlimited.browser.get('/login')
  clock.move(499)
  t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 200)
  clock.move(1)
  t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 401)
  clock.move(80_000_000)
  t.equal((await unlimited.browser.get('/guarded', JSON_ONLY)).statusCode, 200)
})

void t.test('F4: freshWithin counts from the login, and regenerate() does not renew it', async (t) => {
  const clock = stopClock(t)
  const { app, browser } = await setUp(t, { freshWithin: 300 })
  app.get('/rotate', async ({ session }) => session.regenerate())
  app.get('/rotate-and-keep', async ({ session }) => session.regenerate(['userId']))
  app.get('/login-again', async ({ session }) => session.login('ada'))
  const isFresh = async () => (await browser.get('/guarded', JSON_ONLY)).statusCode === 200
  await browser.get('/set?cart=1')
  clock.move(200_000)
  await browser.get('/login')
  for (const url of ['/rotate', '/rotate-and-keep', '/rotate']) {
    clock.move(99_999)
    t.ok(await isFresh(), url)
    const { cookie } = browser
    await browser.get(url)
    t.not(browser.cookie, cookie)
  }
  clock.move(3)
  t.notOk(await isFresh())
  await browser.get('/rotate')
  t.notOk(await isFresh())
  await browser.get('/login-again')
  t.ok(await isFresh())
})

void t.test(
  'setting a userKey of one’s own is not a login: neither the id nor the time for freshWithin changes',
  async (t) => {
    const clock = stopClock(t)
    const { app, browser } = await setUp(t, { userKey: 'admin', freshWithin: 300 })
    app.get('/rotate', async ({ session }) => session.regenerate())
    app.get('/remove', async ({ session }) => session.remove('admin'))
    const stateNow = async () => (await browser.get('/guarded', JSON_ONLY)).statusCode
    await browser.get('/set?cart=1')
    const { cookie } = browser
    clock.move(299_999)
    await put(browser, 'admin', 'root')
    t.equal(browser.cookie, cookie, 'the session keeps its id')
    t.equal(await stateNow(), 200)
    clock.move(1)
    t.equal(await stateNow(), 401, 'the seconds count from the creation of the session')
    await put(browser, 'admin', 'other')
    await browser.get('/rotate')
    t.not(browser.cookie, cookie)
    t.equal(await stateNow(), 401, 'neither setting the key again nor regenerate() is a login')
    await browser.get('/login')
    t.equal(await stateNow(), 200, 'a login at the key of the plugin is one')
    await browser.get('/remove')
    t.match((await browser.get('/guarded', JSON_ONLY)).json(), { code: 'SESSION_UNAUTHENTICATED' })
    t.equal((await app.sessionManager.list('ada')).length, 1, 'removing the key is not a logout')
  }
)

void t.test('requireAuth({ loginPath: false }) refuses page requests with an error', async (t) => {
  const store = spyStore()
  const { browser } = await setUp(t, { loginPath: false }, { store })
  const response = await browser.request({ method: 'POST', url: '/guarded', headers: PAGE })
  t.match(response.json(), { statusCode: 401, code: 'SESSION_UNAUTHENTICATED' })
  t.equal(response.headers['location'], undefined)
  t.equal(setCookieOf(response), undefined)
  t.same(store.take(), [])
  await browser.get('/login')
  t.equal((await browser.get('/guarded', PAGE)).payload, 'guarded')
})

const FORBIDDEN = { statusCode: 403, code: 'SESSION_FORBIDDEN', error: 'Forbidden', message: 'Forbidden' }

void t.test(
  'the check function accepts a request or refuses it with 403, synchronously or asynchronously',
  async (t) => {
    for (const answer of [true, false]) {
      for (const check of [() => answer, async () => answer]) {
        const { browser } = await setUp(t, { check })
        await browser.get('/login')
        for (const headers of [PAGE, JSON_ONLY]) {
          const response = await browser.get('/guarded', headers)
          if (answer) t.equal(response.payload, 'guarded')
          else t.same(response.json(), FORBIDDEN)
        }
        t.same((await browser.get('/flash')).json(), { error: null })
      }
    }
  }
)

void t.test('a request does not pass if the check function returns nothing or throws', async (t) => {
  for (const [check, statusCode] of [
    [() => undefined, 403],
    [() => null, 403],
    [() => Promise.reject(Object.assign(new Error('hidden'), { statusCode: 404 })), 404],
    [
      () => {
        throw new Error('the database is gone')
      },
      500
    ]
  ] as const) {
    const { browser } = await setUp(t, { check: check as unknown as () => boolean })
    await browser.get('/login')
    const response = await browser.get('/guarded', JSON_ONLY)
    t.equal(response.statusCode, statusCode)
    t.not(response.payload, 'guarded')
  }
})

void t.test(
  'the check function receives the session and the request, and runs only if the login is fresh',
  async (t) => {
    const clock = stopClock(t)
    const seen: unknown[] = []
    const { browser } = await setUp(t, {
      freshWithin: 10,
      check(session, request) {
        seen.push([session.get('userId'), request.url, request.session === session])
        return true
      }
    })
    await browser.get('/guarded', JSON_ONLY)
    t.same(seen, [])
    await browser.get('/login')
    await browser.get('/guarded', JSON_ONLY)
    t.same(seen, [['ada', '/guarded', true]])
    clock.move(10_000)
    await browser.get('/guarded', JSON_ONLY)
    t.equal(seen.length, 1)
  }
)

void t.test(
  'requireAuth uses its own userKey option, or else the userKey option of the plugin',
  async (t) => {
    for (const [guard, options, key] of [
      [{}, {}, 'userId'],
      [{}, { userKey: 'account' }, 'account'],
      [{ userKey: 'admin' }, {}, 'admin'],
      [{ userKey: 'admin' }, { userKey: 'account' }, 'admin'],
      [{ userKey: '__proto__' }, {}, '__proto__'],
      [{ userKey: 'constructor' }, {}, 'constructor']
    ] as const) {
      const { browser } = await setUp(t, guard, options)
      for (const other of ['userId', 'account', 'admin', '__proto__', 'constructor']) {
        if (other === key) continue
        await put(browser, other, 5)
      }
      t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 401, key)
      await put(browser, key, 5)
      t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 200, key)
    }
  }
)

void t.test('requireAuth accepts 0 as a user id, and refuses null, false and an empty string', async (t) => {
  for (const [value, statusCode] of [
    [0, 200],
    [-1, 200],
    ['0', 200],
    ['ada', 200],
    [true, 200],
    [{ id: 5 }, 200],
    [null, 401],
    [false, 401],
    ['', 401]
  ] as const) {
    const { browser } = await setUp(t, { userKey: 'user' })
    t.equal((await put(browser, 'user', value)).statusCode, 200)
    t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, statusCode, JSON.stringify(value))
  }
  const { browser } = await setUp(t)
  await put(browser, 'userId', 0)
  t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 200)
  await put(browser, 'userId', null)
  t.equal((await browser.get('/guarded', JSON_ONLY)).statusCode, 401)
})

void t.test(
  'requireAuth throws if an option is invalid, and the error names the option and the expected value',
  async (t) => {
    for (const [options, message] of [
      [{ userKey: 5 }, '"requireAuth.userKey" is 5, but must be a key that does not begin with "$"'],
      [{ userKey: '$csrf' }, '"requireAuth.userKey" is \'$csrf\', but must be a key that'],
      [{ loginPath: null }, '"requireAuth.loginPath" is null, but must be a path or URL'],
      [{ loginPath: '' }, '"requireAuth.loginPath" is \'\', but must be'],
      [{ loginPath: '/log in' }, '"requireAuth.loginPath"'],
      [{ loginPath: '/login\r\nset-cookie: a=b' }, '"requireAuth.loginPath"'],
      [{ loginPath: '/anmelden/für' }, '"requireAuth.loginPath"'],
      [{ message: false }, '"requireAuth.message" is false, but must be a string'],
      [
        { freshWithin: '300' },
        '"requireAuth.freshWithin" is \'300\', but must be a finite number of seconds'
      ],
      [{ freshWithin: 0 }, '"requireAuth.freshWithin" is 0'],
      [{ freshWithin: -1 }, '"requireAuth.freshWithin" is -1'],
      [{ freshWithin: NaN }, '"requireAuth.freshWithin" is NaN'],
      [{ freshWithin: Infinity }, '"requireAuth.freshWithin" is Infinity'],
      [{ freshWithin: null }, '"requireAuth.freshWithin" is null'],
      [{ check: true }, '"requireAuth.check" is true, but must be a function'],
      [
        { freshwithin: 300 },
        '"requireAuth.freshwithin" is unknown; the options here are userKey, loginPath, message, freshWithin, check'
      ],
      [{ toString: 5 }, '"requireAuth.toString" is unknown']
    ] as const) {
      const call = () => requireAuth(options as unknown as RequireAuthOptions)
      t.throws(call, SessionOptionError)
      try {
        call()
      } catch (error) {
        t.ok(
          (error as Error).message.startsWith(`fastify-sesame: option ${message}`),
          (error as Error).message
        )
      }
    }
    const absent = { userKey: undefined, loginPath: undefined, message: undefined, check: undefined }
    t.doesNotThrow(() => requireAuth(absent as unknown as RequireAuthOptions))
    const { browser } = await setUp(t, absent as unknown as RequireAuthOptions)
    t.equal((await browser.get('/guarded', PAGE)).headers['location'], '/login')
  }
)

void t.test(
  'if a route is given requireAuth instead of requireAuth(), every request to it fails with 500',
  async (t) => {
    const { app } = await setUp(t)
    app.get('/wrong', { preHandler: requireAuth as unknown as preHandlerHookHandler }, async () => 'wrong')
    t.match((await app.inject('/wrong')).json(), {
      statusCode: 500,
      code: 'SESSION_GUARD_NOT_CALLED',
      message: /write preHandler: requireAuth\(\)/
    })
  }
)

void t.test('the flash message and the JSON reply have the configured text, even an empty one', async (t) => {
  for (const message of ['', 'Hello']) {
    const { browser } = await setUp(t, { message })
    t.match((await browser.get('/guarded', JSON_ONLY)).json(), { message })
    await browser.get('/guarded', PAGE)
    t.same((await browser.get('/flash')).json(), { error: message })
  }
})

const MISSING = {
  statusCode: 500,
  code: 'SESSION_PLUGIN_MISSING',
  message: 'requireAuth needs fastify-sesame: register it before the route'
}

void t.test(
  'a guarded route fails with 500 if the plugin is missing or registered only in a sibling context',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    const guarded = async (child: FastifyInstance) => {
      child.get('/guarded', { preHandler: requireAuth() }, async () => 'guarded')
    }
    await app.register(guarded)
    await app.register(
      async (child) => {
        await child.register(sessions, { secret: SECRET })
        await guarded(child)
      },
      { prefix: '/with' }
    )
    await app.register(guarded, { prefix: '/beside' })
    for (const url of ['/guarded', '/beside/guarded']) {
      for (const headers of [PAGE, JSON_ONLY]) {
        const response = await app.inject({ url, headers })
        t.match(response.json(), MISSING, url)
        t.equal(response.headers['location'], undefined)
      }
    }
    t.equal((await app.inject({ url: '/with/guarded', headers: PAGE })).statusCode, 302)
  }
)

void t.test('requireAuth fails with SESSION_OFF on a route with session: false', async (t) => {
  const { app, browser } = await setUp(t)
  app.get('/off', { config: { session: false }, preHandler: requireAuth() }, async () => 'off')
  await browser.get('/login')
  t.match((await browser.get('/off', PAGE)).json(), { statusCode: 500, code: 'SESSION_OFF' })
})

void t.test('requireAuth guards a readonly route, and sets its message in the visitor cookie', async (t) => {
  const store = spyStore()
  const { app, browser } = await setUp(t, {}, { store })
  app.get('/readonly', { config: { session: 'readonly' }, preHandler: requireAuth() }, async () => 'readonly')
  const response = await browser.get('/readonly', PAGE)
  t.equal(response.headers['location'], '/login')
  t.match(setCookieOf(response), /^session_id_visitor=/)
  t.same((await browser.get('/flash')).json(), { error: 'Please login to continue' })
  t.same(store.take(), [])
  await browser.get('/login')
  t.equal((await browser.get('/readonly', PAGE)).payload, 'readonly')
})

void t.test('requireAuth can guard a not-found handler', async (t) => {
  const { app, browser } = await setUp(t)
  app.setNotFoundHandler({ preHandler: requireAuth() }, async (_request, reply) =>
    reply.code(404).send('nothing here')
  )
  t.equal((await browser.get('/nowhere', PAGE)).headers['location'], '/login')
  t.equal((await browser.get('/nowhere', JSON_ONLY)).statusCode, 401)
  await browser.get('/login')
  t.equal((await browser.get('/nowhere', JSON_ONLY)).statusCode, 404)
})

void t.test('requireAuth treats a HEAD request like a GET request', async (t) => {
  const { browser } = await setUp(t)
  const head = (headers: Record<string, string>) =>
    browser.request({ method: 'HEAD', url: '/guarded', headers })
  t.equal((await head(JSON_ONLY)).statusCode, 401)
  t.equal((await head(PAGE)).headers['location'], '/login')
  await browser.get('/login')
  const { statusCode, payload } = await head(PAGE)
  t.same({ statusCode, payload }, { statusCode: 200, payload: '' })
})

void t.test(
  "with onStoreError: 'anonymous', no request counts as signed in while the store fails",
  async (t) => {
    let broken = false
    const store = failingStore(() => broken, new MemoryStore())
    const { browser } = await setUp(t, {}, { store, onStoreError: 'anonymous' })
    await browser.get('/login')
    const { cookie } = browser
    broken = true
    t.match((await browser.get('/guarded', JSON_ONLY)).json(), { code: 'SESSION_UNAUTHENTICATED' })
    t.equal((await browser.get('/guarded', PAGE)).headers['location'], '/login')
    t.equal(browser.cookie, cookie, 'the cookie stays')
    broken = false
    t.equal((await browser.get('/guarded', PAGE)).statusCode, 200)
  }
)

void t.test('requireAuth works on a typed route, in a list of preHandlers and as a hook', async (t) => {
  const { app } = await setUp(t)
  interface Typed {
    Body: { name: string }
    Params: { id: string }
    Querystring: { page?: number }
    Headers: { 'x-id': string }
    Reply: { 200: { id: string }; 401: { error: string } }
  }
  app.post<Typed>('/typed/:id', { preHandler: requireAuth() }, async ({ params }) => ({ id: params.id }))
  app.put<Typed>('/typed/:id', { preHandler: [app.csrfProtection, requireAuth()] }, async ({ params }) => ({
    id: params.id
  }))
  app.route<Typed>({
    method: 'DELETE',
    url: '/typed/:id',
    preHandler: requireAuth({ check: (session) => session.get('role') === 'admin' }),
    handler: async ({ params }) => ({ id: params.id })
  })
  await app.register(
    async (child) => {
      child.addHook('preHandler', requireAuth())
      child.get('/', async () => 'inside')
    },
    { prefix: '/inside' }
  )
  for (const [method, url] of [
    ['POST', '/typed/5'],
    ['DELETE', '/typed/5'],
    ['GET', '/inside']
  ] as const) {
    t.equal((await app.inject({ method, url, headers: JSON_ONLY })).statusCode, 401, `${method} ${url}`)
  }
  t.equal((await app.inject({ method: 'PUT', url: '/typed/5', payload: {} })).statusCode, 403)
})

void t.test('an expired session is reported even if an earlier hook has read the session', async (t) => {
  const clock = stopClock(t)
  const app = addRoutes(await makeApp(t, { maxAge: 60 }))
  app.addHook('preHandler', async ({ session }) => void session.get('theme'))
  app.get('/guarded', { preHandler: requireAuth() }, async () => 'guarded')
  const browser = new Browser(app)
  await browser.get('/login')
  clock.move(60_000)
  t.match((await browser.get('/guarded')).json(), { code: 'SESSION_EXPIRED' })
})

void t.test(
  'requireAuth understands an Accept header that a route schema has turned into a list',
  async (t) => {
    const app = await makeApp(t, {}, { ajv: { customOptions: { coerceTypes: 'array' } } })
    const headers = { type: 'object', properties: { accept: { type: 'array', items: { type: 'string' } } } }
    app.get('/guarded', { schema: { headers }, preHandler: requireAuth() }, async () => 'in')
    t.equal((await app.inject({ url: '/guarded', headers: PAGE })).statusCode, 302)
    t.equal((await app.inject({ url: '/guarded', headers: JSON_ONLY })).statusCode, 401)
  }
)

for (const [name, cookie] of Object.entries({ 'a signed-out client': false, 'a stale session': true })) {
  void t.test(`the handler does not run for ${name} that disconnects during the redirect`, async (t) => {
    const clock = stopClock(t)
    const gate = makeGate()
    const store = wrap(new MemoryStore(), async (method, _args, next) => {
      if (method === 'update') await gate.wait()
      return next()
    })
    const { app, browser } = await setUp(t, { freshWithin: 300 }, { store })
    let runs = 0
    app.get('/change', { preHandler: requireAuth({ freshWithin: 300 }) }, async () => `run ${++runs}`)
    app.addHook('onSend', async ({ url }) => {
      if (!cookie && url === '/change') await gate.wait()
    })
    await browser.get('/login')
    clock.move(300_000)
    await app.listen({ host: '127.0.0.1', port: 0 })
    const headers = { ...PAGE, ...(cookie && { cookie: browser.cookie }) }
    await disconnectAt(gate, app, requestText('/change', headers))
    t.equal(runs, 0)
  })
}
