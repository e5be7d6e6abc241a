import { setImmediate as nextTurn } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { SessionOptionError } from '../errors.js'
import { ShardedMap } from './sharded-map.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../types.js'

export interface MemoryStoreOptions {
  /** How many sessions are kept at most; the least recently used goes first. Default 100,000. */
  readonly maxSessions?: number
}

const MAX_SESSIONS = 100_000
/** How many sessions a sweep looks at before others have their turn: well under a millisecond. */
const SWEEP_SLICE = 250

/** A session, and its neighbours in the order of use. */
interface Entry {
  readonly id: string
  record: SessionRecord
  older: Entry | undefined
  newer: Entry | undefined
}

/**
 * Sessions in this process: for development, tests and single-process services. They end with the process.
 * Records are replaced, never changed, so that no request sees what another one is doing.
 */
export class MemoryStore implements SessionStore {
  readonly #maxSessions: number
  readonly #entries = new ShardedMap<Entry>()
  /** Most users have one session, for which a set would take as much memory as the session. */
  readonly #idsByUser = new ShardedMap<string | Set<string>>()
  #oldest: Entry | undefined
  #newest: Entry | undefined
  #closed = false

  /** @throws {SessionOptionError} when `maxSessions` is not a whole number above 0. */
  constructor({ maxSessions = MAX_SESSIONS }: MemoryStoreOptions = {}) {
    if (!Number.isInteger(maxSessions) || maxSessions < 1) {
      throw SessionOptionError.wrong('maxSessions', maxSessions, 'a whole number above 0')
    }
    this.#maxSessions = maxSessions
  }

  /** How many sessions are kept, expired ones that no sweep has met included. */
  get size(): number {
    return this.#entries.size
  }

  get(id: string): SessionRecord | undefined {
    const entry = this.#live(id)
    if (entry === undefined) return undefined
    this.#use(entry)
    return entry.record
  }

  create(id: string, record: SessionRecord): boolean {
    if (this.#live(id) !== undefined) return false
    this.#add(id, frozen(record, textsOf(record.data)))
    if (this.#entries.size > this.#maxSessions) this.#evict(this.#oldest as Entry)
    return true
  }

  update(id: string, patch: SessionPatch): UpdateResult {
    const entry = this.#live(id)
    if (entry === undefined) return 'gone'
    const { ifVersion, renameTo } = patch
    if (ifVersion !== undefined && ifVersion !== entry.record.version) return 'conflict'
    if (renameTo !== undefined && this.#live(renameTo) !== undefined) return 'conflict'
    const record = patched(entry.record, patch)
    if (renameTo === undefined) this.#replace(entry, record)
    else {
      this.#remove(entry)
      this.#add(renameTo, record)
    }
    return 'ok'
  }

  destroy(id: string): boolean {
    const entry = this.#live(id)
    if (entry === undefined) return false
    this.#remove(entry)
    return true
  }

  listByUser(userId: string): StoredSession[] {
    const entries = this.#idsOf(userId).map((id) => this.#live(id))
    return entries.filter((entry) => entry !== undefined).map(({ id, record }) => ({ id, record }))
  }

  destroyByUser(userId: string, except?: string): number {
    const ids = this.#idsOf(userId).filter((id) => id !== except)
    return ids.filter((id) => this.destroy(id)).length
  }

  /** Goes through the sessions in slices, so that no sweep holds the event loop. */
  async cleanup(): Promise<number> {
    let seen = 0
    let removed = 0
    for (const entry of this.#entries.values()) {
      if (this.#closed) break
      if (isOver(entry.record)) {
        this.#remove(entry)
        removed++
      }
      if (++seen % SWEEP_SLICE === 0) await nextTurn()
    }
    return removed
  }

  /** Stops a sweep that is under way. What is kept stays readable. */
  close(): void {
    this.#closed = true
  }

  /** The entry, unless it has expired; then it goes. */
  #live(id: string): Entry | undefined {
    const entry = this.#entries.get(id)
    if (entry === undefined || !isOver(entry.record)) return entry
    this.#remove(entry)
    return undefined
  }

  #add(id: string, record: SessionRecord): void {
    const entry: Entry = { id, record, older: undefined, newer: undefined }
    this.#entries.set(id, entry)
    this.#linkNewest(entry)
    this.#index(entry)
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.id)
    this.#unlink(entry)
    this.#unindex(entry)
  }

  /** The entry keeps its place among all, so that a sweep does not meet it again. */
  #replace(entry: Entry, record: SessionRecord): void {
    const isMoved = record.userId !== entry.record.userId
    if (isMoved) this.#unindex(entry)
    entry.record = record
    if (isMoved) this.#index(entry)
    this.#use(entry)
  }

