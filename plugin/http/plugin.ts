import fastifyCookie from '@fastify/cookie'
import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import fp from 'fastify-plugin'
import { isPromise, withTimeout } from '../awaitable.js'
import { SessionOptionError, SessionUsageError } from '../errors.js'
import { resolveOptions, withSchema, type ResolvedOptions } from '../options/resolve.js'
import type { SessionOptions } from '../options/session-options.js'
import type { Session } from '../session/session.js'
import { withoutValues } from '../stores/driver-error.js'
import { guardStore } from '../stores/guarded.js'
import { MemoryStore } from '../stores/memory.js'
import type { Awaitable } from '../types.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import type { CookieWriter } from './cookie.js'
import { createCsrf, type CsrfProtection } from './csrf.js'
import { kSessions, RequestSessions } from './request-sessions.js'
import { kState } from './request-state.js'
import { createSessionManager, type SessionManager } from './session-manager.js'

declare module 'fastify' {
  interface FastifyInstance {
    sessionManager: SessionManager
    /**
     * A preHandler that refuses requests that were not made by a page of this site. It lets GET, HEAD and OPTIONS
     * requests pass, except for the handshake of a WebSocket.
     */
    csrfProtection: (request: AnyRequest, reply: AnyReply, done: HookHandlerDoneFunction) => void
  }
  interface FastifyRequest {
    /** The session of the request, or a new, empty session. A new session is stored only if something is set in it. */
    readonly session: Session
  }
  interface FastifyReply {
    /** Returns a new CSRF token of 86 characters for a form's hidden field or the header of a script's request. */
    generateCsrf(): string
  }
}

type Done = (error?: Error) => void

async function plugin(app: FastifyInstance, given: SessionOptions): Promise<void> {
  // Fastify's own error would name only a symbol, which this plugin uses as a decorator.
  if (app[kSessions] !== undefined)
    throw new SessionUsageError(
      'SESSION_PLUGIN_DUPLICATE',
      'fastify-sesame is already registered in this scope or in a parent scope: register it once there, or only in sibling scopes'
    )
  const options = await withSchema(resolveOptions(given, () => new MemoryStore()))
  await checkReady(app, options)
  const store = guardStore(options.store, options.storeTimeout)
  const sessions = new RequestSessions(options, store, await cookieWriterOf(app))
  const manager = createSessionManager(sessions, store)
  const csrf = createCsrf(sessions)
  decorate(app, sessions, manager, csrf)
  // The CSRF hooks run before the hook that loads the session, so that a refused request does not reach the store.
  protect(app, csrf, options.csrf.protect === 'all')
  addHooks(app, sessions)
  if (options.cleanupInterval > 0) sweep(app, manager, options.cleanupInterval)
  app.addHook('onClose', async () => {
    try {
      await store.close()
    } catch (error) {
      app.log.error(error, 'fastify-sesame: the store did not close')
    }
  })
}

/**
 * Returns a function that serializes cookies with @fastify/cookie. If the application has not registered that plugin,
 * it is registered in a context without routes, so that its decorators do not slow down every request.
 */
async function cookieWriterOf(app: FastifyInstance): Promise<CookieWriter> {
  let owner = app
  if (!app.hasPlugin('@fastify/cookie')) {
    await app.register(async (context) => {
      await context.register(fastifyCookie, { hook: false })
      owner = context
    })
  }
  return (name, value, attributes) => owner.serializeCookie(name, value, attributes)
}

/**
 * Fails the registration if the store can never work. If the database is unavailable at the moment, only logs a
 * warning, because it may be available again by the first request.
 */
async function checkReady(app: FastifyInstance, { store, storeTimeout }: ResolvedOptions): Promise<void> {
  try {
    await withTimeout(Promise.resolve(store.ready?.()), storeTimeout)
  } catch (error) {
    if (error instanceof SessionOptionError) throw error
    app.log.warn(withoutValues(error), 'fastify-sesame: the session store is not ready')
  }
}

function decorate(
  app: FastifyInstance,
  sessions: RequestSessions,
  manager: SessionManager,
  csrf: CsrfProtection
): void {
  app.decorate(kSessions, sessions)
  app.decorate('sessionManager', manager)
  app.decorateRequest(kState, null)
  app.decorateRequest('session', {
    getter(this: FastifyRequest) {
      return sessions.open(this)
    }
  })
  app.decorateReply('generateCsrf', function generateCsrf(this: FastifyReply) {
    return csrf.generate(this.request.session)
  })
}

function addHooks(app: FastifyInstance, sessions: RequestSessions): void {
  app.addHook('onRequest', function loadSession(request, reply, done) {
    sessions.stateOf(request).reply = reply
    settle(sessions.load(request), done)
  })
  app.addHook('onSend', function saveSession(request, reply, _payload, done) {
    settle(sessions.finish(request, reply), done)
  })
  const failed = new WeakSet<FastifyRequest>()
  app.addHook('onError', function endSession(request, reply, _error, done) {
    // Fastify calls this hook at most twice: for the first error, and again if an onSend hook also throws an error.
    const isLast = failed.has(request)
    failed.add(request)
    settle(isLast ? sessions.abandon(request, reply) : undefined, done)
  })
}

/**
 * Calls `done` synchronously if nothing is pending, because a promise for each hook would take more time than the rest
 * of the session handling. If `done()` throws an error, for example because a header is invalid, `done` is called again
 * with that error, because nothing else would handle it.
 */
function settle(pending: Awaitable<void>, done: Done): void {
  if (isPromise(pending)) pending.then(() => done()).then(undefined, done)
  else done()
}

/**
 * Adds the CSRF checks. If `everywhere` is true, hooks check every route. They check the origin before the body is read
 * and the token afterwards. Otherwise, only routes with the preHandler `csrfProtection` are checked.
 */
function protect(app: FastifyInstance, csrf: CsrfProtection, everywhere: boolean): void {
  function csrfProtection(request: FastifyRequest, _reply: FastifyReply, done: Done): void {
    csrf.checkOrigin(request)
    csrf.checkToken(request)
    done()
  }
  app.decorate('csrfProtection', csrfProtection as FastifyInstance['csrfProtection'])
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
    manager
      .cleanup()
      .catch((error: unknown) => app.log.error(error, 'fastify-sesame: the sweep of expired sessions failed'))
  }, interval)
  timer.unref()
  app.addHook('onClose', () => clearInterval(timer))
}

/**
 * The session plugin for Fastify 5. Register it with `await app.register(sessions, { secret })`.
 * @throws {SessionOptionError} from `register`, if an option is wrong.
 * @throws {SessionUsageError} `SESSION_PLUGIN_DUPLICATE` from `register`, if this or a parent scope has the plugin.
 */
export default fp(plugin, { fastify: '5.x', name: 'fastify-sesame' })
