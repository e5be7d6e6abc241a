import { channels } from '../diagnostics.js'
import type { SessionRecord } from '../types.js'

/** The latest time that a Date can hold, in ms since the epoch. */
const LATEST = 8.64e15

/** Returns true if `record` has the shape of a record. Reports any other answer of a store. */
export function isRecord(id: string, record: SessionRecord): boolean {
  const { version, data, createdAt, lastAccessed, expiresAt, userId } = Object(record) as {
    [K in keyof SessionRecord]: unknown
  }
  const isValid =
    Number.isInteger(version) &&
    typeof data === 'object' &&
    data !== null &&
    !Array.isArray(data) &&
    isTime(createdAt) &&
    isTime(lastAccessed) &&
    isTime(expiresAt) &&
    (userId === null || typeof userId === 'string')
  if (!isValid) reportInvalidRecord(id, 'shape')
  return isValid
}

export function reportInvalidRecord(id: string, reason: string): void {
  if (channels.invalidRecord.hasSubscribers) channels.invalidRecord.publish({ id, reason })
}

function isTime(value: unknown): boolean {
  return typeof value === 'number' && Math.abs(value) <= LATEST
}
