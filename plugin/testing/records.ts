import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { SessionPatch, SessionRecord } from '../types.js'

const LIFE = 60_000

/** An id as the library makes them; all begin alike, so that a rotation may go between any two (`rotationPrefix`). */
export function idOf(name: string): string {
  return `abcd${createHash('sha256').update(name).digest('hex').slice(4)}`
}

/** A record that lives a minute. */
export function makeRecord(record: Partial<SessionRecord> = {}): SessionRecord {
  const now = Date.now()
  return {
    version: 1,
    data: { name: '"ada"' },
    createdAt: now,
    lastAccessed: now,
    expiresAt: now + LIFE,
    userId: null,
    ...record
  }
}

/** A touch now, to live a minute more, and what else is given. */
export function makePatch(patch: Partial<SessionPatch> = {}): SessionPatch {
  const now = Date.now()
  return { set: {}, remove: [], lastAccessed: now, expiresAt: now + LIFE, ...patch }
}

/** Equal in every field; texts as they are written, whatever prototype the data has. */
export function assertRecord(actual: SessionRecord | undefined, expected: SessionRecord): void {
  assert.ok(actual, 'there is a record')
  assert.deepEqual(plain(actual), plain(expected))
}

/** Key and text, in the order of the keys. */
export function entriesOf(data: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))
}

function plain({ version, data, createdAt, lastAccessed, expiresAt, userId }: SessionRecord): unknown {
  return { version, data: entriesOf(data), createdAt, lastAccessed, expiresAt, userId }
}
