import type { JsonValue } from '../types.js'

/** The lifetime of flash messages and return paths: one hour, in milliseconds. Older ones would confuse the user. */
const LIFETIME = 3_600_000

interface Expiring {
  readonly value: JsonValue
  readonly at: number
}

/** Returns what to store for a value that is dropped after an hour. */
export function expiring(value: unknown): { readonly value: unknown; readonly at: number } {
  return { value, at: Date.now() }
}

/** Returns the value in `stored`, or `undefined` if an hour has passed or `stored` has another shape. */
export function unexpired(stored: unknown): JsonValue | undefined {
  const { value, at } = Object(stored) as Partial<Expiring>
  return typeof at === 'number' && Date.now() - at < LIFETIME ? value : undefined
}
