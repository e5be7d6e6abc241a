import type { SessionPatch, SessionRecord } from '../types.js'

/** Returns true if the patch changes the session's data, and not only its times, user or id. */
export function changesData({ set, remove, clear }: SessionPatch): boolean {
  return clear === true || remove.length > 0 || Object.keys(set).length > 0
}

/** Returns the patched record. Does not modify `record`. */
export function applyPatch(record: SessionRecord, patch: SessionPatch): SessionRecord {
  const { lastAccessed, expiresAt, createdAt = record.createdAt, userId = record.userId } = patch
  if (!changesData(patch)) {
    const { version, data } = record
    return { version, data, createdAt, lastAccessed, expiresAt, userId }
  }
  const data = patch.clear === true ? new Texts() : copyTexts(record.data, patch.remove)
  Object.assign(data, patch.set)
  return { version: record.version + 1, data, createdAt, lastAccessed, expiresAt, userId }
}

/** Returns a copy of `data` without the keys in `remove`. */
export function copyTexts(
  data: Readonly<Record<string, string>>,
  remove: readonly string[] = []
): Record<string, string> {
  if (remove.length === 0) return Object.assign(new Texts(), data)
  const texts = new Texts()
  const removed = new Set(remove)
  for (const key of Object.keys(data)) {
    if (!removed.has(key)) texts[key] = data[key] as string
  }
  return texts
}

/**
 * Creates an object that inherits nothing, so that `__proto__` is an ordinary key. In V8, an object that a constructor
 * creates takes half as much memory as one that `Object.create(null)` returns.
 */
const Texts = function Texts() {
  // Adds no properties.
} as unknown as new () => Record<string, string>
Texts.prototype = Object.create(null) as object
