import Fastify from 'fastify'
import { getIronSession } from 'iron-session'
import { COOKIE, HELLO, nextTurn, readAll, SECRET, seedOf } from '../payload.js'

/** iron-session keeps the session encrypted in the cookie. Only routes that open the session decrypt it. */
export default async function ironSession() {
  const app = Fastify()
  const options = { cookieName: COOKIE.name, password: SECRET, ttl: COOKIE.maxAge, cookieOptions: COOKIE }
  const open = ({ raw }, reply) => getIronSession(raw, reply.raw, options)
  app.get('/hello', async () => HELLO)
  app.get('/read', async (...pair) => ({ name: (await open(...pair)).name ?? null }))
  app.get('/all', async (...pair) => open(...pair).then((session) => readAll((key) => session[key])))
  app.post('/seed', async (request, reply) => keep(await open(request, reply), seedOf(request.query)))
  app.post('/change', async (...pair) => {
    const session = await open(...pair)
    await keep(session, { visits: session.visits + 1 })
    return { visits: session.visits }
  })
  app.post('/add', async (...pair) => {
    const session = await open(...pair)
    await nextTurn()
    return keep(session, { count: (session.count ?? 0) + 1 })
  })
  app.post('/logout', async (...pair) => (await open(...pair)).destroy() ?? HELLO)
  return { app }
}

const keep = (session, values) => (Object.assign(session, values), session.save().then(() => HELLO))
