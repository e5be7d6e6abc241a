import cluster from 'node:cluster'
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
import type { Awaitable, SessionProperties } from '../types.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import type { CookieWriter } from './cookie.js'
import { createCsrf, csrfProtection, kCsrf, type CsrfProtection } from './csrf.js'
import { kSessions, RequestSessions } from './request-sessions.js'
import { kState, routeProblem } from './request-state.js'
import { createSessionManager, type SessionManager } from './session-manager.js'

declare module 'fastify' {
  interface FastifyInstance {
    sessionManager: SessionManager
    /**
     * The function that the package exports as `csrfProtection`. Until the plugin has loaded, this is `undefined`. With
     * `csrf.decorate: false`, the plugin does not add it. As a method, it can be declared again by the types of
     * @fastify/csrf-protection.
     */
    csrfProtection(this: void, request: AnyRequest, reply: AnyReply, done: HookHandlerDoneFunction): void
  }
  interface FastifyRequest {
    /** The session of the request, or a new, empty session. A new session is stored only if something is set in it. */
    readonly session: Session & SessionProperties
    /**
     * Checks a CSRF token that the handler has read itself, for example from a streamed body. Also works on routes with
     * `session: 'readonly'`, and checks the token even if the option `csrf.token` is `false`.
     * @throws {CsrfError} `SESSION_CSRF_TOKEN` if the token is not a valid token of the session.
     * @throws {SessionUsageError} `SESSION_OFF` on a route with `session: false`, which has no tokens.
     */
    verifyCsrf(token: unknown): void
  }
  interface FastifyReply {
    /**
     * Returns a new CSRF token of 86 characters for a form's hidden field or the header of a script's request. With
     * `csrf.decorate: false`, the plugin does not add it.
     */
    generateCsrf(): string
  }
}

type Done = (error?: Error) => void

const CLUSTER_WARNING =
  'fastify-sesame: this process is a worker of a cluster, and no other worker knows the sessions of its MemoryStore: ' +
  'use a store that all workers share'

