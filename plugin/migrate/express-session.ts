import type { Predecessor } from './predecessor.js'
import { signedSession, type SignedOptions } from './signed.js'

export interface ExpressSessionOptions extends SignedOptions {
  /** The option `name` of express-session. Default: `'connect.sid'`. */
  readonly cookieName?: string
}

/**
 * Describes the sessions of express-session, for the option `migrateFrom`.
 * @throws {SessionOptionError} if an option is unknown or wrong.
 */
export function expressSession(given: ExpressSessionOptions): Predecessor {
  return signedSession(given, {}, ({ cookieName = 'connect.sid' }) => ({
    cookieName,
    prefix: 's:',
    algorithm: 'sha256'
  }))
}
