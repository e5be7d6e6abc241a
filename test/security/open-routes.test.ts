import Fastify from 'fastify'
import t, { type Test } from 'tap'
import sessions, { csrfProtection, requireAuth } from '../../plugin/index.js'
import { addRoutes, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { HOST, makeCsrfApp, OWN, post, PROTECTIONS, verdictOf, visit } from '../fixtures/csrf.js'

// Checks that a mistake of the application or a polluted prototype does not leave a route without its protection.

void t.test(
  'F9: a guard without the plugin fails at the first request and does not open the route',
  async (t) => {
    for (const [guard, preHandler] of Object.entries({ csrfProtection, requireAuth: requireAuth() })) {
      for (const method of ['GET', 'POST'] as const) {
        const response = await Fastify()
          .all('/', { preHandler }, async () => 'open')
          .inject({ method, url: '/' })
        t.match(response.json(), { statusCode: 500, code: 'SESSION_PLUGIN_MISSING' }, `${guard}, ${method}`)
        t.match(response.json(), { message: new RegExp(`^${guard} needs fastify-sesame: `) })
      }
    }
  }
)

void t.test(
  'F9: imported guards protect routes that are declared before the plugin has loaded',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    void app.register(sessions, { secret: SECRET })
    app.post('/form', { preHandler: csrfProtection }, async () => 'open')
    app.get('/account', { preHandler: requireAuth() }, async () => 'open')
    t.equal(verdictOf(await app.inject({ method: 'POST', url: '/form' })), 'token')
    const headers = { origin: 'http://evil.test' }
    t.equal(verdictOf(await app.inject({ method: 'POST', url: '/form', headers })), 'origin')
    t.equal((await app.inject('/account')).statusCode, 401)
  }
)

/** Gives every object a property for the rest of the test, as a prototype pollution anywhere in the process would. */
function pollute(t: Test, name: string, value: unknown): void {
  Object.defineProperty(Object.prototype, name, {
    value,
    writable: true,
    enumerable: true,
    configurable: true
  })
  t.teardown(() => Reflect.deleteProperty(Object.prototype, name))
}

void t.test('F9: a polluted Object.prototype turns off neither a check nor a session', async (t) => {
  const foreign = { origin: 'http://evil.test', 'sec-fetch-site': 'cross-site' }
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    app.get('/account', { preHandler: requireAuth() }, async ({ session }) => session.get('userId'))
    const { browser, token } = await visit(app)
    await t.test(protect, async (t) => {
      for (const name of ['csrf', 'session']) pollute(t, name, false)
      t.equal(verdictOf(await post(browser, { ...foreign, 'x-csrf-token': token })), 'origin')
      t.equal(verdictOf(await post(browser)), 'token')
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
      t.equal((await app.inject('/account')).statusCode, 401)
      await browser.get('/login')
      t.equal((await browser.get('/account')).payload, 'ada')
    })
  }
})

void t.test('F9: a polluted Object.prototype provides no option that the application left out', async (t) => {
  pollute(t, 'domain', 'evil.test')
  pollute(t, 'maxSessionsPerUser', 1)
  pollute(t, 'migrateFrom', 'evil')
  const app = addRoutes(await makeApp(t))
  const response = await app.inject('/login')
  t.notMatch(setCookieOf(response), 'Domain')
  await app.inject('/login')
  t.equal((await app.sessionManager.list('ada')).length, 2)
})

const MISSPELT: readonly [config: object, message: string][] = [
  [
    { csrf: 'orgin' },
    `option "config.csrf" of the route POST /a is 'orgin', but must be one of false, 'origin'`
  ],
  [{ csrf: true }, `option "config.csrf" of the route POST /a is true, but must be one of false, 'origin'`],
  [
    { session: 'read-only' },
    `option "config.session" of the route POST /a is 'read-only', but must be one of false, 'readonly'`
  ]
]

void t.test('F9: a misspelt route config is refused when the route is declared', async (t) => {
  const app = await makeApp(t)
  for (const [config, message] of MISSPELT) {
    t.throws(() => app.post('/a', { config }, async () => 'open'), {
      code: 'SESSION_OPTION_INVALID',
      message: `fastify-sesame: ${message}`
    })
  }
  const config = { session: 5 } as object
  t.throws(() => app.route({ method: ['GET', 'PUT'], url: '/b', config, handler: async () => 'open' }), {
    message: / of the route GET,PUT \/b is 5, /
  })
  await app.register(
    async (child) =>
      void t.throws(() => child.get('/c', { config }, async () => 'open'), { message: / GET \/v1\/c is / }),
    { prefix: '/v1' }
  )
})

void t.test('F9: a misspelt config of a route declared before the plugin fails each request', async (t) => {
  for (const [config, message] of MISSPELT) {
    const app = Fastify()
    t.teardown(() => app.close())
    void app.register(sessions, { secret: SECRET })
    app.post('/a', { config }, async () => 'open')
    app.setErrorHandler(async (error: Error, { session }, reply) => {
      session.setFlash('error', 'refused')
      return reply.code(500).send({ message: error.message })
    })
    for (const headers of [{}, { cookie: 'session_id=x' }]) {
      const response = await app.inject({ method: 'POST', url: '/a', headers })
      t.equal(response.statusCode, 500)
      t.same(response.json(), { message: `fastify-sesame: ${message}` })
      t.equal(setCookieOf(response), undefined)
    }
  }
})

void t.test('F9: a misspelt config of the not-found handler fails each request', async (t) => {
  const app = await makeApp(t)
  app.setNotFoundHandler({ config: { csrf: 'orgin' } } as object, async () => 'open')
  const response = await app.inject('/nowhere')
  t.equal(response.statusCode, 500)
  t.match(response.json(), { message: / of the not-found handler is 'orgin', / })
})

void t.test(
  'F9: the origin is checked on a route whose guard was read before the plugin had loaded',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    void app.register(sessions, { secret: SECRET })
    t.equal(app.csrfProtection, undefined)
    app.post('/form', { preHandler: app.csrfProtection }, async () => 'open')
    t.throws(() => app.post('/list', { preHandler: [app.csrfProtection] }, async () => 'open'), {
      code: 'FST_ERR_HOOK_INVALID_HANDLER'
    })
    t.throws(() => app.addHook('preHandler', app.csrfProtection), { code: 'FST_ERR_HOOK_INVALID_HANDLER' })
    const send = async (headers: Record<string, string>) =>
      verdictOf(await app.inject({ method: 'POST', url: '/form', headers: { host: HOST, ...headers } }))
    t.equal(await send({ origin: 'http://evil.test' }), 'origin')
    t.equal(await send({ 'sec-fetch-site': 'same-site' }), 'origin')
    t.equal(await send({ origin: OWN }), 'passes', 'the token is not checked: use the import')
  }
)

void t.test('F9: a form on another site leaves the cookie of a user of a guarded route alone', async (t) => {
  const app = await makeApp(t)
  app.post('/account', { preHandler: requireAuth() }, async () => 'open')
  // SameSite withholds the cookie, so the request looks like that of a signed-out user.
  const headers = { accept: 'text/html', host: HOST, origin: 'http://evil.test' }
  const response = await app.inject({ method: 'POST', url: '/account', headers })
  t.equal(verdictOf(response), 'origin')
  t.equal(setCookieOf(response), undefined)
})
