import fastifyCookie from '@fastify/cookie'
import type { FastifyInstance, FastifyReply, FastifyRequest, preHandlerHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { isPromise, withTimeout } from '../awaitable.js'
import type { CookieWriter } from './cookie.js'
import { createCsrf, type CsrfProtection } from './csrf.js'
import { SessionOptionError } from '../errors.js'
import { kState, SessionManager, stateOf } from './session-manager.js'
import { resolveOptions, withSchema, type ResolvedOptions } from '../options/resolve.js'
import type { SessionOptions } from '../options/session-options.js'
import type { Session } from '../session/session.js'
import { MemoryStore } from '../stores/memory.js'
import type { Awaitable } from '../types.js'

declare module 'fastify' {
  interface FastifyInstance {
    sessionManager: SessionManager
    /** A preHandler for requests of this site's own pages. GET, HEAD and OPTIONS pass, but for WebSockets' handshakes. */
    csrfProtection: preHandlerHookHandler
  }
  interface FastifyRequest {
    /** The visitor's session; a new, empty one, which is kept only when something is set, where there is none. */
    readonly session: Session
  }
  interface FastifyReply {
    /** A token for a form's hidden field or a script's header: 86 characters, another one each time. */
    generateCsrf(this: FastifyReply): string
  }
}

type Done = (error?: Error) => void

async function plugin(app: FastifyInstance, given: SessionOptions): Promise<void> {
  const options = await withSchema(resolveOptions(given, () => new MemoryStore()))
  await readyOf(app, options)
  const manager = new SessionManager(options, await cookieWriterOf(app))
  const csrf = createCsrf(options)
  app.decorate('sessionManager', manager)
  decorate(app, manager, csrf)
  // Before the session is loaded: a request from elsewhere costs no call of the store.
  protect(app, csrf, options.csrf.protect === 'all')
  addHooks(app, manager)
  if (options.cleanupInterval > 0) sweep(app, manager, options.cleanupInterval)
  app.addHook('onClose', async () => {
    await manager
      .close()
      .catch((error: unknown) => app.log.error(error, 'fastify-sesame: the store did not close'))
  })
}

/** In a context of its own, which has no routes: what @fastify/cookie hangs on a request would cost every one. */
async function cookieWriterOf(app: FastifyInstance): Promise<CookieWriter> {
  let host = app
  if (!app.hasPlugin('@fastify/cookie')) {
    await app.register(async (aside) => {
      await aside.register(fastifyCookie, { hook: false })
      host = aside
    })
  }
  return (name, value, attributes) => host.serializeCookie(name, value, attributes)
}

/** A store that can never work fails the registration; an engine that is away now may be back for the first request. */
async function readyOf(app: FastifyInstance, { store, storeTimeout }: ResolvedOptions): Promise<void> {
  try {
    await withTimeout(Promise.resolve(store.ready?.()), storeTimeout)
  } catch (error) {
    if (error instanceof SessionOptionError) throw error
    app.log.warn(error, 'fastify-sesame: the session store is not ready')
  }
}

function decorate(app: FastifyInstance, manager: SessionManager, csrf: CsrfProtection): void {
  app.decorateRequest(kState, null)
  app.decorateRequest('session', {
    getter(this: FastifyRequest) {
      return manager.open(this)
    }
  })
  app.decorateReply('generateCsrf', function generateCsrf(this: FastifyReply) {
    return csrf.generate(this.request.session)
  })
}

function addHooks(app: FastifyInstance, manager: SessionManager): void {
  app.addHook('onRequest', function loadSession(request, reply, done) {
    stateOf(request).reply = reply
    settle(manager.load(request), done)
  })
  app.addHook('onSend', function saveSession(request, reply, _payload, done) {
    settle(manager.finish(request, reply), done)
  })
  const failed = new WeakSet<FastifyRequest>()
  app.addHook('onError', function endSession(request, reply, _error, done) {
    // Fastify calls it for the first error, and for one that an onSend hook throws for the error's own reply. After that
    // it calls ours no more.
    const isLast = failed.has(request)
    failed.add(request)
    settle(isLast ? manager.abandon(request, reply) : undefined, done)
  })
}

/**
 * Callbacks where the store answers at once: a promise for each hook would cost more than the session does.
 * What Fastify throws in `done()`, such as for a header that cannot be sent, goes to `done` too, or nobody would handle it.
 */
function settle(pending: Awaitable<void>, done: Done): void {
  if (isPromise(pending)) pending.then(() => done()).then(undefined, done)
  else done()
}

/** Everywhere, the first door opens before the body is read; on single routes both are one preHandler. */
function protect(app: FastifyInstance, csrf: CsrfProtection, everywhere: boolean): void {
  app.decorate('csrfProtection', function csrfProtection(request, _reply, done) {
    csrf.checkOrigin(request)
    csrf.checkToken(request)
    done()
  })
  if (!everywhere) return
  app.addHook('onRequest', function checkOrigin(request, _reply, done) {
    csrf.checkOrigin(request)
    done()
  })
  app.addHook('preHandler', function checkToken(request, _reply, done) {
    csrf.checkToken(request)
    done()
  })
}

function sweep(app: FastifyInstance, manager: SessionManager, interval: number): void {
  const timer = setInterval(() => {
    Promise.resolve()
      .then(() => manager.cleanup())
      .catch((error: unknown) => app.log.error(error, 'fastify-sesame: the sweep of expired sessions failed'))
  }, interval)
  timer.unref()
  app.addHook('onClose', () => clearInterval(timer))
}

/**
 * Sessions for Fastify 5: `await app.register(sessions, { secret })`.
 * @throws {SessionOptionError} from `register`, for a wrong option.
 */
export default fp(plugin, { fastify: '5.x', name: 'fastify-sesame' })
