import { setImmediate as nextTurn } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { SessionOptionError } from '../errors.js'
import { storeOptions } from '../own-options.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../types.js'
import { applyPatch, copyTexts } from './patch.js'

export interface MemoryStoreOptions {
  /**
   * How many sessions the store keeps. When it is full, it evicts one that was not used recently: a session without a
   * user if there is one. Default 100,000.
   */
  readonly maxSessions?: number
}

const MAX_SESSIONS = 100_000
/** The errors for options of other memory stores. */
const ALTERNATIVES = {
  max: 'is unknown; use `maxSessions`',
  ttl: 'is unknown; use `maxAge` of the plugin',
  checkPeriod: 'is unknown; use `cleanupInterval` of the plugin'
}
/** One eviction skips at most this many recently used sessions, so that it never blocks the event loop for long. */
const MOST_SPARED = 100
/** A sweep yields to the event loop after this many sessions. Checking them takes well under a millisecond. */
const SWEEP_SLICE = 250

interface Entry {
  readonly id: string
  record: SessionRecord
  /** True if the session has been read or written since it was added or since an eviction last skipped it. */
  used: boolean
  /** The neighbours in the entry's queue. */
  older: Entry | undefined
  newer: Entry | undefined
}

/**
 * Keeps sessions in the memory of this process, for development, tests and single-process services. All sessions are
 * lost when the process ends. A write replaces the frozen record, so a record that `get` returned never changes.
 */
export class MemoryStore implements SessionStore {
  readonly #maxSessions: number
  readonly #entries = new Map<string, Entry>()
  /** The entries without and with a user. Each entry is in one of the queues. */
  readonly #anonymous = new Queue()
  readonly #signedIn = new Queue()
  /** If a user has one session, its id is stored without a Set. A Set would take more memory than the session. */
  readonly #idsByUser = new Map<string, string | Set<string>>()

  /** @throws {SessionOptionError} if `maxSessions` is not a whole number above 0, or an option is unknown. */
  constructor(options?: MemoryStoreOptions) {
    const { maxSessions = MAX_SESSIONS } = storeOptions(options, ['maxSessions'], ALTERNATIVES)
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
    // Evict before the new session is added, so that it cannot be evicted itself.
    if (this.#entries.size >= this.#maxSessions) this.#evict()
    const { version, data, createdAt, lastAccessed, expiresAt, userId } = record
    // Do not use spread syntax here: it would make V8 use 250 more bytes for each frozen record.
    this.#add(id, frozen({ version, data: copyTexts(data), createdAt, lastAccessed, expiresAt, userId }))
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
      this.#remove(entry)
      this.#add(renameTo, next)
    }
    return 'ok'
  }

  destroy(id: string): boolean {
    const entry = this.#live(id)
    if (entry !== undefined) this.#remove(entry)
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
  async cleanup(signal?: AbortSignal): Promise<number> {
    let removed = 0
    let seen = 0
    // Without this limit, the loop would also visit sessions that are added while it runs.
    const count = this.#entries.size
    for (const entry of this.#entries.values()) {
      if (signal?.aborted === true || seen === count) break
      if (isExpired(entry.record)) {
        this.#remove(entry)
        removed++
      }
      if (++seen % SWEEP_SLICE === 0) await nextTurn()
    }
    return removed
  }

  #live(id: string): Entry | undefined {
    const entry = this.#entries.get(id)
    if (entry === undefined || !isExpired(entry.record)) return entry
    this.#remove(entry)
    return undefined
  }

  #idsOf(userId: string): string[] {
    const ids = this.#idsByUser.get(userId) ?? []
    return typeof ids === 'string' ? [ids] : [...ids]
  }

  #add(id: string, record: SessionRecord): void {
    const { userId } = record
    const entry: Entry = { id, record, used: false, older: undefined, newer: undefined }
    this.#entries.set(id, entry)
    this.#queueOf(entry).add(entry)
    if (userId === null) return
    const ids = this.#idsByUser.get(userId)
    if (typeof ids === 'object') ids.add(id)
    else this.#idsByUser.set(userId, ids === undefined ? id : new Set([ids, id]))
  }

  #remove(entry: Entry): void {
    const { id, record } = entry
    const { userId } = record
    this.#entries.delete(id)
    this.#queueOf(entry).remove(entry)
    if (userId === null) return
    const ids = this.#idsByUser.get(userId)
    if (typeof ids === 'object') ids.delete(id)
    if (ids === id || (typeof ids === 'object' && ids.size === 0)) this.#idsByUser.delete(userId)
  }

  #queueOf({ record }: Entry): Queue {
    return record.userId === null ? this.#anonymous : this.#signedIn
  }

  /**
   * Removes the oldest session that has not been used since it was added. A used session moves to the end of its queue
   * instead, and counts as unused until its next use. Sessions without a user go first, so that visitors cannot push
   * out the users who are signed in.
   */
  #evict(): void {
    const queue = this.#anonymous.oldest === undefined ? this.#signedIn : this.#anonymous
    let entry = queue.oldest as Entry
    for (let spared = 0; entry.used && spared < MOST_SPARED; spared++) {
      entry.used = false
      queue.remove(entry)
      queue.add(entry)
      entry = queue.oldest as Entry
    }
    this.#remove(entry)
    if (channels.evicted.hasSubscribers) channels.evicted.publish({ id: entry.id })
  }
}

/**
 * A linked list of entries, in the order in which they were added. The order of a `Map` would not do: its iteration
 * passes over every deleted key, so that finding the oldest of 100,000 entries took up to 150 µs.
 */
class Queue {
  oldest: Entry | undefined
  #newest: Entry | undefined

  add(entry: Entry): void {
    entry.older = this.#newest
    if (this.#newest === undefined) this.oldest = entry
    else this.#newest.newer = entry
    this.#newest = entry
  }

  remove(entry: Entry): void {
    const { older, newer } = entry
    if (older === undefined) this.oldest = newer
    else older.newer = newer
    if (newer === undefined) this.#newest = older
    else newer.older = older
    entry.older = entry.newer = undefined
  }
}

function isExpired({ expiresAt }: SessionRecord): boolean {
  return Date.now() >= expiresAt
}

function frozen(record: SessionRecord): SessionRecord {
  Object.freeze(record.data)
  return Object.freeze(record)
}
