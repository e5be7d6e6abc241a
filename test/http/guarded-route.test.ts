import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type preHandlerAsyncHookHandler,
  type preHandlerHookHandler
} from 'fastify'
import t, { type Test } from 'tap'
import sessions, {
  csrfProtection,
  guarded,
  SessionOptionError,
  type SessionOptions,
  type SignedInRequest
} from '../../plugin/index.js'
import { addRoutes, Browser, makeApp, SECRET } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'

const PAGE = { accept: 'text/html' }
const JSON_ONLY = { accept: 'application/json' }

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const app = addRoutes(await makeApp(t, options))
  const browser = new Browser(app)
  return { app, browser }
}

void t.test('a guarded handler runs for signed-in users only, and gets the user’s id', async (t) => {
  const { app, browser } = await setUp(t)
  app.get(
    '/me',
    guarded(async ({ userId, session }) => ({ userId, same: session.get('userId') === userId }))
  )
  t.match((await browser.get('/me', JSON_ONLY)).json(), { code: 'SESSION_UNAUTHENTICATED' })
  t.equal((await browser.get('/me', PAGE)).headers['location'], '/login')
  await browser.get('/login')
  for (let visit = 0; visit < 2; visit++)
    t.same((await browser.get('/me', PAGE)).json(), { userId: 'ada', same: true })
  t.equal((await browser.request({ method: 'HEAD', url: '/me', headers: PAGE })).statusCode, 200)
  await browser.get('/logout')
  t.equal((await browser.get('/me', JSON_ONLY)).statusCode, 401)
})

void t.test('guarded() takes the options of requireAuth', async (t) => {
  const clock = stopClock(t)
  const { app, browser } = await setUp(t)
  const handler = async ({ userId }: SignedInRequest) => userId
  app.get('/fresh', guarded(handler, { freshWithin: 300, loginPath: '/again', message: 'Again' }))
  app.get('/admin', guarded(handler, { check: (session) => session.get('role') === 'admin' }))
  app.get('/api', guarded(handler, { loginPath: false }))
  t.equal((await browser.get('/fresh', PAGE)).headers['location'], '/again')
  t.equal((await browser.get('/api', PAGE)).statusCode, 401)
  await browser.get('/login')
  t.equal((await browser.get('/fresh')).payload, 'ada')
  t.equal((await browser.get('/admin')).statusCode, 403)
  await browser.get('/set?role=admin')
  t.equal((await browser.get('/admin')).payload, 'ada')
  clock.move(300_000)
  t.match((await browser.get('/fresh', JSON_ONLY)).json(), { code: 'SESSION_NOT_FRESH', message: 'Again' })
})

void t.test('userId is the value at the userKey of guarded(), or else of the plugin', async (t) => {
  for (const [userKey, key] of [
    [undefined, 'account'],
    ['admin', 'admin']
  ] as const) {
    const { app, browser } = await setUp(t, { userKey: 'account' })
    app.get(
      '/me',
      guarded(async ({ userId }) => ({ userId }), { ...(userKey !== undefined && { userKey }) })
    )
    app.get('/sign-in', async ({ session }) => {
      session.set('account', 0)
      session.set('admin', 7)
      session.remove(key === 'admin' ? 'other' : 'admin')
    })
    await browser.get('/sign-in')
    t.same((await browser.get('/me')).json(), { userId: key === 'admin' ? 7 : 0 })
  }
})

void t.test('a guarded handler gets the app as `this`, and can answer in every way', async (t) => {
  const { app, browser } = await setUp(t)
  app.get(
    '/this',
    guarded(function () {
      return this.hasRoute({ method: 'GET', url: '/this' })
    })
  )
  app.get(
    '/sync',
    guarded(({ userId }) => `sync ${userId}`)
  )
  app.get(
    '/send',
    guarded(({ userId }, reply) => void reply.send(`sent ${userId}`))
  )
  app.get(
    '/error',
    guarded(() => {
      throw Object.assign(new Error('teapot'), { statusCode: 418 })
    })
  )
  await browser.get('/login')
  const answers = []
  for (const url of ['/this', '/sync', '/send']) answers.push((await browser.get(url)).payload)
  t.same(answers, ['true', 'sync ada', 'sent ada'])
  t.equal((await browser.get('/error')).statusCode, 418)
})

