import type { FastifyReply, FastifyRequest } from 'fastify'
import { SessionAuthError, SessionUsageError } from '../errors.js'
import { checkOptions, number, text, type Rule } from '../options/rules.js'
import type { Session } from '../session/session.js'
import type { Awaitable } from '../types.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import { kSessions } from './request-sessions.js'
import { sessionConfigOf } from './request-state.js'

export interface RequireAuthOptions {
  /** The data key of the user. `null`, `false` and `''` mean signed out. Default: the plugin's `userKey`. */
  readonly userKey?: string
  /** The path or URL that a page request is redirected to. Default `'/login'`. */
  readonly loginPath?: string
  /** The flash message `error` for a page, and the message of a JSON error. Default `'Please login to continue'`. */
  readonly message?: string
  /** Seconds after the last `regenerate()` (or the session's creation) until a new login is needed. Default: no limit. */
  readonly freshWithin?: number
  /** Refuses a signed-in session with 403 by returning `false`. An error that it throws becomes the reply. */
  readonly check?: (session: Session, request: FastifyRequest) => Awaitable<boolean>
}

const MESSAGE = 'Please login to continue'
const EXPIRED = 'Session expired'

/** A preHandler for every Fastify server. */
export type AuthPreHandler = (request: AnyRequest, reply: AnyReply) => Promise<unknown>

/**
 * Returns a preHandler that lets signed-in requests pass. A page request (it accepts HTML) is redirected to `loginPath`
 * with a flash message, any other request gets 401. A session that `check` refuses gets 403.
 * @throws {SessionOptionError} at once, for a wrong or unknown option.
 * @throws {SessionUsageError} `SESSION_PLUGIN_MISSING` at the first request, if the session plugin is not registered.
 */
export function requireAuth(options: RequireAuthOptions = {}): AuthPreHandler {
  const { loginPath = '/login', message = MESSAGE, freshWithin, check } = options
  checkOptions(options, RULES, 'requireAuth.')

  /** Returns the error if the session is not signed in or its login is too old, otherwise `undefined`. */
  function refusalOf(session: Session, userKey: string, ended: boolean): SessionAuthError | undefined {
    if (!isSignedIn(session.get(userKey)))
      return ended
        ? new SessionAuthError('SESSION_EXPIRED', EXPIRED)
        : new SessionAuthError('SESSION_UNAUTHENTICATED', message)
    const isStale = freshWithin !== undefined && Date.now() >= session.createdAt + freshWithin * 1000
    return isStale ? new SessionAuthError('SESSION_NOT_FRESH', message) : undefined
  }

  async function requireAuth(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const sessions = request.server[kSessions]
    if (sessions === undefined)
      throw new SessionUsageError(
        'SESSION_PLUGIN_MISSING',
        'requireAuth needs fastify-sesame: register it before the route'
      )
    // A cache must not keep a page that only this user may see, or show it again after the logout.
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
    const { session } = request
    const userKey = options.userKey ?? sessions.options.userKey
    const refusal = refusalOf(session, userKey, sessions.stateOf(request).ended)
    if (refusal !== undefined) return askForLogin(request, reply, loginPath, refusal)
    if (check !== undefined && !(await check(session, request)))
      throw new SessionAuthError('SESSION_FORBIDDEN', 'Forbidden')
  }
  return requireAuth as AuthPreHandler
}

function askForLogin(
  request: FastifyRequest,
  reply: FastifyReply,
  loginPath: string,
  error: SessionAuthError
): FastifyReply {
  if (!wantsPage(request)) throw error
  if (sessionConfigOf(request) !== 'readonly') request.session.setFlash('error', error.message)
  // After a POST the browser has to fetch the login page with GET: RFC 9110 section 15.4.4.
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  return reply.redirect(loginPath, isRead ? 302 : 303)
}

/**
 * Returns true if the client wants an HTML page. Browsers send `Accept: text/html` for navigation. `fetch` accepts
 * everything, with a Sec-Fetch-Mode other than `navigate`. A route's schema may have turned the header into an array.
 */
function wantsPage({ headers }: FastifyRequest): boolean {
  const { accept = '', 'sec-fetch-mode': mode = 'navigate' } = headers as Record<string, string | string[]>
  const wanted = [accept].flat().join().toLowerCase()
  return wanted.includes('text/html') || (wanted.trim() === '*/*' && mode === 'navigate')
}

/** 0 counts as signed in, because it may be a user's id. */
function isSignedIn(value: unknown): boolean {
  return value === 0 || Boolean(value)
}

const RULES: Record<keyof RequireAuthOptions, Rule> = {
  userKey: text(/^(?!\$)/, 'a key that does not begin with "$"'),
  loginPath: text(/^[\x21-\x7e]+$/, 'a path or URL, percent-encoded where needed'),
  message: text(/^/, 'a string'),
  freshWithin: number('a finite number of seconds above 0', (value) => value > 0),
  check: { want: 'a function', accepts: (value) => typeof value === 'function' }
}
