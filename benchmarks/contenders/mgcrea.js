import cookie from '@fastify/cookie'
import session from '@mgcrea/fastify-session'
import Fastify from 'fastify'
import { COOKIE, HELLO, SECRET } from '../payload.js'
import { addSessionRoutes, addUnsafeCounter } from '../routes.js'

/** Runs @mgcrea/fastify-session with `saveUninitialized: false`, so that empty sessions are not stored. */
export default async function mgcrea() {
  const app = Fastify()
  const { name: cookieName, ...attributes } = COOKIE
  await app.register(cookie)
  await app.register(session, { secret: SECRET, cookieName, cookie: attributes, saveUninitialized: false })
  addSessionRoutes(app)
  addUnsafeCounter(app)
  app.post('/logout', async (request) => request.destroySession().then(() => HELLO))
  return { app }
}