void t.test('a guarded route can have types, a schema and hooks of its own', async (t) => {
  const { app, browser } = await setUp(t)
  interface Item {
    Params: { id: string }
    Body: { name: string }
  }
  const handler = async ({ params, body, userId }: SignedInRequest<Item>) => ({ ...params, ...body, userId })
  app.post('/passed/:id', guarded(handler))
  app.post<Item>('/typed/:id', guarded(handler))
  app.post(
    '/explicit/:id',
    guarded<Item>(async ({ params: { id }, userId }) => ({ id, userId }))
  )
  app.post(
    '/cast/:id',
    guarded(async ({ params, userId }) => ({ ...(params as Item['Params']), userId }))
  )
  const properties = { id: { type: 'string', minLength: 2 } }
  app.route({
    method: 'POST',
    url: '/spread/:id',
    schema: { params: { type: 'object', properties } },
    ...guarded(handler)
  })
  await browser.get('/login')
  for (const [url, answer] of [
    ['/passed/10', { id: '10', name: 'tea', userId: 'ada' }],
    ['/typed/10', { id: '10', name: 'tea', userId: 'ada' }],
    ['/explicit/10', { id: '10', userId: 'ada' }],
    ['/cast/10', { id: '10', userId: 'ada' }],
    ['/spread/10', { id: '10', name: 'tea', userId: 'ada' }],
    ['/spread/1', { statusCode: 400 }]
  ] as const) {
    const response = await browser.request({ method: 'POST', url, payload: { name: 'tea' } })
    t.match(response.json(), answer, url)
  }
})

void t.test('a guarded route can also check the CSRF token, in preValidation or in a list', async (t) => {
  const { app, browser } = await setUp(t)
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.post('/first', { preValidation: csrfProtection, ...guarded(async ({ userId }) => userId) })
  const { preHandler, handler } = guarded(async ({ userId }) => userId)
  app.post('/second', { preHandler: [csrfProtection, preHandler], handler })
  for (const url of ['/first', '/second']) {
    await browser.get('/login')
    t.match((await browser.request({ method: 'POST', url })).json(), { code: 'SESSION_CSRF_TOKEN' })
    const headers = { 'x-csrf-token': (await browser.get('/token')).payload }
    t.equal((await browser.request({ method: 'POST', url, headers })).payload, 'ada')
    const anonymous = new Browser(app)
    headers['x-csrf-token'] = (await anonymous.get('/token')).payload
    t.equal((await anonymous.request({ method: 'POST', url, headers })).statusCode, 401)
  }
})

void t.test('F9: a route whose own preHandler replaces that of guarded() is not open', async (t) => {
  const { app, browser } = await setUp(t)
  let runs = 0
  const preHandler: preHandlerHookHandler = (_request, _reply, done) => done()
  app.get('/', { ...guarded(async () => `run ${++runs}`), preHandler })
  app.get('/handler', guarded(async () => `run ${++runs}`).handler)
  for (let visit = 0; visit < 2; visit++) {
    for (const url of ['/', '/handler']) {
      t.match((await browser.get(url)).json(), {
        statusCode: 500,
        code: 'SESSION_GUARD_NOT_CALLED',
        message: /preHandler of guarded\(\) was replaced/
      })
    }
    await browser.get('/login')
  }
  t.equal(runs, 0)
})

void t.test('a guarded handler does not run for one request because another has passed', async (t) => {
  const { app, browser } = await setUp(t)
  const { preHandler, handler } = guarded(async ({ userId }) => userId)
  const only: preHandlerAsyncHookHandler = async (request, reply) => {
    if (request.headers['x-user'] !== undefined) await preHandler(request, reply)
  }
  app.get('/', { preHandler: only, handler })
  await browser.get('/login')
  t.equal((await browser.get('/', { 'x-user': 'yes' })).payload, 'ada')
  t.match((await browser.get('/')).json(), { code: 'SESSION_GUARD_NOT_CALLED' })
})

