import type { FastifyInstance } from 'fastify'
import { SessionConflictError, SessionValueError } from '../errors.js'
import { makeSecret, tokenOf } from '../http/csrf-token.js'
import { kSessions, type RequestSessions } from '../http/request-sessions.js'
import { idOfToken } from '../cookies/tokens.js'
import { expiryOf } from '../session/lifetime.js'
import { CSRF_KEY, userIdOf } from '../session/record.js'
import { serialize } from '../session/serialize.js'
import type { SessionData } from '../types.js'

/** The session cookie and a CSRF token of a signed-in browser. */
export interface SignedIn {
  /** The session cookie as `name=value`, for the request header `cookie`. */
  readonly cookie: string
  /** A CSRF token of the session, for the request header `x-csrf-token` or the body field `_csrf`. */
  readonly csrfToken: string
}

/**
 * Creates a session with the values of `data` in the app's store, as a login would. The plugin must be registered with
 * the app. The app does not have to listen. Example:
 * ```ts
 * const { cookie, csrfToken } = await signIn(app, { userId: 'ada' })
 * await app.inject({ method: 'POST', url: '/name', headers: { cookie, 'x-csrf-token': csrfToken } })
 * ```
 * @throws {SessionValueError} if JSON cannot represent a value or the schema rejects it.
 * @throws {SessionConflictError} if the store refuses to create the session.
 */
export async function signIn(app: FastifyInstance, data: Partial<SessionData> & object): Promise<SignedIn> {
  await app.ready()
  const { options, tokens } = (app[kSessions] as RequestSessions).context
  const token = tokens.mint()
  const now = Date.now()
  const texts = Object.create(null) as Record<string, string>
  for (const [key, value] of Object.entries(data)) {
    const problem = options.problemOf(key, value)
    if (problem !== undefined) throw new SessionValueError(key, problem)
    texts[key] = serialize(key, value)
  }
  const secret = makeSecret()
  texts[CSRF_KEY] = serialize(CSRF_KEY, secret)
  const created = await options.store.create(idOfToken(token), {
    version: 1,
    data: texts,
    createdAt: now,
    lastAccessed: now,
    expiresAt: expiryOf(options.lifetime, now, now),
    userId: userIdOf((data as Record<string, unknown>)[options.userKey])
  })
  if (!created) throw new SessionConflictError()
  return { cookie: `${options.cookieName}=${tokens.sign(token)}`, csrfToken: tokenOf(secret) }
}
