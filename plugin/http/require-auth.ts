import type { FastifyReply, FastifyRequest } from 'fastify'
import { SessionAuthError, SessionUsageError } from '../errors.js'
import { checkOptions, number, text, type Rule } from '../rules.js'
import { ownOptions } from '../own-options.js'
import { MOVED_KEY } from '../session/record.js'
import { rememberPage } from '../session/return-path.js'
import { Session } from '../session/session.js'
import type { Awaitable, SessionProperties } from '../types.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import { kSessions, type RequestSessions } from './request-sessions.js'
import { isPrefetch, sessionConfigOf } from './request-state.js'

export interface RequireAuthOptions {
  /**
   * The session key that holds the user. `null`, `false` and `''` mean signed out. Default: the plugin's `userKey`. Only
   * setting the plugin's key is a login. If you set another key, the session keeps its id, its data and its times, so
   * call `session.login()` or `session.regenerate()` yourself. Removing another key is not a logout.
   */
  readonly userKey?: string
  /**
   * The path or URL of the login page, to which page requests are redirected. `false` never redirects, so that the reply
   * is always an error. Default: `'/login'`.
   */
  readonly loginPath?: string | false
  /** The text of the JSON error or of the flash message with the key `error`. Default: `'Please login to continue'`. */
  readonly message?: string
  /**
   * The user must log in again this many seconds after the last login. `session.regenerate()` is not a login. In a
   * session without a user at the plugin's `userKey`, the seconds count from its creation. Default: no limit.
   */
  readonly freshWithin?: number
  /** Returns `false` to refuse a signed-in session with 403. If it throws an error, that error becomes the reply. */
  readonly check?: (session: Session & SessionProperties, request: FastifyRequest) => Awaitable<boolean>
}

const MESSAGE = 'Please login to continue'
const EXPIRED = 'Session expired'

/** A preHandler that works on any kind of Fastify server. */
export type AuthPreHandler = (request: AnyRequest, reply: AnyReply) => Promise<unknown>

/**
 * Returns a preHandler that lets only signed-in requests pass. Other requests are redirected to `loginPath` with a
 * flash message if they accept HTML, and get 401 otherwise. If `check` refuses a session, the reply is 403. The page
 * that was asked for is remembered: after the login, redirect to `session.takeReturnTo()`.
 * @throws {SessionOptionError} immediately, if an option is wrong or unknown.
 * @throws {SessionUsageError} `SESSION_PLUGIN_MISSING` at the first request, if the session plugin is not registered.
 */
export function requireAuth(options: RequireAuthOptions = {}): AuthPreHandler {
  requireCall(options)
  checkOptions(options, RULES, 'requireAuth.')
  const { userKey, loginPath = '/login', message = MESSAGE, freshWithin, check } = ownOptions(options)

  function refusalOf(session: Session, user: unknown, ended: boolean): SessionAuthError | undefined {
    if (!isSignedIn(user))
      return ended
        ? new SessionAuthError('SESSION_EXPIRED', EXPIRED)
        : new SessionAuthError('SESSION_UNAUTHENTICATED', message)
    const isStale = freshWithin !== undefined && Date.now() >= loginOf(session) + freshWithin * 1000
    return isStale ? new SessionAuthError('SESSION_NOT_FRESH', message) : undefined
  }

  async function requireAuth(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const sessions = sessionsOf(request)
    // A cache must not store the user's private page, and the browser must not show it again after a logout.
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
    const { session } = request
    const user = session.get(userKeyOf(request, userKey))
    const refusal = refusalOf(session, user, sessions.stateOf(request).ended)
    if (refusal !== undefined) return askForLogin(request, reply, loginPath, refusal)
    if (check !== undefined && !(await check(session, request)))
      throw new SessionAuthError('SESSION_FORBIDDEN', 'Forbidden')
  }
  return requireAuth as AuthPreHandler
}

