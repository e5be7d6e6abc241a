import { equal } from 'node:assert/strict'
import { once } from 'node:events'
import websocket from '@fastify/websocket'
import { WebSocket } from 'ws'

export const packages = ['@fastify/websocket', 'ws']
export const notes = [
  'The session is loaded at the handshake. Write a change with `await session.save()`, once for each socket.',
  'A handshake from another origin gets a 403, and its connection is closed.'
]

const startWithSockets = (start, session) =>
  start({
    session,
    register: (app) => app.register(websocket),
    async routes(app) {
      app.post('/login', async ({ session }) => (session.login('ada'), {}))
      app.post('/logout', async ({ session }) => (session.invalidate(), {}))
      app.get('/', async ({ session }) => ({ count: session.get('count') ?? null }))
      // The package sees only the routes that are declared after it has loaded.
      await app.register(async (scope) => {
        scope.get('/socket', { websocket: true }, (socket, { session }) => {
          socket.on('message', async (text) => {
            session.set('count', Number(text))
            await session.save()
            socket.send('saved')
          })
          socket.send(String(session.get('userId')))
        })
        scope.get('/members', { websocket: true, preValidation: guardedOnly }, (socket) =>
          socket.send('member')
        )
      })
    }
  })

/** Refuses a handshake without a user. */
async function guardedOnly({ session }, reply) {
  if (session.get('userId') === undefined) await reply.code(401).send({})
}

/** Opens a socket. Returns the first message and the socket, or the status of the refusal. */
async function open(browser, path, headers = {}) {
  const url = browser.url.replace('http', 'ws') + path
  const socket = new WebSocket(url, { headers: { ...browser.cookieHeader(), ...headers } })
  const refusal = new Promise((resolve) => {
    socket.on('unexpected-response', (request, { statusCode: status }) => {
      request.destroy()
      resolve({ status })
    })
  })
  socket.on('error', () => {})
  const message = new Promise((resolve) => {
    socket.once('message', (text) => resolve({ text: String(text), socket }))
  })
  return Promise.race([refusal, message])
}

export const checks = {
  async 'the handshake has the session'({ start }) {
    for (const properties of [false, true]) {
      const browser = await startWithSockets(start, { properties })
      equal((await open(browser, '/socket')).text, 'undefined')
      await browser.post('/login')
      equal((await open(browser, '/socket')).text, 'ada')
    }
  },

  async 'session.save() writes a change'({ start }) {
    const browser = await startWithSockets(start)
    await browser.post('/login')
    const { socket } = await open(browser, '/socket')
    socket.send('7')
    equal(String((await once(socket, 'message'))[0]), 'saved')
    equal((await browser.get()).count, 7)
  },

  async 'a hook refuses the handshake of a visitor'({ start }) {
    const browser = await startWithSockets(start)
    equal((await open(browser, '/members')).status, 401)
    await browser.post('/login')
    equal((await open(browser, '/members')).text, 'member')
    await browser.post('/logout')
    equal((await open(browser, '/members')).status, 401)
  },

  async 'a handshake from another origin is refused'({ start }) {
    const browser = await startWithSockets(start)
    await browser.post('/login')
    equal((await open(browser, '/socket', { origin: 'https://evil.test' })).status, 403)
    equal((await open(browser, '/socket', { origin: browser.url })).text, 'ada')
  }
}
