import { SessionOptionError } from '../errors.js'
import { milliseconds, type ResolvedOptions } from '../options/resolve.js'
import { checkOptions, type Rule } from '../rules.js'
import { COOKIE_OPTIONS, OPTIONS } from '../options/table.js'
import type { ChosenLifetime } from './lifetime.js'

/** The options of `session.login()`. They apply to this session only. An absent option follows the plugin's options. */
export interface LoginOptions {
  /**
   * The keys that stay from the data of the session before the login. Values that this request sets stay too. By
   * default, all data stays, unless it belongs to another user, whose data never stays.
   */
  readonly keep?: readonly string[] | undefined
  /** The session ends this many seconds after the login, at most 400 days. */
  readonly maxAge?: number | undefined
  /**
   * The session ends this many seconds after its last request. `null` means that it has no idle timeout, which is also
   * the default with a `maxAge` above the plugin's.
   */
  readonly idleTimeout?: number | null | undefined
  /** `false` omits `Max-Age` from the cookie, so that it is deleted when the browser closes. */
  readonly persistent?: boolean | undefined
}

const KEEP: Rule = { want: 'a list of keys', accepts: isKeyList }

const RULES: Record<keyof LoginOptions, Rule> = {
  keep: KEEP,
  maxAge: OPTIONS.maxAge,
  idleTimeout: {
    want: `${OPTIONS.idleTimeout.want}, or null`,
    accepts: (value) => value === null || OPTIONS.idleTimeout.accepts(value)
  },
  persistent: COOKIE_OPTIONS.persistent
}

/**
 * Returns the lifetime that a login chooses, or `undefined` if it chooses none.
 * @throws {SessionOptionError} if an option is unknown or wrong.
 */
export function chosenLifetime(
  { lifetime }: ResolvedOptions,
  options: LoginOptions
): ChosenLifetime | undefined {
  checkOptions(options, RULES, 'login.')
  const { maxAge, idleTimeout, persistent } = options
  if (maxAge === undefined && idleTimeout === undefined && persistent === undefined) return undefined
  const limit = maxAge === undefined ? lifetime.maxAge : milliseconds(maxAge)
  if (typeof idleTimeout === 'number' && milliseconds(idleTimeout) > limit)
    throw SessionOptionError.wrong('login.idleTimeout', idleTimeout, `at most maxAge (${limit / 1000})`)
  // The plugin's idle timeout would end a session that is meant to live longer than the others.
  const isLonger = idleTimeout === undefined && limit > lifetime.maxAge
  return { maxAge, idleTimeout: isLonger ? null : idleTimeout, persistent }
}

/** @throws {SessionOptionError} if `keep` is neither absent nor a list of keys. */
export function checkKeep(keep: unknown): void {
  if (keep !== undefined && !KEEP.accepts(keep))
    throw SessionOptionError.wrong('regenerate.keep', keep, KEEP.want)
}

function isKeyList(value: unknown): boolean {
  return Array.isArray(value) && value.every((key) => typeof key === 'string')
}
