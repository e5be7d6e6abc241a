import { SessionValueError } from '../errors.js'
import type { SessionKey, SessionRecord, SessionValue } from '../types.js'
import { deserialize } from './serialize.js'

/** The key of the CSRF secret in the session data. */
export const CSRF_KEY = '$csrf'
/** The key of the lifetime that a login chose for its session. */
export const LIFETIME_KEY = '$lifetime'
/** The key of the page that a signed-out user has asked for. */
export const RETURN_KEY = '$returnTo'

/** The key that marks a session of another library in which nobody has logged in since it moved. */
export const MOVED_KEY = '$moved'

/** The part of a session that is safe to show in a list of the user's devices. */
export interface SessionInfo {
  readonly id: string
  readonly userId: string | null
  /** `createdAt`, `lastAccessed` and `expiresAt` are in milliseconds since the epoch. */
  readonly createdAt: number
  readonly lastAccessed: number
  readonly expiresAt: number
}

/** A session in a list, together with its data. */
export interface SessionInfoWithData extends SessionInfo {
  /** The application's keys and values, without the library's own keys. */
  readonly data: { readonly [K in SessionKey]?: SessionValue<K> }
}

/**
 * Returns true if the library itself uses the key, for example for a flash message or the CSRF secret.
 * @throws {SessionValueError} if the key is not a string.
 */
export function isOwnKey(key: string): boolean {
  checkKey(key)
  return key.startsWith('$')
}

/** @throws {SessionValueError} if the key is not a string, which TypeScript cannot prevent in JavaScript code. */
export function checkKey(key: unknown): void {
  if (typeof key !== 'string') throw new SessionValueError(key, 'must be a string')
}

/** Returns the value at `userKey` as a user id, or `null` if the value is not a user id. */
export function userIdOf(value: unknown): string | null {
  return typeof value === 'number' || (typeof value === 'string' && value !== '') ? String(value) : null
}

export function infoOf(id: string, record: SessionRecord): SessionInfo {
  const { userId, createdAt, lastAccessed, expiresAt } = record
  return { id, userId, createdAt, lastAccessed, expiresAt }
}

export function infoWithDataOf(id: string, record: SessionRecord): SessionInfoWithData {
  return { ...infoOf(id, record), data: valuesOf(id, record) }
}

function valuesOf(id: string, record: SessionRecord): SessionInfoWithData['data'] {
  const values = Object.create(null) as SessionInfoWithData['data']
  for (const [key, text] of Object.entries(record.data)) {
    if (!isOwnKey(key)) Reflect.set(values, key, deserialize(id, key, text))
  }
  return values
}