void t.test('guarded() throws if it gets no handler or a wrong option', async (t) => {
  const handler = async () => 'open'
  for (const [args, message] of [
    [[], '"guarded.handler" is undefined, but must be a function'],
    [[{ freshWithin: 300 }, handler], '"guarded.handler" is { freshWithin: 300 }, but must be a function'],
    [
      [handler, { freshwithin: 300 }],
      '"requireAuth.freshwithin" is unknown; the options here are userKey, loginPath, message, freshWithin, check'
    ],
    [
      [handler, { userKey: '$csrf' }],
      '"requireAuth.userKey" is \'$csrf\', but must be a key that does not begin with "$"'
    ]
  ] as const) {
    const call = () => (guarded as (...args: readonly unknown[]) => unknown)(...args)
    t.throws(call, SessionOptionError)
    t.throws(call, { message: `fastify-sesame: option ${message}` })
  }
})

void t.test('guarded passed to a route without being called fails each request', async (t) => {
  const { app } = await setUp(t)
  const preHandler = guarded as unknown as preHandlerHookHandler
  app.get('/guard', { preHandler }, async () => 'open')
  app.get('/handler', guarded as unknown as () => string)
  for (const url of ['/guard', '/handler'])
    t.match((await app.inject(url)).json(), { statusCode: 500, code: 'SESSION_GUARD_NOT_CALLED' })
})

void t.test('a guarded route without the plugin fails with SESSION_PLUGIN_MISSING', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get(
    '/',
    guarded(async () => 'open')
  )
  t.match((await app.inject('/')).json(), { statusCode: 500, code: 'SESSION_PLUGIN_MISSING' })
})

void t.test('guarded() works in an app that decorates its requests with a userId of its own', async (t) => {
  const { app, browser } = await setUp(t)
  app.decorateRequest('userId', { getter: () => 'of the app' })
  app.get(
    '/',
    guarded(async ({ userId }) => userId)
  )
  await browser.get('/login')
  t.equal((await browser.get('/')).payload, 'ada')
})

void t.test(
  'guarded() works on servers with HTTP/2, with HTTPS and with a logger of their own',
  async (t) => {
    interface AuditLogger extends FastifyBaseLogger {
      audit?(text: string): void
    }
    const loggerInstance: AuditLogger = Fastify().log
    const apps = [Fastify({ http2: true }), Fastify({ https: {} }), Fastify({ loggerInstance })] as const
    const [http2, https, logged] = apps
    http2.get(
      '/',
      guarded(async ({ userId }) => userId)
    )
    http2.get('/spread', { schema: {}, ...guarded(async ({ userId }) => userId) })
    https.get(
      '/',
      guarded(async ({ userId }) => userId)
    )
    https.route({ method: 'GET', url: '/spread', ...guarded(async ({ userId }) => userId) })
    logged.get(
      '/',
      guarded(async ({ userId }) => userId)
    )
    logged.get<{ Params: { id: string } }>('/spread', {
      schema: {},
      ...guarded(async ({ userId }: SignedInRequest<{ Params: { id: string } }>) => userId)
    })
    for (const app of apps as readonly unknown[] as readonly FastifyInstance[]) {
      t.teardown(() => app.close())
      await app.register(sessions, { secret: SECRET })
      addRoutes(app)
      const browser = new Browser(app)
      t.equal((await browser.get('/', JSON_ONLY)).statusCode, 401)
      await browser.get('/login')
      for (const url of ['/', '/spread']) t.equal((await browser.get(url)).payload, 'ada')
    }
  }
)

void t.test('with csrf: true, a forged request gets a 403 before the guard answers it', async (t) => {
  const { app, browser } = await setUp(t)
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.post(
    '/name',
    guarded(async ({ userId }) => userId, { csrf: true })
  )
  app.post(
    '/open',
    guarded(async ({ userId }) => userId, { csrf: false })
  )
  const send = (headers: Record<string, string>) => browser.request({ method: 'POST', url: '/name', headers })
  t.match((await send(PAGE)).json(), { code: 'SESSION_CSRF_TOKEN' })
  await browser.get('/login')
  const token = (await browser.get('/token')).payload
  t.equal((await send({ ...PAGE, 'x-csrf-token': token })).payload, 'ada')
  t.equal((await send({ ...PAGE, 'x-csrf-token': 'wrong' })).statusCode, 403)
  t.equal((await send({ 'x-csrf-token': token, 'sec-fetch-site': 'cross-site' })).statusCode, 403)
  t.equal((await browser.request({ method: 'POST', url: '/open' })).payload, 'ada')
  t.throws(() => guarded(async () => '', { csrf: 'all' as never }), {
    option: 'guarded.csrf',
    message: /is 'all', but must be true or false/
  })
})
