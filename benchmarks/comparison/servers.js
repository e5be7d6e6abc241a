// Starts an HTTP server with each library. All servers have the same routes. Each library has the settings that its
// README recommends and saves no empty sessions. `secure` is off, because the servers do not use TLS.
import cookie from '@fastify/cookie'
import secureSession from '@fastify/secure-session'
import fastifySession from '@fastify/session'
import expressSession from 'express-session'
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import sesame, { MemoryStore } from '../../dist/index.js'
import { wrapStore } from '../../dist/testing/index.js'
import { controlStore, StoreControl } from './control.js'
import { startExpress, startFastify } from './routes.js'

/** In seconds. */
const HOUR = 3600
const TEN_MINUTES = 600

const SECRET = 'a secret for the comparison, 32 bytes or more'
const COOKIE = { path: '/', httpOnly: true, sameSite: 'lax', secure: false }

/**
 * `start` accepts these options:
 * - `idle`: each request extends the session by ten minutes. Otherwise, a session lives for an hour.
 * - `secrets`: the first one signs, and all verify.
 * - `store`: the store of an earlier server. The default is a new one.
 * - `settings` and `app`: other options of the library and of Fastify.
 */
export const LIBRARIES = [
  { name: 'fastify-sesame', start: startSesame },
  { name: '@fastify/session', start: startFastifySession },
  { name: '@fastify/secure-session', start: startSecureSession },
  { name: 'express-session', start: startExpressSession }
]

/** The store of express-session keeps JSON and replies later, as a database does. @fastify/session accepts it too. */
const newStore = () => new expressSession.MemoryStore()

async function startSesame({ idle, secrets = [SECRET], store = new MemoryStore(), settings, app } = {}) {
  const control = new StoreControl()
  const wrapped = wrapStore(store, (method, args, next) => control.run(method, args, next))
  const lifetime = { maxAge: HOUR, ...(idle && { idleTimeout: TEN_MINUTES }) }
  const options = { secret: secrets, store: wrapped, cookie: COOKIE, ...lifetime, ...settings }
  const register = (app) => app.register(sesame, options)
  const server = await startFastify(app, register, ({ session }) => ({
    get: (key) => session.get(key),
    set: (key, value) => session.set(key, value),
    login: (user) => session.login(user),
    logout: () => session.invalidate(),
    regenerate: () => session.regenerate()
  }))
  return { ...server, store, control }
}

async function startFastifySession({ idle, secrets = [SECRET], store = newStore(), settings, app } = {}) {
  const control = controlStore(store)
  const lifetime = {
    cookie: { ...COOKIE, maxAge: (idle ? TEN_MINUTES : HOUR) * 1000 },
    rolling: idle === true
  }
  const options = { secret: secrets, store, ...lifetime, saveUninitialized: false, ...settings }
  const register = (app) => app.register(cookie).register(fastifySession, options)
  const server = await startFastify(app, register, (request) => ({
    get: (key) => request.session.get(key),
    set: (key, value) => request.session.set(key, value),
    async login(user) {
      await request.session.regenerate()
      request.session.set('userId', user)
    },
    logout: () => request.session.destroy(),
    regenerate: () => request.session.regenerate(['userId'])
  }))
  return { ...server, store, control }
}

/** Keeps the session in the cookie, so there is no store. */
async function startSecureSession({ idle, secrets = [SECRET], settings, app } = {}) {
  const key = secrets.map((secret) => createHash('sha256').update(secret).digest())
  const expiry = idle ? TEN_MINUTES : HOUR
  const options = { key, expiry, cookie: { ...COOKIE, maxAge: expiry }, ...settings }
  const register = async (app) => {
    await app.register(secureSession, options)
    if (idle) app.addHook('onRequest', async ({ session }) => session.touch())
  }
  return startFastify(app, register, ({ session }) => ({
    get: (key) => session.get(key),
    set: (key, value) => session.set(key, value),
    login(user) {
      session.regenerate()
      session.set('userId', user)
    },
    logout: () => session.delete(),
    regenerate: () => session.regenerate(['userId'])
  }))
}

async function startExpressSession({ idle, secrets = [SECRET], store = newStore(), settings } = {}) {
  const control = controlStore(store)
  const lifetime = {
    cookie: { ...COOKIE, maxAge: (idle ? TEN_MINUTES : HOUR) * 1000 },
    rolling: idle === true
  }
  const options = {
    secret: secrets,
    store,
    ...lifetime,
    resave: false,
    saveUninitialized: false,
    ...settings
  }
  const server = await startExpress(expressSession(options), (request) => {
    const call = (method) => promisify(request.session[method].bind(request.session))()
    const regenerate = async (userId) => {
      await call('regenerate')
      request.session.userId = userId
    }
    return {
      get: (key) => request.session[key],
      set: (key, value) => (request.session[key] = value),
      login: (user) => regenerate(user),
      logout: () => call('destroy'),
      regenerate: () => regenerate(request.session.userId),
      save: () => call('save')
    }
  })
  return { ...server, store, control }
}
