import { getHashes } from 'node:crypto'
import { text, type Rule } from '../rules.js'
import type { Predecessor } from './predecessor.js'
import { signedSession, type SignedOptions } from './signed.js'

export interface FastifySessionOptions extends SignedOptions {
  /** The option `cookieName` of @fastify/session. Default: `'sessionId'`. */
  readonly cookieName?: string
  /** The option `cookiePrefix` of @fastify/session. Default: `''`. */
  readonly cookiePrefix?: string
  /** The option `algorithm` of @fastify/session. Default: `'sha256'`. */
  readonly algorithm?: string
}

const RULES: Readonly<Record<string, Rule>> = {
  cookiePrefix: text(/^/, 'a string'),
  algorithm: {
    want: 'the name of a hash, such as "sha256"',
    accepts: (value) => getHashes().includes(value as string)
  }
}

/**
 * Describes the sessions of @fastify/session, for the option `migrateFrom`.
 * @throws {SessionOptionError} if an option is unknown or wrong.
 */
export function fastifySession(given: FastifySessionOptions): Predecessor {
  return signedSession(
    given,
    RULES,
    ({ cookieName = 'sessionId', cookiePrefix: prefix = '', algorithm = 'sha256' }) => ({
      cookieName,
      prefix,
      algorithm
    })
  )
}
