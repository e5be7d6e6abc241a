import { channels } from '../diagnostics.js'
import { parseText } from './serialize.js'
import type { SessionRecord } from '../types.js'

/** What a device list may show of a session. */
export interface SessionInfo {
  readonly id: string
  readonly userId: string | null
  /** Milliseconds since the epoch, as the two below. */
  readonly createdAt: number
  readonly lastAccessed: number
  readonly expiresAt: number
  /** The application's keys and values; never a flash message or the CSRF secret. */
  readonly data: Readonly<Record<string, unknown>>
}

/** In ms since the epoch: a Date holds no later time, and a cookie no Max-Age up to one. */
const LATEST = 8.64e15

/** Whether a store's answer is a record that this library wrote. One that is not is reported, and counts as absent. */
export function isRecord(id: string, record: SessionRecord): boolean {
  const { version, data, createdAt, lastAccessed, expiresAt, userId } = Object(record) as {
    [K in keyof SessionRecord]: unknown
  }
  const isOurs =
    Number.isInteger(version) &&
    typeof data === 'object' &&
    data !== null &&
    !Array.isArray(data) &&
    areTimes(createdAt, lastAccessed, expiresAt) &&
    (userId === null || typeof userId === 'string')
  if (!isOurs && channels.invalidRecord.hasSubscribers)
    channels.invalidRecord.publish({ id, reason: 'shape' })
  return isOurs
}

function areTimes(a: unknown, b: unknown, c: unknown): boolean {
  return isTime(a) && isTime(b) && isTime(c)
}

function isTime(value: unknown): boolean {
  return typeof value === 'number' && Math.abs(value) <= LATEST
}

/** Whether a key is the library's own: a flash message, or the CSRF secret. */
export function isOwn(key: string): boolean {
  return key.startsWith('$')
}

export function infoOf(id: string, record: SessionRecord): SessionInfo {
  const { userId, createdAt, lastAccessed, expiresAt } = record
  return { id, userId, createdAt, lastAccessed, expiresAt, data: valuesOf(id, record) }
}

/** Without a prototype, in which `__proto__` is a key like any other. A value that is no JSON is `undefined`. */
function valuesOf(id: string, record: SessionRecord): Record<string, unknown> {
  const values = Object.create(null) as Record<string, unknown>
  for (const [key, text] of Object.entries(record.data)) {
    if (!isOwn(key)) values[key] = parseText(id, key, text)
  }
  return values
}
