import Fastify from 'fastify'
import t, { type Test } from 'tap'
import sessions, { csrfProtection, requireAuth } from '../../plugin/index.js'
import { addRoutes, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { makeCsrfApp, post, PROTECTIONS, verdictOf, visit } from '../fixtures/csrf.js'

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
