import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import { SessionAuthError, SessionOptionError, SessionUsageError } from '../errors.js'
import { stateOf } from './session-manager.js'
import type { Session } from '../session/session.js'
import type { Awaitable } from '../types.js'

export interface RequireAuthOptions {
  /** The data key that a signed-in session holds; `null`, `false` and `''` there are nobody. Default: the plugin's `userKey`. */
  readonly userKey?: string
  /** Where a page request is sent. Default `'/login'`. */
  readonly loginPath?: string
  /** The flash message `error` of a page, the message of a JSON answer. Default `'Please login to continue'`. */
  readonly message?: string
  /** Seconds since login, or since the last `regenerate()`, after which a new login is asked for. Default: none. */
  readonly freshWithin?: number
  /** May refuse a signed-in session by returning `false`: 403. An error that it throws refuses it too, as that error. */
  readonly check?: (session: Session, request: FastifyRequest) => Awaitable<boolean>
}

const EXPIRED = 'Session expired'

/**
 * A preHandler that lets signed-in requests pass. A page request (it accepts HTML) is redirected to `loginPath` with a
 * flash message, any other gets 401; what `check` refuses gets 403.
 * @throws {SessionOptionError} at once, for a wrong or unknown option.
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
    const { session } = request
    const key = options.userKey ?? manager.options.userKey
    if (!isSomebody(session.get(key))) {
      return stateOf(request).ended
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

/**
 * A browser names text/html where it wants a page; its scripts, which also accept anything, say that they are none.
 * A route's schema may have made a list of the header.
 */
function wantsPage({ headers }: FastifyRequest): boolean {
  const { accept = '', 'sec-fetch-mode': mode = 'navigate' } = headers as Record<string, string | string[]>
  const wanted = [accept].flat().join().toLowerCase()
  return wanted.includes('text/html') || (wanted.trim() === '*/*' && mode === 'navigate')
}

/** 0 may be somebody's id; what an application keeps for nobody is `null`, `false` or an empty text. */
function isSomebody(value: unknown): boolean {
  return value === 0 || Boolean(value)
}

const isText = (value: unknown): value is string => typeof value === 'string'

/** What each option wants, and whether a value is that. */
const RULES: Record<keyof RequireAuthOptions, readonly [string, (value: unknown) => boolean]> = {
  userKey: ['a key that does not begin with "$"', (value) => isText(value) && !value.startsWith('$')],
  loginPath: [
    'a path or URL, percent-encoded where needed',
    (value) => isText(value) && /^[\x21-\x7e]+$/.test(value)
  ],
  message: ['a string', isText],
  freshWithin: [
    'a finite number of seconds above 0',
    (value) => Number.isFinite(value) && (value as number) > 0
  ],
  check: ['a function', (value) => typeof value === 'function']
}

function checkOptions(options: RequireAuthOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(RULES, name)) throw unknown(name)
    const [want, isRight] = RULES[name as keyof RequireAuthOptions]
    if (value !== undefined && !isRight(value))
      throw SessionOptionError.wrong(`requireAuth.${name}`, value, want)
  }
}

function unknown(name: string): SessionOptionError {
  const known = Object.keys(RULES).join(', ')
  return new SessionOptionError(`requireAuth.${name}`, `is unknown; the options here are ${known}`)
}
