import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import { COOKIE, HELLO, nextTurn, readAll, seedOf } from '../payload.js'

/**
 * Shows the cost of finding a session in a Map on this machine. The contender maps each cookie to its session data,
 * without signatures, expiry or other features.
 */
export default async function map() {
  const app = Fastify()
  const sessions = new Map()
  const idOf = ({ headers: { cookie = '' } }) => cookie.slice(COOKIE.name.length + 1)
  const dataOf = (request) => sessions.get(idOf(request)) ?? {}
  const begin = (data, id = randomBytes(54).toString('hex')) => sessions.set(id, data) && id
  const cookieOf = (id) => `${COOKIE.name}=${id}; Max-Age=${COOKIE.maxAge}; Path=/; HttpOnly; SameSite=Lax`
  app.get('/hello', async () => HELLO)
  app.get('/read', async (request) => ({ name: dataOf(request).name ?? null }))
  app.get('/all', async (request) => readAll((key) => dataOf(request)[key]))
  app.post('/seed', ({ query }, reply) =>
    reply.header('set-cookie', cookieOf(begin(seedOf(query)))).send(HELLO)
  )
  app.post('/change', async (request) => ({ visits: ++dataOf(request).visits }))
  app.post('/add', async (request) => {
    await nextTurn()
    return (dataOf(request).count = (dataOf(request).count ?? 0) + 1) && HELLO
  })
  app.post('/logout', async (request) => sessions.delete(idOf(request)) && HELLO)
  return { app }
}
