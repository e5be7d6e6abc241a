import { channels } from '../diagnostics.js'
import type { SessionRecord } from '../types.js'
import { decode, decodeData } from './codec.js'

/** The latest time that a Date can represent, in milliseconds since the epoch. */
const LATEST = 8.64e15

/** A record as a database driver returns it. Some drivers return a number as a BigInt or as a string of digits. */
export interface RawRecord extends Pick<SessionRecord, 'data' | 'userId'> {
  readonly version: unknown
  readonly createdAt: unknown
  readonly lastAccessed: unknown
  readonly expiresAt: unknown
}

/** A row of an SQL table, before its strings are decoded. */
export interface SessionRow extends Omit<RawRecord, 'data'> {
  readonly data: string
}

/** Returns true if the value that a store has returned is a valid session record. Reports an invalid value. */
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

/** Returns the record in a row. If the row is malformed, reports it and returns `undefined`. */
export function parseRow(id: string, row: SessionRow): SessionRecord | undefined {
  return parseRecord(id, () => {
    const { data, userId } = row
    return { ...row, data: decodeData(data), userId: userId === null ? null : decode(userId) }
  })
}

/** Returns the record from `read`. If `read` throws or a number is missing, reports this and returns `undefined`. */
export function parseRecord(id: string, read: () => RawRecord): SessionRecord | undefined {
  try {
    const { version, data, createdAt, lastAccessed, expiresAt, userId } = read()
    return {
      version: toNumber(version),
      data,
      createdAt: toNumber(createdAt),
      lastAccessed: toNumber(lastAccessed),
      expiresAt: toNumber(expiresAt),
      userId
    }
  } catch {
    return reportInvalidRecord(id, 'shape')
  }
}

/** Publishes that a stored record, or a part of it, is malformed. */
export function reportInvalidRecord(id: string, reason: string): undefined {
  if (channels.invalidRecord.hasSubscribers) channels.invalidRecord.publish({ id, reason })
}

function toNumber(value: unknown): number {
  const number = value === null ? NaN : Number(value)
  if (!Number.isFinite(number)) throw new TypeError('not a number')
  return number
}

function isTime(value: unknown): boolean {
  return typeof value === 'number' && Math.abs(value) <= LATEST
}
