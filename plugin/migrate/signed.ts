import { createHmac, timingSafeEqual } from 'node:crypto'
import { ownOptions } from '../own-options.js'
import { anything, checkOptions, type Rule } from '../rules.js'
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
import { createFinder } from './stored.js'

/** One secret, or a list of secrets of which the first one signs. */
export type OldSecret = string | Buffer | readonly (string | Buffer)[]

/** The options for a library whose cookie is a signed id of a session in a store. */
export interface SignedOptions extends PredecessorOptions {
  /** The option `secret` of the other library. */
  readonly secret: OldSecret
  /** The store that the other library used. */
  readonly store: ExpressStore
  readonly cookieName?: string
}

/** How a library makes the value of its cookie. */
interface CookieForm {
  readonly cookieName: string
  /** The text before the signed id. */
  readonly prefix: string
  /** The hash of the HMAC. */
  readonly algorithm: string
}

const isSecret = (value: unknown): boolean =>
  (typeof value === 'string' && value !== '') || (Buffer.isBuffer(value) && value.length > 0)

const SECRET: Rule = {
  want: 'the secret of the other library, or the list of its secrets',
  accepts: (value) => isSecret(value) || (Array.isArray(value) && value.length > 0 && value.every(isSecret))
}

const RULES = { secret: SECRET, store: anything, cookieName: COOKIE_NAME, ...PREDECESSOR_RULES }

/**
 * Describes the sessions of a library whose cookie is a signed id. `rules` are those of the options that only this
 * library has, and `formOf` returns the form of its cookie.
 * @throws {SessionOptionError} if an option is unknown or wrong.
 */
export function signedSession<T extends SignedOptions>(
  given: T,
  rules: Readonly<Record<string, Rule>>,
  formOf: (options: T) => CookieForm
): Predecessor {
  checkOptions(given, { ...RULES, ...rules })
  const options = ownOptions(given)
  requireOption('secret', options.secret, SECRET.want)
  const { cookieName, prefix, algorithm } = formOf(options)
  const unsign = createUnsign(options.secret, algorithm)
  const find = createFinder(options.store)
  return {
    ...sharedOf(cookieName, options),
    open(value) {
      const text = decoded(value)
      const id = text.startsWith(prefix) ? unsign(text.slice(prefix.length)) : undefined
      return id === undefined ? undefined : find(id)
    }
  }
}

/**
 * Returns a function that returns the text that a signed value contains, or `undefined` if no secret has signed it. A
 * signed value is the text, a dot and the HMAC in base64 without padding, as cookie-signature and @fastify/cookie make
 * it.
 */
function createUnsign(secret: OldSecret, algorithm: string): (signed: string) => string | undefined {
  const secrets = [secret].flat() as (string | Buffer)[]
  return function unsign(signed) {
    const dot = signed.lastIndexOf('.')
    if (dot < 1) return undefined
    const [text, given] = [signed.slice(0, dot), Buffer.from(signed.slice(dot + 1))]
    const isSigned = secrets.some((secret) => {
      const signature = createHmac(algorithm, secret).update(text).digest('base64').replace(/=+$/, '')
      const expected = Buffer.from(signature)
      return given.length === expected.length && timingSafeEqual(given, expected)
    })
    return isSigned ? text : undefined
  }
}
