import { setImmediate as nextTurn } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { SessionOptionError } from '../errors.js'
import { NONE, SessionTable } from './memory-table.js'
import { UserIndex } from './memory-users.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../types.js'

export interface MemoryStoreOptions {
  /** How many sessions are kept at most; the least recently used goes first. Default 100,000. */
  readonly maxSessions?: number
}

const MAX_SESSIONS = 100_000
/** How many sessions a sweep looks at before others have their turn: well under a millisecond. */
const SWEEP_SLICE = 250

/**
 * Sessions in this process: for development, tests and single-process services. They end with the process.
 * A record is handed out as a copy, and its data is replaced, never changed, so that no request sees what another one does.
 */
export class MemoryStore implements SessionStore {
  readonly #maxSessions: number
  readonly #table = new SessionTable()
  readonly #users = new UserIndex()
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
    return this.#table.size
  }

  get(id: string): SessionRecord | undefined {
    const row = this.#live(id)
    if (row === NONE) return undefined
    this.#table.use(row)
    return this.#table.recordAt(row)
  }

  create(id: string, record: SessionRecord): boolean {
    if (this.#live(id) !== NONE) return false
    this.#add(id, { ...record, data: Object.freeze(textsOf(record.data)) })
    if (this.#table.size > this.#maxSessions) this.#evict(this.#table.oldest)
    return true
  }

  update(id: string, patch: SessionPatch): UpdateResult {
    const { ifVersion, renameTo } = patch
    // Asked first, because it may remove an expired one, and so move others.
    const isTaken = renameTo !== undefined && this.#live(renameTo) !== NONE
    const row = this.#live(id)
    if (row === NONE) return 'gone'
    const before = this.#table.recordAt(row)
    if (isTaken || (ifVersion !== undefined && ifVersion !== before.version)) return 'conflict'
    const record = patched(before, patch)
    if (renameTo === undefined) this.#replace(row, record)
    else {
      this.#remove(row)
      this.#add(renameTo, record)
    }
    return 'ok'
  }

  destroy(id: string): boolean {
    const row = this.#live(id)
    if (row === NONE) return false
    this.#remove(row)
    return true
  }

  listByUser(userId: string): StoredSession[] {
    return this.#users.idsOf(userId).flatMap((id) => {
      const row = this.#live(id)
      return row === NONE ? [] : [{ id, record: this.#table.recordAt(row) }]
    })
  }

  destroyByUser(userId: string, except?: string): number {
    const ids = this.#users.idsOf(userId).filter((id) => id !== except)
    return ids.filter((id) => this.destroy(id)).length
  }

  /** Goes through the sessions in slices, so that no sweep holds the event loop. */
  async cleanup(): Promise<number> {
    let seen = 0
    let removed = 0
    // From the end, because where a row goes, the last takes its place: that one was seen, or comes below.
    for (let row = this.#table.size - 1; row >= 0; row = Math.min(row, this.#table.size) - 1) {
      if (this.#closed) break
      if (this.#isOver(row)) {
        this.#remove(row)
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

  /** The session's row, unless it has expired; then it goes. */
  #live(id: string): number {
    const row = this.#table.find(id)
    if (row === NONE || !this.#isOver(row)) return row
    this.#remove(row)
    return NONE
  }

  #isOver(row: number): boolean {
    return Date.now() >= this.#table.expiresAt(row)
  }

  #add(id: string, record: SessionRecord): void {
    this.#table.add(id, record)
    this.#users.add(record.userId, id)
  }

  #remove(row: number): void {
    this.#users.remove(this.#table.userIdAt(row), this.#table.idAt(row))
    this.#table.remove(row)
  }

  #replace(row: number, record: SessionRecord): void {
    const id = this.#table.idAt(row)
    const userId = this.#table.userIdAt(row)
    if (record.userId !== userId) {
      this.#users.remove(userId, id)
      this.#users.add(record.userId, id)
    }
    this.#table.replace(row, record)
    this.#table.use(row)
  }

  #evict(row: number): void {
    const id = this.#table.idAt(row)
    this.#remove(row)
    if (channels.evicted.hasSubscribers) channels.evicted.publish({ id })
  }
}

function patched(record: SessionRecord, patch: SessionPatch): SessionRecord {
  const { set, remove, clear = false, lastAccessed, expiresAt } = patch
  const { createdAt = record.createdAt, userId = record.userId } = patch
  const wrote = clear || remove.length > 0 || Object.keys(set).length > 0
  const version = record.version + (wrote ? 1 : 0)
  const kept = clear ? undefined : record.data
  const data = wrote ? Object.freeze(Object.assign(textsOf(kept, remove), set)) : record.data
  return { version, data, createdAt, lastAccessed, expiresAt, userId }
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
