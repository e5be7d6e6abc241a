import Fastify from 'fastify'
import t from 'tap'
import sessions, { csrfProtection, requireAuth } from '../../plugin/index.js'
import { SECRET } from '../fixtures/app.js'
import { verdictOf } from '../fixtures/csrf.js'

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
