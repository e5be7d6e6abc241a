import { EventEmitter, once } from 'node:events'
import Fastify from 'fastify'
import sessions from '../../../dist/index.js'
import { makeBrowser } from '../fixtures/browser.js'

const SECRET = 'a secret for the interop checks, 32 bytes or more'

/** Starts an application with routes that use the session. `gate` holds up the requests with `?wait`. */
export async function startApp(options) {
  const gate = makeGate()
  // The checks send a key named "__proto__".
  const app = Fastify({ onProtoPoisoning: 'ignore' })
  await app.register(sessions, { secret: SECRET, cookie: { secure: false }, ...options })
  addRoutes(app, gate)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return { url, gate, browser: () => makeBrowser(url), close: () => app.close() }
}

function addRoutes(app, gate) {
  const post = (path, work) =>
    app.post(path, async ({ session, body, query }) => {
      if ('wait' in query) await gate.pass()
      work(session, body)
      return { id: session.id }
    })
  app.get('/', async ({ session }) => ({
    id: session.id,
    data: Object.fromEntries(session.keys().map((key) => [key, session.get(key)]))
  }))
  app.get('/flash', async ({ session }) => ({ flash: session.getFlash('note') ?? null }))
  post('/set', (session, entries) => entries.forEach(([key, value]) => session.set(key, value)))
  post('/count', (session) => session.update('count', (count) => (count ?? 0) + 1))
  post('/remove', (session, { key }) => session.remove(key))
  post('/clear', (session) => session.clear())
  post('/flash', (session) => session.setFlash('note', 'saved'))
  post('/login', (session) => session.login('ada'))
  post('/logout', (session) => session.invalidate())
}

function makeGate() {
  const waiting = []
  const arrivals = new EventEmitter()
  return {
    pass: () =>
      new Promise((resolve) => {
        waiting.push(resolve)
        arrivals.emit('arrival')
      }),
    /** Waits until `count` requests are waiting. */
    async reached(count) {
      while (waiting.length < count) await once(arrivals, 'arrival')
    },
    open: () => waiting.splice(0).forEach((resolve) => resolve())
  }
}
