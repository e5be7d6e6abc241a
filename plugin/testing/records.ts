import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { SessionPatch, SessionRecord } from '../types.js'

const LIFE = 60_000

/** Returns an id of 64 hex digits. All ids share a prefix, as a store with `rotationPrefix` requires for renames. */
export function idOf(name: string): string {
  return `abcd${createHash('sha256').update(name).digest('hex').slice(4)}`
}

/** Returns a record that expires in one minute. The given fields replace the defaults. */
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

/** Returns a patch that makes a record expire one minute from now. The given fields replace the defaults. */
export function makePatch(patch: Partial<SessionPatch> = {}): SessionPatch {
  const now = Date.now()
  return { set: {}, remove: [], lastAccessed: now, expiresAt: now + LIFE, ...patch }
}

/** Asserts that two records are equal in every field. Ignores the prototype of `data`. */
export function assertRecord(actual: SessionRecord | undefined, expected: SessionRecord): void {
  assert.ok(actual, 'the record exists')
  assert.deepEqual(plain(actual), plain(expected))
}

export function entriesOf(data: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))
}

function plain({ version, data, createdAt, lastAccessed, expiresAt, userId }: SessionRecord): unknown {
  return { version, data: entriesOf(data), createdAt, lastAccessed, expiresAt, userId }
}