async function plugin(app: FastifyInstance, given: SessionOptions): Promise<void> {
  // Fastify's own error would name only a symbol, which this plugin uses as a decorator.
  if (app[kSessions] !== undefined)
    throw new SessionUsageError(
      'SESSION_PLUGIN_DUPLICATE',
      'fastify-sesame is already registered in this scope or in a parent scope: register it once there, or only in sibling scopes'
    )
  const options = await withSchema(resolveOptions(given, () => new MemoryStore()))
  await checkReady(app, options)
  for (const predecessor of options.predecessors) predecessor.ready?.()
  const store = guardStore(options.store, options.storeTimeout)
  const sessions = new RequestSessions(options, store, await cookieWriterOf(app))
  const manager = createSessionManager(sessions, store)
  const csrf = createCsrf(sessions)
  decorate(app, sessions, manager, csrf)
  addHooks(app, sessions, csrf)
  if (options.cleanupInterval > 0) sweep(app, manager, options)
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
  if (cluster.isWorker && store instanceof MemoryStore) app.log.warn(CLUSTER_WARNING)
  try {
    const warnings = await withTimeout(Promise.resolve(store.ready?.()), storeTimeout)
    for (const warning of warnings ?? []) app.log.warn(`fastify-sesame: ${warning}`)
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
  app.decorate(kCsrf, csrf)
  app.decorate('sessionManager', manager)
  app.decorateRequest(kState, null)
  app.decorateRequest('session', {
    getter(this: FastifyRequest) {
      return sessions.open(this)
    }
  })
  app.decorateRequest('verifyCsrf', function verifyCsrf(this: FastifyRequest, token: unknown) {
    csrf.verify(this, token)
  })
  if (sessions.options.csrf.decorate) decorateCsrf(app, sessions, csrf)
}

/** Adds the names that @fastify/csrf-protection has too. */
function decorateCsrf(app: FastifyInstance, sessions: RequestSessions, csrf: CsrfProtection): void {
  if (app.hasDecorator('csrfProtection') || app.hasReplyDecorator('generateCsrf')) {
    const want = 'false, because another plugin has already added app.csrfProtection or reply.generateCsrf'
    throw SessionOptionError.wrong('csrf.decorate', true, want)
  }
  app.decorate('csrfProtection', csrfProtection)
  app.decorateReply('generateCsrf', function generateCsrf(this: FastifyReply) {
    const token = csrf.generate(this.request.session)
    sessions.stateOf(this.request).printsToken = true
    // The onSend hook sets this header again. It does not run for a hijacked reply, which uses `getHeaders()`.
    this.header('cache-control', 'no-store')
    return token
  })
}

function addHooks(app: FastifyInstance, sessions: RequestSessions, csrf: CsrfProtection): void {
  const checkRoute = createRouteCheck(app)
  // One hook does all three, because each hook takes time. A refused request does not reach the store.
  app.addHook('onRequest', function loadSession(request, reply, done) {
    if (request.raw.headers.upgrade !== undefined) closeIfRefused(request, reply)
    checkRoute(request)
    csrf.checkFirst(request)
    sessions.stateOf(request).reply = reply
    settle(sessions.load(request), done)
  })
  if (sessions.options.csrf.protect === 'all')
    app.addHook('preHandler', function checkToken(request, _reply, done) {
      csrf.checkToken(request)
      done()
    })
  app.addHook('onSend', function saveSession(request, reply, _payload, done) {
    settle(sessions.finish(request, reply), done)
  })
  const failed = new WeakSet<FastifyRequest>()
  app.addHook('onError', function endSession(request, reply, _error, done) {
    // Fastify calls this hook at most twice: for the first error, and again if an onSend hook also throws an error.
    const isLast = failed.has(request)
    sessions.fail(request)
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
 * Closes the connection of a WebSocket handshake that gets an error as its reply. Node leaves this to @fastify/websocket,
 * which does it only if its own onRequest hook has run. That hook runs later if the package was registered later.
 */
function closeIfRefused({ raw }: FastifyRequest, reply: FastifyReply): void {
  reply.raw.once('finish', () => {
    if (reply.statusCode >= 400) raw.destroy()
  })
}

/** Refuses a route whose `config` is misspelt when it is declared. The returned function refuses requests to it. */
function createRouteCheck(app: FastifyInstance): (request: FastifyRequest) => void {
  // Fastify does not call the onRoute hook for routes that were declared before the plugin had loaded.
  const hasEarlierRoutes = /\([A-Z]/.test(app.printRoutes())
  app.addHook('onRoute', function checkRoute(route) {
    const problem = routeProblem(route)
    if (problem !== undefined) throw problem
  })
  return function checkRoute(request) {
    if (!hasEarlierRoutes && !request.is404) return
    const problem = routeProblem(request.routeOptions)
    if (problem !== undefined) throw problem
  }
}

/** Removes expired sessions regularly. When the app closes, stops a running sweep, so that the store can be closed. */
function sweep(app: FastifyInstance, manager: SessionManager, options: ResolvedOptions): void {
  const { cleanupInterval, storeTimeout } = options
  const stop = new AbortController()
  let running: Promise<unknown> = Promise.resolve()
  const timer = setInterval(() => {
    running = manager
      .cleanup(stop.signal)
      .catch((error: unknown) => app.log.error(error, 'fastify-sesame: the sweep of expired sessions failed'))
  }, cleanupInterval)
  timer.unref()
  app.addHook('onClose', async () => {
    clearInterval(timer)
    stop.abort()
    await withTimeout(running, storeTimeout).catch(() => undefined)
  })
}

/**
 * The session plugin for Fastify 5. Register it with `await app.register(sessions, { secret })`.
 * @throws {SessionOptionError} from `register`, if an option is wrong.
 * @throws {SessionUsageError} `SESSION_PLUGIN_DUPLICATE` from `register`, if this or a parent scope has the plugin.
 */
export default fp(plugin, { fastify: '5.x', name: 'fastify-sesame' })
