import secureSession from '@fastify/secure-session'
import Fastify from 'fastify'
import { COOKIE, HELLO, SECRET } from '../payload.js'
import { addSessionRoutes, addUnsafeCounter } from '../routes.js'

/**
 * @fastify/secure-session keeps the session encrypted in the cookie and writes only changed sessions. It derives the
 * key from `secret` at startup.
 */
export default async function secure() {
  const app = Fastify()
  const { name: cookieName, ...cookie } = COOKIE
  const options = { secret: SECRET, salt: 'sixteen bytes ok', cookieName, expiry: cookie.maxAge }
  await app.register(secureSession, { ...options, cookie })
  addSessionRoutes(app)
  addUnsafeCounter(app)
  app.post('/login', async ({ session }) => {
    session.regenerate(['name', 'visits'])
    session.set('user', 'ada')
    return HELLO
  })
  app.post('/logout', async ({ session }) => session.delete() ?? HELLO)
  return { app }
}