/** Returns when the user logged in. In a session that has moved from another library, nobody has logged in here. */
function loginOf(session: Session): number {
  return Session.stateOf(session).own(MOVED_KEY) === undefined ? session.createdAt : -Infinity
}

/** @throws {SessionUsageError} if Fastify, and not the application, has called `requireAuth`. */
function requireCall(options: RequireAuthOptions): void {
  if (!Object.hasOwn(options, 'raw')) return
  throw new SessionUsageError(
    'SESSION_GUARD_NOT_CALLED',
    'requireAuth was passed to a route without being called: write preHandler: requireAuth()'
  )
}

/** Returns the key of the user: the option `userKey` of the guard, or else that of the plugin. */
export function userKeyOf(request: AnyRequest, userKey: string | undefined): string {
  return userKey ?? sessionsOf(request).options.userKey
}

function sessionsOf({ server }: AnyRequest): RequestSessions {
  const sessions = server[kSessions]
  if (sessions !== undefined) return sessions
  throw new SessionUsageError(
    'SESSION_PLUGIN_MISSING',
    'requireAuth needs fastify-sesame: register it before the route'
  )
}

function askForLogin(
  request: FastifyRequest,
  reply: FastifyReply,
  loginPath: string | false,
  error: SessionAuthError
): Promise<void> {
  if (loginPath === false || !wantsPage(request)) throw error
  prompt(request, error.message)
  // With status 303, the browser requests the login page with GET, even after a POST: RFC 9110 section 15.4.4.
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  return untilSent(reply.redirect(loginPath, isRead ? 302 : 303))
}

/**
 * Waits until a reply has been sent. If the client disconnects before that, the promise never settles: Fastify would run
 * the handler of the route if the promise of a preHandler settled while the reply is not sent yet.
 */
function untilSent(reply: FastifyReply): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      if (reply.sent) resolve()
    }
    reply.then(settle, settle)
  })
}

/** Sets the message for the login page, and remembers the page that the user has asked for. */
function prompt(request: FastifyRequest, message: string): void {
  const { session } = request
  // On a readonly route, the stored session of a user who must log in again cannot change.
  if (sessionConfigOf(request) === 'readonly' && !session.isNew) return
  session.setFlash('error', message)
  if (isNavigation(request)) rememberPage(Session.stateOf(session), request.originalUrl)
}

/** Returns true if the browser opens the page for the user. A browser without Fetch Metadata gets the benefit of doubt. */
function isNavigation(request: FastifyRequest): boolean {
  const { 'sec-fetch-mode': mode = 'navigate' } = request.headers
  return request.method === 'GET' && mode === 'navigate' && !isPrefetch(request)
}

/**
 * Returns true if the client wants an HTML page. `fetch` accepts every type by default, but its Sec-Fetch-Mode is not
 * `navigate`. The schema of a route may have turned the Accept header into an array.
 */
function wantsPage({ headers }: FastifyRequest): boolean {
  const { accept = '', 'sec-fetch-mode': mode = 'navigate' } = headers as Record<string, string | string[]>
  const wanted = [accept].flat().join().toLowerCase()
  return wanted.includes('text/html') || (wanted.trim() === '*/*' && mode === 'navigate')
}

/** Returns true if the value identifies a user. 0 is also accepted, because it may be a user's id. */
function isSignedIn(value: unknown): boolean {
  return value === 0 || Boolean(value)
}

const LOGIN_PATH = text(/^[\x21-\x7e]+$/, '')

const RULES: Record<keyof RequireAuthOptions, Rule> = {
  userKey: text(/^(?!\$)/, 'a key that does not begin with "$"'),
  loginPath: {
    want: 'a path or URL, percent-encoded where needed, or false',
    accepts: (value) => value === false || LOGIN_PATH.accepts(value)
  },
  message: text(/^/, 'a string'),
  freshWithin: number('a finite number of seconds above 0', (value) => value > 0),
  check: { want: 'a function', accepts: (value) => typeof value === 'function' }
}
