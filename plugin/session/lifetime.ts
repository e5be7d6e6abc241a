import { milliseconds, type Lifetime, type ResolvedOptions } from '../options/resolve.js'
import { COOKIE_OPTIONS, OPTIONS } from '../options/table.js'
import type { SessionRecord } from '../types.js'
import { LIFETIME_KEY } from './record.js'

/** The lifetime that a login chose for its session. Times are in seconds. Whatever is absent follows the options. */
export interface ChosenLifetime {
  readonly maxAge?: number | undefined
  /** `null` means that the session has no idle timeout. */
  readonly idleTimeout?: number | null | undefined
  readonly persistent?: boolean | undefined
}

/** A read extends the expiry once this fraction of `idleTimeout` has passed. Sessions can end early, but never late. */
const TOUCH_FRACTION = 0.1

/** Returns the lifetime that the login of a session chose, or the plugin's. `text` is the value at `LIFETIME_KEY`. */
export function lifetimeOf({ lifetime }: ResolvedOptions, text: string | undefined): Lifetime {
  const chosen = text === undefined ? undefined : parse(text)
  if (chosen === undefined) return lifetime
  const { maxAge, idleTimeout, persistent } = chosen
  return {
    maxAge: maxAge === undefined ? lifetime.maxAge : milliseconds(maxAge),
    idleTimeout: idleTimeout === undefined ? lifetime.idleTimeout : milliseconds(idleTimeout ?? Infinity),
    persistent: persistent ?? lifetime.persistent
  }
}

/** Returns when a session ends: at `createdAt + maxAge` or at `lastAccessed + idleTimeout`, whichever is earlier. */
export function expiryOf(
  { maxAge, idleTimeout }: Pick<Lifetime, 'maxAge' | 'idleTimeout'>,
  createdAt: number,
  lastAccessed: number
): number {
  return Math.min(createdAt + maxAge, lastAccessed + idleTimeout)
}

/** Checks the expiry again, because the store's clock may be different and `maxAge` may have been reduced. */
export function isLive(
  options: ResolvedOptions,
  { data, createdAt, lastAccessed, expiresAt }: SessionRecord,
  now: number
): boolean {
  if (now >= expiresAt) return false
  const lifetime = Object.hasOwn(data, LIFETIME_KEY)
    ? lifetimeOf(options, data[LIFETIME_KEY])
    : options.lifetime
  return now < expiryOf(lifetime, createdAt, lastAccessed)
}

/** Returns true if a request that only reads the session has to extend its expiry. */
export function isTouchDue(
  { idleTimeout }: Pick<Lifetime, 'idleTimeout'>,
  { lastAccessed }: SessionRecord,
  now: number
): boolean {
  return now - lastAccessed >= idleTimeout * TOUCH_FRACTION
}

/** Treats a malformed lifetime as absent. */
function parse(text: string): ChosenLifetime | undefined {
  try {
    const value = JSON.parse(text) as unknown
    return isChosen(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isChosen(value: unknown): value is ChosenLifetime {
  if (typeof value !== 'object' || value === null) return false
  const { maxAge, idleTimeout = null, persistent } = value as Record<string, unknown>
  return (
    (maxAge === undefined || OPTIONS.maxAge.accepts(maxAge)) &&
    (idleTimeout === null || OPTIONS.idleTimeout.accepts(idleTimeout)) &&
    (persistent === undefined || COOKIE_OPTIONS.persistent.accepts(persistent))
  )
}
