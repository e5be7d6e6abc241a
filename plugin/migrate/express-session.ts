import { ownOptions } from '../own-options.js'
import { anything, checkOptions } from '../rules.js'
import type { ExpressStore } from '../stores/express/calls.js'
import {
  COOKIE_NAME,
  decoded,
  PREDECESSOR_RULES,
  requireOption,
  sharedOf,
  type Predecessor,
  type PredecessorOptions
} from './predecessor.js'
import { createUnsign, OLD_SECRET, type OldSecret } from './signed.js'
import { createFinder } from './stored.js'

export interface ExpressSessionOptions extends PredecessorOptions {
  /** The option `secret` of express-session. */
  readonly secret: OldSecret
  /** The store that express-session used. */
  readonly store: ExpressStore
  /** The option `name` of express-session. Default: `'connect.sid'`. */
  readonly cookieName?: string
}

const RULES = { secret: OLD_SECRET, store: anything, cookieName: COOKIE_NAME, ...PREDECESSOR_RULES }

/**
 * Describes the sessions of express-session, for the option `migrateFrom`.
 * @throws {SessionOptionError} if an option is unknown or wrong.
 */
export function expressSession(given: ExpressSessionOptions): Predecessor {
  checkOptions(given, RULES)
  const options = ownOptions(given)
  const { secret, store, cookieName = 'connect.sid' } = options
  requireOption('secret', secret, OLD_SECRET.want)
  const unsign = createUnsign(secret)
  const find = createFinder(store)
  return {
    ...sharedOf(cookieName, options),
    ready: () => undefined,
    open(value) {
      const text = decoded(value)
      const id = text.startsWith('s:') ? unsign(text.slice(2)) : undefined
      return id === undefined ? undefined : find(id)
    }
  }
}
