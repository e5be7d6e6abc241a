import Fastify from 'fastify'
import sessions from '../../dist/index.js'
import { COOKIE, HELLO, nextTurn, SECRET } from '../payload.js'
import { addSessionRoutes } from '../routes.js'

/**
 * Returns an application that uses fastify-sesame with the given store. All options have their default values, except
 * that `secure` is off, because it needs TLS.
 */
export async function sesame(store) {
  const app = Fastify()
  const { name: cookieName, maxAge, ...cookie } = COOKIE
  await app.register(sessions, { secret: SECRET, cookieName, maxAge, cookie, store })
  addSessionRoutes(app)
  app.post('/add', async ({ session }) => {
    await nextTurn()
    session.update('count', (count = 0) => count + 1)
    return HELLO
  })
  app.post('/login', async ({ session }) => {
    session.regenerate()
    session.set('user', 'ada')
    return HELLO
  })
  app.post('/logout', async ({ session }) => session.invalidate() ?? HELLO)
  app.get('/token', async (_request, reply) => ({ token: reply.generateCsrf() }))
  app.post('/csrf', { preHandler: app.csrfProtection }, async () => HELLO)
  return app
}
