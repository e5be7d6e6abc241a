import { SessionOptionError } from '../errors.js'
import { ownOptions } from '../own-options.js'
import { checkOptions, flag, objectOf, text, type Rule } from '../rules.js'
import type { Awaitable } from '../types.js'

/** The options that all functions of `fastify-sesame/migrate` have. */
export interface PredecessorOptions {
  /**
   * The attributes of the old cookie, which are needed to clear it. Default: `path: '/'` and no domain, as in the other
   * library.
   */
  readonly cookie?: { readonly path?: string; readonly domain?: string }
  /**
   * `true` leaves the old cookie and its record in place, so that servers with the old library can run side by side with
   * new ones. Only a logout removes them. Default: `false`.
   */
  readonly keep?: boolean
  /** Old cookies are refused from this time on. Default: never. `secureSession` requires it. */
  readonly until?: Date
  /**
   * Returns the user of an old session from its data, or `undefined` if nobody is signed in. The id is stored at the
   * plugin's `userKey`. Default: the value at `userKey` of the data.
   */
  readonly userOf?: (data: Readonly<Record<string, unknown>>) => string | number | undefined | null
}

/** A session library that the application used before. Made by one of the functions of `fastify-sesame/migrate`. */
export interface Predecessor {
  readonly kind: 'predecessor'
  readonly cookieName: string
  readonly path: string
  readonly domain: string | undefined
  readonly keep: boolean
  /** In milliseconds since the epoch. */
  readonly until: number
  readonly userOf: PredecessorOptions['userOf']
  /** Prepares what verifying a cookie needs. Called once, at registration. */
  ready?(): void
  /** Returns what a cookie's value stands for, or `undefined` if its signature is wrong. Makes no call to a store. */
  open(value: string): OldCookie | undefined
}

/** A correctly signed cookie of another library. */
export interface OldCookie {
  /** Identifies the session. All ways to write the same cookie, such as other percent-encodings, have the same identity. */
  readonly identity: string
  /** Returns the live session of the cookie, or `undefined` if it has expired or ended. */
  read(): Awaitable<OldSession | undefined>
  /** Removes the record of the session. Does nothing if the session is in the cookie itself. */
  destroy(): Awaitable<unknown>
}

export interface OldSession {
  readonly data: Readonly<Record<string, unknown>>
  /** In milliseconds since the epoch, or `undefined` if the session has no expiry. */
  readonly expiresAt: number | undefined
}

export const PREDECESSOR_RULES: Record<keyof PredecessorOptions, Rule> = {
  cookie: objectOf('path and domain'),
  keep: flag,
  until: { want: 'a Date', accepts: (value) => value instanceof Date && !Number.isNaN(value.getTime()) },
  userOf: { want: 'a function', accepts: (value) => typeof value === 'function' }
}

const COOKIE_RULES = {
  path: text(/^\//, 'a path that begins with "/"'),
  domain: text(/^[^\s;,]+$/, 'a host, such as "example.com"')
}

/** Fills in the defaults of the shared options. The caller has checked them with `PREDECESSOR_RULES`. */
export function sharedOf(
  cookieName: string,
  { cookie = {}, keep = false, until, userOf }: PredecessorOptions
): Omit<Predecessor, 'open' | 'ready'> {
  checkOptions(cookie, COOKIE_RULES, 'cookie.')
  const { path = '/', domain } = ownOptions(cookie)
  return { kind: 'predecessor', cookieName, path, domain, keep, until: until?.getTime() ?? Infinity, userOf }
}

export const COOKIE_NAME = text(/^[\w!#$%&'*+.^`|~-]+$/, 'a cookie name')

/** @throws {SessionOptionError} if an option that has no default is absent. */
export function requireOption(option: string, value: unknown, want: string): void {
  if (value === undefined) throw SessionOptionError.wrong(option, value, want)
}

/** Decodes the value of a cookie as these libraries do: a value that is not percent-encoded stays as it is. */
export function decoded(value: string): string {
  if (!value.includes('%')) return value
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}
