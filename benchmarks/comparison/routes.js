import express from 'express'
import Fastify from 'fastify'
import { Browser } from './browser.js'
import { Gate } from './control.js'

/** The handlers of the routes. They get the functions of the session, the query, and the gate and the reply. */
const HANDLERS = {
  'GET /data': ({ get }) => ({ userId: get('userId'), a: get('a'), b: get('b') }),
  'POST /set': ({ set }, { key, size = 1 }) => set(key, 'x'.repeat(size)),
  'POST /slow-set': async ({ set }, { key }, { gate }) => {
    await gate.pass()
    set(key, 'x')
  },
  'POST /slow-read': async ({ get }, _query, { gate }) => {
    await gate.pass()
    return { userId: get('userId') }
  },
  'POST /login': ({ login }) => login('ada'),
  'POST /logout': async ({ logout }, { clear }, { reply }) => {
    await logout()
    if (clear !== undefined) reply.clearCookie(clear)
  },
  'POST /regenerate': ({ regenerate }) => regenerate()
}

/** `register` adds the library to the app. `sessionOf` returns the functions of a request's session. */
export async function startFastify(options, register, sessionOf) {
  const app = Fastify(options)
  const gate = new Gate()
  await register(app)
  for (const [route, handle] of Object.entries(HANDLERS)) {
    const [method, url] = route.split(' ')
    const handler = async (request, reply) =>
      (await handle(sessionOf(request), request.query, { gate, reply })) ?? {}
    app.route({ method, url, handler })
  }
  app.post('/login-and-redirect', async (request, reply) => {
    await sessionOf(request).login('ada')
    return reply.redirect('/data')
  })
  app.post('/forgets-return', async (request, reply) => {
    sessionOf(request).set('a', 'x')
    reply.send({})
  })
  const url = await app.listen({ port: 0 })
  return serverOf({ url, gate, close: () => (app.server.closeAllConnections(), app.close()) })
}

export async function startExpress(middleware, sessionOf) {
  // In the environment `test`, Express does not print errors.
  const app = express().set('env', 'test').use(middleware)
  const gate = new Gate()
  for (const [route, handle] of Object.entries(HANDLERS)) {
    const [method, url] = route.split(' ')
    app[method.toLowerCase()](url, async (request, reply) => {
      const session = sessionOf(request)
      const body = await handle(session, request.query, { gate, reply })
      if ('save' in request.query) await session.save()
      reply.send(body ?? {})
    })
  }
  app.post('/login-and-redirect', async (request, reply) => {
    const { login, save } = sessionOf(request)
    await login('ada')
    if ('save' in request.query) await save()
    reply.redirect('/data')
  })
  app.post('/forgets-return', async (request, reply) => {
    sessionOf(request).set('a', 'x')
    reply.send({})
  })
  const http = await new Promise((resolve, reject) => {
    const server = app.listen(0, '127.0.0.1', (error) => (error ? reject(error) : resolve(server)))
  })
  const url = `http://127.0.0.1:${http.address().port}`
  return serverOf({ url, gate, close: () => (http.closeAllConnections(), http.close()) })
}

function serverOf(server) {
  const signIn = async () => {
    const browser = new Browser(server.url)
    await browser.post('/login')
    return browser
  }
  return { ...server, signIn }
}
