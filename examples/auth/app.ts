import formbody from '@fastify/formbody'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import sessions, { type SessionOptions, type SessionStore } from 'fastify-sesame'
import { accountRoutes } from './account.js'
import { adminRoutes } from './admin.js'
import { deviceRoutes } from './devices.js'
import { addErrorPages } from './errors.js'
import { HEADERS } from './headers.js'
import { loginRoutes } from './login.js'
import { passwordRoutes } from './password.js'
import './session-data.js'
import { shopRoutes } from './shop.js'
import { addSignOuts } from './sign-outs.js'
import { createUsers, type Users } from './users.js'
import { addViews } from './views.js'

export interface AppOptions {
  readonly secret: SessionOptions['secret']
  /** The store of the sessions. By default, sessions are kept in memory. */
  readonly store?: SessionStore | undefined
  /** The users who can sign in. By default these are the demo accounts. */
  readonly users?: Users
  /** The minimum log level. `silent` turns logging off. Default: `warn`. */
  readonly logLevel?: string
}

declare module 'fastify' {
  interface FastifyInstance {
    users: Users
  }
}

/** Builds the application. The caller only has to call `listen()`. */
export async function build(options: AppOptions): Promise<FastifyInstance> {
  const { secret, store, logLevel = 'warn' } = options
  // Behind a TLS proxy, set `trustProxy` here. The cookie's Secure attribute, the origin check and the addresses of the
  // devices depend on it.
  const app = Fastify({ logger: { level: logLevel }, bodyLimit: 16_384 })
  addErrorPages(app)
  await app.register(helmet, HEADERS)
  // After a logout, the browser's back button must not show pages of the user who was signed in.
  app.addHook('onRequest', async (_request, reply) => void reply.header('cache-control', 'no-store'))
  await app.register(formbody)
  await app.register(rateLimit, { global: false })
  await app.register(sessions, {
    secret,
    store,
    cookieName: 'sid',
    maxAge: 7200,
    idleTimeout: 1800,
    // With 'strict', the browser would not send the cookie when the user follows a link from another site. The user
    // would then have to sign in again.
    cookie: { secure: 'auto', sameSite: 'lax' },
    csrf: { protect: 'all' }
  })
  app.decorate('users', options.users ?? (await createUsers()))
  app.decorateRequest('member')
  addSignOuts(app)
  await addViews(app)
  for (const routes of [loginRoutes, accountRoutes, passwordRoutes, deviceRoutes, shopRoutes, adminRoutes]) {
    await app.register(routes)
  }
  return app
}