  #idsOf(userId: string): string[] {
    const ids = this.#idsByUser.get(userId) ?? []
    return typeof ids === 'string' ? [ids] : [...ids]
  }

  #index({ id, record: { userId } }: Entry): void {
    if (userId === null) return
    const ids = this.#idsByUser.get(userId)
    if (ids === undefined) this.#idsByUser.set(userId, id)
    else if (typeof ids === 'string') this.#idsByUser.set(userId, new Set([ids, id]))
    else ids.add(id)
  }

  #unindex({ id, record: { userId } }: Entry): void {
    if (userId === null) return
    const ids = this.#idsByUser.get(userId)
    if (typeof ids === 'object') ids.delete(id)
    if (ids === id || (typeof ids === 'object' && ids.size === 0)) this.#idsByUser.delete(userId)
  }

  #evict(entry: Entry): void {
    this.#remove(entry)
    if (channels.evicted.hasSubscribers) channels.evicted.publish({ id: entry.id })
  }

  #use(entry: Entry): void {
    if (entry === this.#newest) return
    this.#unlink(entry)
    this.#linkNewest(entry)
  }

  #linkNewest(entry: Entry): void {
    entry.older = this.#newest
    entry.newer = undefined
    if (this.#newest === undefined) this.#oldest = entry
    else this.#newest.newer = entry
    this.#newest = entry
  }

  #unlink({ older, newer }: Entry): void {
    if (older === undefined) this.#oldest = newer
    else older.newer = newer
    if (newer === undefined) this.#newest = older
    else newer.older = older
  }
}

function isOver(record: SessionRecord): boolean {
  return Date.now() >= record.expiresAt
}

function patched(record: SessionRecord, patch: SessionPatch): SessionRecord {
  const { set, remove, clear = false, lastAccessed, expiresAt } = patch
  const { createdAt = record.createdAt, userId = record.userId } = patch
  const wrote = clear || remove.length > 0 || Object.keys(set).length > 0
  const version = record.version + (wrote ? 1 : 0)
  const kept = clear ? undefined : record.data
  const data = wrote ? Object.assign(textsOf(kept, remove), set) : record.data
  return frozen({ version, data, createdAt, lastAccessed, expiresAt, userId }, data)
}

/** Written out, and not spread, which costs twice the memory. */
function frozen(
  { version, createdAt, lastAccessed, expiresAt, userId }: SessionRecord,
  data: SessionRecord['data']
): SessionRecord {
  return Object.freeze({ version, data: Object.freeze(data), createdAt, lastAccessed, expiresAt, userId })
}

/**
 * What data is kept in: it inherits nothing, so that `__proto__` is a key like any other, and V8 keeps it in half the
 * memory that `Object.create(null)` takes.
 */
const Texts = function Texts() {
  // Nothing of its own.
} as unknown as new () => Record<string, string>
Texts.prototype = Object.create(null) as object

function textsOf(
  data: Readonly<Record<string, string>> = {},
  without: readonly string[] = []
): Record<string, string> {
  const texts = new Texts()
  for (const key of Object.keys(data)) {
    if (!without.includes(key)) texts[key] = data[key] as string
  }
  return texts
}
