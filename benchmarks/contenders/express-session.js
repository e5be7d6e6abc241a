import express from 'express'
import session from 'express-session'
import { COOKIE, HELLO, nextTurn, readAll, SECRET, seedOf } from '../payload.js'
import { connectRedisStore } from '../redis-store.js'

/** Stores only changed sessions. ETags are turned off, because the contenders that use Fastify do not compute them. */
export default async function expressSession({ useRedis, redis }) {
  const app = express().disable('etag').disable('x-powered-by')
  const { name, ...cookie } = { ...COOKIE, maxAge: COOKIE.maxAge * 1000 }
  const store = useRedis && { store: await connectRedisStore(redis) }
  app.use(session({ secret: SECRET, name, cookie, resave: false, saveUninitialized: false, ...store }))
  app.get('/hello', (_, reply) => reply.json(HELLO))
  app.get('/read', ({ session }, reply) => reply.json({ name: session.name ?? null }))
  app.get('/all', ({ session }, reply) => reply.json(readAll((key) => session[key])))
  app.post('/seed', ({ session, query }, reply) => Object.assign(session, seedOf(query)) && reply.json(HELLO))
  app.post('/change', ({ session }, reply) => reply.json({ visits: ++session.visits }))
  app.post('/add', async ({ session, session: { count = 0 } }, reply) => {
    await nextTurn()
    session.count = count + 1
    reply.json(HELLO)
  })
  app.post('/login', (request, reply) => {
    const kept = { name: request.session.name, visits: request.session.visits, user: 'ada' }
    request.session.regenerate(() => Object.assign(request.session, kept) && reply.json(HELLO))
  })
  app.post('/logout', ({ session }, reply) => session.destroy(() => reply.json(HELLO)))
  return { app }
}
