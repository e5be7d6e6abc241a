import { readFile } from 'node:fs/promises'
import formbody from '@fastify/formbody'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import sessions, { type SessionOptions, type SessionStore } from 'fastify-sesame'
import { accountRoutes } from './account.js'
import { sendError } from './reply.js'
import { sessionRoutes } from './sessions.js'
import { createUsers, type Users } from './users.js'

declare module 'fastify-sesame' {
  interface SessionData {
    userId: string
    username: string
    role: string
    /** The browser that the user signed in with, such as `Firefox on Linux`. */
    browser: string
  }
}

export interface AppOptions {
  readonly secret: SessionOptions['secret']
  /** The store of the sessions. By default, sessions are kept in memory. */
  readonly store?: SessionStore | undefined
  /** The users who can sign in. By default these are the demo accounts. */
  readonly users?: Users
  /** The minimum log level. `silent` turns logging off. Default: `warn`. */
  readonly logLevel?: string
}

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'same-origin',
  // After a logout, the browser's back button must not show pages of the user who was signed in.
  'cache-control': 'no-store'
}

/** Builds the application. The caller only has to call `listen()`. */
export async function build(options: AppOptions): Promise<FastifyInstance> {
  const { secret, store, logLevel = 'warn' } = options
  // Behind a TLS proxy, set `trustProxy` here. The cookie's Secure attribute and the origin check depend on it.
  const app = Fastify({ logger: { level: logLevel }, bodyLimit: 16_384 })
  app.addHook('onRequest', async (_request, reply) => void reply.headers(HEADERS))
  app.setNotFoundHandler((request, reply) => sendError(request, reply, 404, 'This page does not exist.'))
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    const { statusCode = 500, message } = error
    if (statusCode < 500) return sendError(request, reply, statusCode, message)
    // The error message may reveal internal details, so it is written only to the log.
    request.log.error(error)
    return sendError(request, reply, statusCode, 'Something went wrong. Please try again later.')
  })
  await app.register(formbody)
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
  const users = options.users ?? (await createUsers())
  app.decorateRequest('member')
  await app.register(accountRoutes, { users })
  await app.register(sessionRoutes, { users })
  await addStyle(app)
  return app
}

async function addStyle(app: FastifyInstance): Promise<void> {
  const css = await readFile(new URL('../style.css', import.meta.url))
  app.get('/style.css', { config: { session: false } }, async (_request, reply) => {
    return reply.type('text/css; charset=utf-8').header('cache-control', 'no-cache').send(css)
  })
}
