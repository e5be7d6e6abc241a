import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import { SessionAuthError, SessionOptionError, SessionUsageError } from './errors.js'
import { kSession } from './manager.js'
import type { Session } from './session.js'
import type { Awaitable } from './types.js'

export interface RequireAuthOptions {
  /** The data key that a signed-in session holds. Default: the plugin's `userKey`. */
  readonly userKey?: string
  /** Where a page request is sent. Default `'/login'`. */
  readonly loginPath?: string
  /** The flash message `error` of a page, the message of a JSON answer. Default `'Please login to continue'`. */
  readonly message?: string
  /** Seconds since login, or since the last `regenerate()`, after which a new login is asked for. Default: none. */
  readonly freshWithin?: number
  /** May refuse a signed-in session by returning `false`: 403. */
  readonly check?: (session: Session, request: FastifyRequest) => Awaitable<boolean>
}

const EXPIRED = 'Session expired'

/**
 * A preHandler that lets signed-in requests pass. A page request (it accepts HTML) is redirected to `loginPath` with a
 * flash message, any other gets 401; what `check` refuses gets 403.
 * @throws {SessionUsageError} at the first request, `SESSION_PLUGIN_MISSING`, where the session plugin is not registered.
 */
export function requireAuth(options: RequireAuthOptions = {}): preHandlerAsyncHookHandler {
  const { loginPath = '/login', message = 'Please login to continue', freshWithin, check } = options
  checkOptions(options)

  return async function requireAuth(request, reply) {
    const manager = request.server.sessionManager as FastifyRequest['server']['sessionManager'] | undefined
    if (manager === undefined) {
      throw new SessionUsageError(
        'SESSION_PLUGIN_MISSING',
        'requireAuth needs fastify-sesame: register it before the route'
      )
    }
    // A page that only this user may see must not be kept by a cache, or shown again after the logout.
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
    const hadEnded = request[kSession] === 'ended'
    const { session } = request
    const key = options.userKey ?? manager.options.userKey
    if (session.get(key) == null) {
      return hadEnded
        ? turnAway(request, reply, loginPath, new SessionAuthError('SESSION_EXPIRED', EXPIRED))
        : turnAway(request, reply, loginPath, new SessionAuthError('SESSION_UNAUTHENTICATED', message))
    }
    if (freshWithin !== undefined && Date.now() >= session.createdAt + freshWithin * 1000) {
      return turnAway(request, reply, loginPath, new SessionAuthError('SESSION_NOT_FRESH', message))
    }
    if (check !== undefined && !(await check(session, request))) {
      throw new SessionAuthError('SESSION_FORBIDDEN', 'Forbidden')
    }
  }
}

function turnAway(
  request: FastifyRequest,
  reply: FastifyReply,
  loginPath: string,
  error: SessionAuthError
): FastifyReply {
  if (!wantsPage(request)) throw error
  if (request.routeOptions.config.session !== 'readonly') request.session.setFlash('error', error.message)
  // After a POST the login page is to be fetched with GET: RFC 9110 section 15.4.4.
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  return reply.redirect(loginPath, isRead ? 302 : 303)
}

/** A browser names text/html where it wants a page; its scripts, which also accept anything, say that they are none. */
function wantsPage({ headers }: FastifyRequest): boolean {
  const { accept = '', 'sec-fetch-mode': mode = 'navigate' } = headers
  return accept.includes('text/html') || (accept.trim() === '*/*' && mode === 'navigate')
}

function checkOptions({ userKey, loginPath, message, freshWithin, check }: RequireAuthOptions): void {
  for (const [name, value] of Object.entries({ userKey, loginPath, message })) {
    if (value !== undefined && typeof value !== 'string')
      throw SessionOptionError.wrong(`requireAuth.${name}`, value, 'a string')
  }
  if (freshWithin !== undefined && !(Number.isFinite(freshWithin) && freshWithin > 0)) {
    throw SessionOptionError.wrong(
      'requireAuth.freshWithin',
      freshWithin,
      'a finite number of seconds above 0'
    )
  }
  if (check !== undefined && typeof check !== 'function')
    throw SessionOptionError.wrong('requireAuth.check', check, 'a function')
}
