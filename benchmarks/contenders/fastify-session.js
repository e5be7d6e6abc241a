import cookie from '@fastify/cookie'
import session from '@fastify/session'
import Fastify from 'fastify'
import { COOKIE, HELLO, SECRET } from '../payload.js'
import { connectRedisStore } from '../redis-store.js'
import { addSessionRoutes, addUnsafeCounter } from '../routes.js'

/**
 * With `lean`, only changed sessions are stored. By default, @fastify/session stores every session on every request,
 * even an empty one.
 */
export default async function fastifySession({ lean, useRedis, redis }) {
  const app = Fastify()
  const store = useRedis && (await connectRedisStore(redis))
  const { name: cookieName, maxAge, ...attributes } = COOKIE
  const settings = { ...(store && { store }), ...(lean && { rolling: false, saveUninitialized: false }) }
  await app.register(cookie)
  // @fastify/session takes maxAge in milliseconds.
  const options = { secret: SECRET, cookieName, cookie: { ...attributes, maxAge: maxAge * 1000 } }
  await app.register(session, { ...options, ...settings })
  addSessionRoutes(app)
  addUnsafeCounter(app)
  app.post('/login', async (request) => {
    await request.session.regenerate(['name', 'visits'])
    request.session.set('user', 'ada')
    return HELLO
  })
  app.post('/logout', async (request) => request.session.destroy().then(() => HELLO))
  return { app }
}
