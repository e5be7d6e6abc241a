import type { ResolvedOptions } from '../options/resolve.js'
import type { SessionRecord } from '../types.js'

/** The options that say how long a session lives, in milliseconds. */
export type Lifetime = Pick<ResolvedOptions, 'maxAge' | 'idleTimeout'>

/** A touch is due when this fraction of `idleTimeout` has passed. A session may end that much early, never late. */
const TOUCH_FRACTION = 0.1

/** Returns when a session ends: at `createdAt + maxAge`, or at `lastAccessed + idleTimeout` if that is earlier. */
export function expiryOf({ maxAge, idleTimeout }: Lifetime, createdAt: number, lastAccessed: number): number {
  return Math.min(createdAt + maxAge, lastAccessed + idleTimeout)
}

/**
 * Returns true if a record has not expired. Checked here as well as in the store, because the store's clock may differ
 * and `maxAge` may have been shortened.
 */
export function isLive(
  lifetime: Lifetime,
  { createdAt, lastAccessed, expiresAt }: SessionRecord,
  now: number
): boolean {
  return now < expiresAt && now < expiryOf(lifetime, createdAt, lastAccessed)
}

/** Returns true if a request that only reads has to write, to keep the session from expiring. */
export function isTouchDue({ idleTimeout }: Lifetime, { lastAccessed }: SessionRecord, now: number): boolean {
  return now - lastAccessed >= idleTimeout * TOUCH_FRACTION
}
