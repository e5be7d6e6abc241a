import type { SessionKey, SessionRecord, SessionValue } from '../types.js'
import { deserialize } from './serialize.js'

/** The part of a session that a device list may show. */
export interface SessionInfo {
  readonly id: string
  readonly userId: string | null
  /** Milliseconds since the epoch, like the two below. */
  readonly createdAt: number
  readonly lastAccessed: number
  readonly expiresAt: number
  /** The application's keys and values, without flash messages and the CSRF secret. */
  readonly data: { readonly [K in SessionKey]?: SessionValue<K> }
}

/** Returns true for the library's own keys: flash messages and the CSRF secret. */
export function isOwnKey(key: string): boolean {
  return key.startsWith('$')
}

/** Returns the value at `userKey` as a user id, or `null` if the value is not a user id. */
export function userIdOf(value: unknown): string | null {
  return typeof value === 'number' || (typeof value === 'string' && value !== '') ? String(value) : null
}

export function infoOf(id: string, record: SessionRecord): SessionInfo {
  const { userId, createdAt, lastAccessed, expiresAt } = record
  return { id, userId, createdAt, lastAccessed, expiresAt, data: valuesOf(id, record) }
}

/** Returns the application's values. A value that is not JSON is `undefined`. */
function valuesOf(id: string, record: SessionRecord): SessionInfo['data'] {
  const values = Object.create(null) as SessionInfo['data']
  for (const [key, text] of Object.entries(record.data)) {
    if (!isOwnKey(key)) Reflect.set(values, key, deserialize(id, key, text))
  }
  return values
}
