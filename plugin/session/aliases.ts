import { SessionOptionError, SessionUsageError } from '../errors.js'

/** A callback as express-session calls it: with the error, or without an argument if there is none. */
export type SessionCallback = (error?: unknown) => void

const LIFETIME =
  'session.expiresAt is when the session ends, login(userId, { maxAge }) sets how many seconds this session lives, ' +
  "and the plugin's options maxAge and cookie are for all sessions"

/**
 * The names in the sessions of @fastify/session, express-session and @fastify/secure-session that do not exist here, and
 * what to use instead. `data` is missing on purpose: @fastify/passport looks for it, and would set every value again at
 * a login, also the values of another user.
 */
const REPLACED: ReadonlyMap<PropertyKey, string> = new Map([
  ['changed', 'use session.modified'],
  ['cookie', LIFETIME],
  ['deleted', 'after session.invalidate(), session.isNew is true'],
  ['encryptedSessionId', 'the value of the cookie is a secret, so use session.id, which is a hash of it'],
  ['options', LIFETIME],
  [
    'reload',
    'session.rollback() drops the changes of this request, and update(key, fn) sees the newest value'
  ],
  ['touch', 'omit it, because each request extends a session if the plugin has the option idleTimeout']
])

export function isReplaced(property: PropertyKey): boolean {
  return REPLACED.has(property)
}

/** @throws {SessionUsageError} if another library's session has this property, with what to use instead. */
export function refuseReplaced(property: PropertyKey): void {
  const instead = REPLACED.get(property)
  if (instead === undefined) return
  const text = `session.${String(property)} does not exist in fastify-sesame: ${instead}`
  throw new SessionUsageError('SESSION_PROPERTY_UNKNOWN', text)
}

/** @throws {SessionOptionError} if the argument of `session.<method>()` is neither absent nor a function. */
export function checkCallback(method: string, callback: unknown): void {
  if (callback !== undefined && typeof callback !== 'function')
    throw SessionOptionError.wrong(`${method}.callback`, callback, 'a function')
}

/** Makes a change at once. With a callback, tells it the outcome, and throws no error of its own. */
export function runWith(callback: SessionCallback | undefined, change: () => void): void {
  try {
    change()
  } catch (error) {
    if (callback === undefined) throw error
    return callback(error)
  }
  callback?.()
}
