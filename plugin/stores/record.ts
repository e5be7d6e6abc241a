import { channels } from '../diagnostics.js'
import type { SessionRecord } from '../types.js'
import { decode, decodeData } from './codec.js'

/** The latest time that a Date can hold, in ms since the epoch. */
const LATEST = 8.64e15

/** A record as an engine returns it. A driver may return a number as a BigInt or as digits. */
export interface RawRecord extends Pick<SessionRecord, 'data' | 'userId'> {
  readonly version: unknown
  readonly createdAt: unknown
  readonly lastAccessed: unknown
  readonly expiresAt: unknown
}

/** A row of an SQL table, with its text still encoded. */
export interface SessionRow extends Omit<RawRecord, 'data'> {
  readonly data: string
}

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

/** Returns the record in a row, or reports the row and returns `undefined` if it is malformed. */
export function parseRow(id: string, row: SessionRow): SessionRecord | undefined {
  return parseRecord(id, () => {
    const { data, userId } = row
    return { ...row, data: decodeData(data), userId: userId === null ? null : decode(userId) }
  })
}

/** Returns the record that `read` returns. Reports it and returns `undefined` if `read` throws or a number is missing. */
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
