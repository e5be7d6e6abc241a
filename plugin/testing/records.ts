import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { SessionPatch, SessionRecord } from '../types.js'

const LIFE = 60_000

/** Returns a 64-digit hex id for a name. All ids share a prefix, so that a store with `rotationPrefix` allows a rename between any two. */
export function idOf(name: string): string {
  return `abcd${createHash('sha256').update(name).digest('hex').slice(4)}`
}

/** Returns a record that expires in a minute, with the given fields replaced. */
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

/** Returns a patch that extends the record by a minute, with the given fields replaced. */
export function makePatch(patch: Partial<SessionPatch> = {}): SessionPatch {
  const now = Date.now()
  return { set: {}, remove: [], lastAccessed: now, expiresAt: now + LIFE, ...patch }
}

/** Asserts that two records are equal in every field. Ignores the prototype of `data`. */
export function assertRecord(actual: SessionRecord | undefined, expected: SessionRecord): void {
  assert.ok(actual, 'the record exists')
  assert.deepEqual(plain(actual), plain(expected))
}

/** Returns the key-value pairs sorted by key. */
export function entriesOf(data: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))
}

function plain({ version, data, createdAt, lastAccessed, expiresAt, userId }: SessionRecord): unknown {
  return { version, data: entriesOf(data), createdAt, lastAccessed, expiresAt, userId }
}
