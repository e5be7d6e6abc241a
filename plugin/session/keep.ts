import { CSRF_KEY, isOwnKey, LIFETIME_KEY } from './record.js'

/** What decides which loaded values stay when a session gets a new id. */
export interface KeepRule {
  /** The user of the loaded record, and the user after the request. `null` means that there is none. */
  readonly before: string | null
  readonly after: string | null
  /** The keys that `regenerate(keep)` names. */
  readonly rotation: ReadonlySet<string> | undefined
  /** The keys that the option `keep` of `login()` names. */
  readonly login: ReadonlySet<string> | undefined
}

/**
 * Returns a function that decides whether the loaded value at a key stays, or `undefined` if all values stay. Data never
 * passes from one user to another, except for the keys that `regenerate(keep)` names. Flash messages and the return path
 * go together with their user. The lifetime stays: only a login changes it.
 */
export function keepsOf({
  before,
  after,
  rotation,
  login
}: KeepRule): ((key: string) => boolean) | undefined {
  const isOther = before !== null && after !== null && after !== before
  if (rotation === undefined && !isOther && login === undefined) return undefined
  const staysWithUser = before === null || after === before
  const isData = (key: string): boolean =>
    isOther ? rotation?.has(key) === true : (rotation?.has(key) ?? true) && (login?.has(key) ?? true)
  return (key) => {
    if (!isOwnKey(key)) return isData(key)
    return key === LIFETIME_KEY || (staysWithUser && key !== CSRF_KEY)
  }
}

/** Returns the keys that `kept` and `keep` have in common. `undefined` stands for all keys. */
export function keysInBoth(
  kept: ReadonlySet<string> | undefined,
  keep: readonly string[] | undefined
): ReadonlySet<string> | undefined {
  return keep === undefined ? kept : new Set(keep.filter((key) => kept?.has(key) ?? true))
}
