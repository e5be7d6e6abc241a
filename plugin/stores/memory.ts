import { setImmediate as nextTurn } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { SessionOptionError } from '../errors.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../types.js'
import { applyPatch, copyTexts } from './patch.js'

export interface MemoryStoreOptions {
  /** How many sessions the store keeps. When it is full, it evicts one that was not used recently. Default 100,000. */
  readonly maxSessions?: number
}

const MAX_SESSIONS = 100_000
/** One eviction skips at most this many recently used sessions, so that it never blocks the event loop for long. */
const MOST_SPARED = 100
/** A sweep yields to the event loop after this many sessions. Checking them takes well under a millisecond. */
const SWEEP_SLICE = 250

interface Entry {
  record: SessionRecord
  /** True if the session has been read or written since it was added or since an eviction last skipped it. */
  used: boolean
}

/**
 * Keeps sessions in the memory of this process, for development, tests and single-process services. All sessions are
 * lost when the process ends. A write replaces the frozen record, so a record that `get` returned never changes.
 */
export class MemoryStore implements SessionStore {
  readonly #maxSessions: number
  readonly #entries = new Map<string, Entry>()
  /** If a user has one session, its id is stored without a Set. A Set would take more memory than the session. */
  readonly #idsByUser = new Map<string, string | Set<string>>()
  #closed = false

  /** @throws {SessionOptionError} if `maxSessions` is not a whole number above 0. */
  constructor({ maxSessions = MAX_SESSIONS }: MemoryStoreOptions = {}) {
    if (!Number.isInteger(maxSessions) || maxSessions < 1) {
      throw SessionOptionError.wrong('maxSessions', maxSessions, 'a whole number above 0')
    }
    this.#maxSessions = maxSessions
  }

  /** The number of sessions in memory, including expired ones that no sweep has removed yet. */
  get size(): number {
    return this.#entries.size
  }

  get(id: string): SessionRecord | undefined {
    const entry = this.#live(id)
    if (entry === undefined) return undefined
    entry.used = true
    return entry.record
  }

  create(id: string, record: SessionRecord): boolean {
    if (this.#live(id) !== undefined) return false
    const { version, data, createdAt, lastAccessed, expiresAt, userId } = record
    // Do not use spread syntax here: it would make V8 use 250 more bytes for each frozen record.
    this.#add(id, frozen({ version, data: copyTexts(data), createdAt, lastAccessed, expiresAt, userId }))
    if (this.#entries.size > this.#maxSessions) this.#evict()
    return true
  }

  update(id: string, patch: SessionPatch): UpdateResult {
    const { ifVersion, renameTo = id } = patch
    const entry = this.#live(id)
    if (entry === undefined) return 'gone'
    const { record } = entry
    if (ifVersion !== undefined && ifVersion !== record.version) return 'conflict'
    if (renameTo !== id && this.#live(renameTo) !== undefined) return 'conflict'
    const next = frozen(applyPatch(record, patch))
    if (renameTo === id && next.userId === record.userId) {
      entry.record = next
      entry.used = true
    } else {
      this.#remove(id, record)
      this.#add(renameTo, next)
    }
    return 'ok'
  }

  destroy(id: string): boolean {
    const entry = this.#live(id)
    if (entry !== undefined) this.#remove(id, entry.record)
    return entry !== undefined
  }

  listByUser(userId: string): StoredSession[] {
    return this.#idsOf(userId).flatMap((id) => {
      const entry = this.#live(id)
      return entry === undefined ? [] : [{ id, record: entry.record }]
    })
  }

  destroyByUser(userId: string, except?: string): number {
    return this.#idsOf(userId).filter((id) => id !== except && this.destroy(id)).length
  }

  /** Removes expired sessions. Yields to the event loop regularly, so that a sweep never blocks it for long. */
  async cleanup(): Promise<number> {
    let removed = 0
    let seen = 0
    // Without this limit, the loop would also visit sessions that are added while it runs.
    const count = this.#entries.size
    for (const [id, { record }] of this.#entries) {
      if (this.#closed || seen === count) break
      if (isExpired(record)) {
        this.#remove(id, record)
        removed++
      }
      if (++seen % SWEEP_SLICE === 0) await nextTurn()
    }
    return removed
  }

  /** Stops a running sweep. The sessions stay readable. */
  close(): void {
    this.#closed = true
  }

  #live(id: string): Entry | undefined {
    const entry = this.#entries.get(id)
    if (entry === undefined || !isExpired(entry.record)) return entry
    this.#remove(id, entry.record)
    return undefined
  }

  #idsOf(userId: string): string[] {
    const ids = this.#idsByUser.get(userId) ?? []
    return typeof ids === 'string' ? [ids] : [...ids]
  }

  #add(id: string, record: SessionRecord): void {
    const { userId } = record
    this.#entries.set(id, { record, used: false })
    if (userId === null) return
    const ids = this.#idsByUser.get(userId)
    if (typeof ids === 'object') ids.add(id)
    else this.#idsByUser.set(userId, ids === undefined ? id : new Set([ids, id]))
  }

  #remove(id: string, { userId }: SessionRecord): void {
    this.#entries.delete(id)
    if (userId === null) return
    const ids = this.#idsByUser.get(userId)
    if (typeof ids === 'object') ids.delete(id)
    if (ids === id || (typeof ids === 'object' && ids.size === 0)) this.#idsByUser.delete(userId)
  }

  /**
   * Removes the oldest session that has not been used since it was added. A used session is moved to the end of the
   * Map instead, and counts as unused until its next use. Moving a session at each use would keep the exact order, but
   * leave many holes in the Map, which slow down lookups: with 100,000 sessions, finding a busy session took 200 µs.
   */
  #evict(): void {
    let spared = 0
    for (const [id, { record, used }] of this.#entries) {
      this.#remove(id, record)
      if (!used || spared === MOST_SPARED) {
        if (channels.evicted.hasSubscribers) channels.evicted.publish({ id })
        break
      }
      this.#add(id, record)
      spared++
    }
  }
}

function isExpired({ expiresAt }: SessionRecord): boolean {
  return Date.now() >= expiresAt
}

function frozen(record: SessionRecord): SessionRecord {
  Object.freeze(record.data)
  return Object.freeze(record)
}
