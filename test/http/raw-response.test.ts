import t from 'tap'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'

void t.test(
  'a cookie is set although another package says too early that the headers are sent',
  async (t) => {
    const app = await makeApp(t)
    // @fastify/express does this, so that Express does not answer a request twice.
    app.addHook('preHandler', async (_request, reply) => {
      Object.defineProperty(reply.raw, 'headersSent', { get: () => true, configurable: true })
    })
    addRoutes(app)
    app.get('/raw', async ({ session }, reply) => {
      session.set('name', 'bob')
      reply.raw.setHeader('set-cookie', 'raw=1')
      return 'set'
    })
    const browser = new Browser(app)
    t.equal((await browser.get('/set?name=ada')).statusCode, 200)
    t.same((await browser.get('/read')).json(), { name: 'ada' })
    t.match((await new Browser(app).get('/raw')).headers['set-cookie'], ['raw=1', /^session_id=/])
  }
)
