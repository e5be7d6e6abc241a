import { hash, randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { SessionConflictError } from '../errors.js'
import type { GuardedStore } from '../stores/guarded.js'
import type { SessionRecord } from '../types.js'

/** The longest pause between two attempts, in milliseconds. */
const LONGEST_PAUSE = 25
/** How long the record of a crashed process stays if nobody takes it over, in ms. The clocks must not differ by more. */
const HOUR = 3_600_000
/** How many store calls fit into the life of a lock, however slow the store is: a list, a write and an end. */
const CALLS = 3

/**
 * A lock that only one sign-in of a user can hold, in all processes. It is a record in the store, because each store
 * has an atomic create. If the holder crashes, another process takes the lock over once it has seen it unchanged for
 * the time of 3 store calls. It measures this itself, because the clocks of two servers may differ.
 */
export class UserLock {
  readonly #store: GuardedStore
  readonly #id: string
  readonly #data: SessionRecord['data']
  readonly #life: number
  /** When this sign-in took the lock. */
  #takenAt: number | undefined
  /** The version of the lock that another sign-in holds, which is different each time, and when it was first seen. */
  #seen = { version: 0, at: 0 }

  /** `name` tells the sign-in from others. `timeout` is the longest time of a store call, in milliseconds. */
  constructor(store: GuardedStore, userId: string, name: string, timeout: number) {
    this.#store = store
    this.#id = hash('sha256', `fastify-sesame lock of ${userId}`, 'hex')
    this.#data = { holder: JSON.stringify(name) }
    this.#life = CALLS * timeout
  }

  /** Takes the lock if it is free. Returns false if it is not. */
  async tryTake(): Promise<boolean> {
    const began = performance.now()
    const record = { version: randomInt(1, 2 ** 47), data: this.#data, ...times(), userId: null }
    if (await this.#store.create(this.#id, record)) this.#takenAt = began
    return this.#takenAt !== undefined
  }

  /** Returns the name of the sign-in that holds the lock, or `undefined` if the lock is free. */
  async holder(): Promise<string | undefined> {
    const text = (await this.#store.get(this.#id))?.data['holder']
    return text === undefined ? undefined : (JSON.parse(text) as string)
  }

  /**
   * Runs `fn` while holding the lock. First waits for the lock, unless `tryTake` has taken it.
   * @throws {SessionConflictError} if waiting takes too long.
   */
  async run<T>(fn: () => Promise<T>): Promise<T> {
    await this.#take()
    try {
      return await fn()
    } finally {
      await this.#release()
    }
  }

  async #take(): Promise<void> {
    const deadline = performance.now() + 2 * this.#life
    while (this.#takenAt === undefined && !(await this.tryTake()) && !(await this.#tryTakeOver())) {
      if (performance.now() > deadline) throw new SessionConflictError()
      await delay(Math.random() * LONGEST_PAUSE)
    }
  }

  async #tryTakeOver(): Promise<boolean> {
    const version = (await this.#store.get(this.#id))?.version
    if (version === undefined) return false
    const began = performance.now()
    if (version !== this.#seen.version) this.#seen = { version, at: began }
    if (began - this.#seen.at < this.#life) return false
    // An update increments the version, so that only one process takes the lock over.
    const patch = { set: this.#data, remove: [], ...times(), ifVersion: version }
    if ((await this.#store.update(this.#id, patch)) === 'ok') this.#takenAt = began
    return this.#takenAt !== undefined
  }

  async #release(): Promise<void> {
    // After this time, another process may have taken the lock over.
    if (performance.now() - (this.#takenAt as number) >= this.#life) return
    try {
      await this.#store.destroy(this.#id)
    } catch {
      // Another process takes the lock over later, and the sign-in has already succeeded or failed.
    }
  }
}

function times(): Pick<SessionRecord, 'createdAt' | 'lastAccessed' | 'expiresAt'> {
  const now = Date.now()
  return { createdAt: now, lastAccessed: now, expiresAt: now + HOUR }
}
