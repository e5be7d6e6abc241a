import { getHashes } from 'node:crypto'
import { ownOptions } from '../own-options.js'
import { anything, checkOptions, text } from '../rules.js'
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

export interface FastifySessionOptions extends PredecessorOptions {
  /** The option `secret` of @fastify/session. */
  readonly secret: OldSecret
  /** The store that @fastify/session used. */
  readonly store: ExpressStore
  /** The option `cookieName` of @fastify/session. Default: `'sessionId'`. */
  readonly cookieName?: string
  /** The option `cookiePrefix` of @fastify/session. Default: `''`. */
  readonly cookiePrefix?: string
  /** The option `algorithm` of @fastify/session. Default: `'sha256'`. */
  readonly algorithm?: string
}

const RULES = {
  secret: OLD_SECRET,
  store: anything,
  cookieName: COOKIE_NAME,
  cookiePrefix: text(/^/, 'a string'),
  algorithm: {
    want: 'the name of a hash, such as "sha256"',
    accepts: (value: unknown) => getHashes().includes(value as string)
  },
  ...PREDECESSOR_RULES
}

/**
 * Describes the sessions of @fastify/session, for the option `migrateFrom`.
 * @throws {SessionOptionError} if an option is unknown or wrong.
 */
export function fastifySession(given: FastifySessionOptions): Predecessor {
  checkOptions(given, RULES)
  const options = ownOptions(given)
  const { secret, store, cookieName = 'sessionId', cookiePrefix = '', algorithm = 'sha256' } = options
  requireOption('secret', secret, OLD_SECRET.want)
  const unsign = createUnsign(secret, algorithm)
  const find = createFinder(store)
  return {
    ...sharedOf(cookieName, options),
    ready: () => undefined,
    open(value) {
      const text = decoded(value)
      const id = text.startsWith(cookiePrefix) ? unsign(text.slice(cookiePrefix.length)) : undefined
      return id === undefined ? undefined : find(id)
    }
  }
}
