import type { ResolvedOptions } from '../options/resolve.js'
import type { SessionRecord } from '../types.js'

/** The options that limit the lifetime of a session, in milliseconds. */
export type Lifetime = Pick<ResolvedOptions, 'maxAge' | 'idleTimeout'>

/** A read extends the expiry once this fraction of `idleTimeout` has passed. Sessions can end early, but never late. */
const TOUCH_FRACTION = 0.1

/** Returns when a session ends: at `createdAt + maxAge` or at `lastAccessed + idleTimeout`, whichever is earlier. */
export function expiryOf({ maxAge, idleTimeout }: Lifetime, createdAt: number, lastAccessed: number): number {
  return Math.min(createdAt + maxAge, lastAccessed + idleTimeout)
}

/** Checks the expiry again, because the store's clock may be different and `maxAge` may have been reduced. */
export function isLive(
  lifetime: Lifetime,
  { createdAt, lastAccessed, expiresAt }: SessionRecord,
  now: number
): boolean {
  return now < expiresAt && now < expiryOf(lifetime, createdAt, lastAccessed)
}

/** Returns true if a request that only reads the session has to extend its expiry. */
export function isTouchDue({ idleTimeout }: Lifetime, { lastAccessed }: SessionRecord, now: number): boolean {
  return now - lastAccessed >= idleTimeout * TOUCH_FRACTION
}
