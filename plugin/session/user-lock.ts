import { hash, randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { SessionConflictError } from '../errors.js'
import type { GuardedStore } from '../stores/guarded.js'
import type { SessionRecord } from '../types.js'

/** A lock that only one process at a time can hold. It is a record in the store, because each store has an atomic create. */
export interface Lock {
  /** Takes the lock if it is free. Returns false if it is not. */
  tryTake(): Promise<boolean>
  /** Waits for the lock and takes it, unless it is already held. @throws {SessionConflictError} if that takes too long. */
  take(): Promise<void>
  release(): Promise<void>
}

/** The longest pause between two attempts, in milliseconds. */
const LONGEST_PAUSE = 25
/** How long the record of a crashed process stays if nobody takes it over, in ms. The clocks must not differ by more. */
const HOUR = 3_600_000
/** How many store calls fit into the life of a lock, however slow the store is: a list, a write and an end. */
const CALLS = 3

/**
 * Returns the lock of a user's sign-ins. `timeout` is the longest time of a store call, in milliseconds. If the holder
 * crashes, another process takes the lock over once it has seen it unchanged for the time of 3 calls. It measures this
 * itself, because the clocks of two servers may differ.
 */
export function createLock(store: GuardedStore, userId: string, timeout: number): Lock {
  const id = hash('sha256', `fastify-sesame lock of ${userId}`, 'hex')
  const life = CALLS * timeout
  /** When this process took the lock. */
  let takenAt: number | undefined
  /** The version of the lock that another process holds, which is different each time, and when it was first seen. */
  let seen = { version: 0, at: 0 }

  async function tryTake(): Promise<boolean> {
    if (takenAt !== undefined) return true
    const began = performance.now()
    if (await store.create(id, makeRecord())) takenAt = began
    return takenAt !== undefined
  }

  async function tryTakeOver(): Promise<boolean> {
    const version = (await store.get(id))?.version
    if (version === undefined) return false
    const began = performance.now()
    if (version !== seen.version) seen = { version, at: began }
    if (began - seen.at >= life && (await takeOver(store, id, version))) takenAt = began
    return takenAt !== undefined
  }

  return {
    tryTake,
    async take() {
      const deadline = performance.now() + 2 * life
      while (!(await tryTake()) && !(await tryTakeOver())) {
        if (performance.now() > deadline) throw new SessionConflictError()
        await delay(Math.random() * LONGEST_PAUSE)
      }
    },
    async release() {
      // After this time, another process may have taken the lock over.
      if (takenAt === undefined || performance.now() - takenAt >= life) return
      await end(store, id)
    }
  }
}

function makeRecord(): SessionRecord {
  const now = Date.now()
  const times = { createdAt: now, lastAccessed: now, expiresAt: now + HOUR }
  return { version: randomInt(1, 2 ** 47), data: {}, ...times, userId: null }
}

async function takeOver(store: GuardedStore, id: string, version: number): Promise<boolean> {
  const now = Date.now()
  // Removing a key increments the version, so that only one process takes the lock over.
  const patch = { set: {}, remove: ['holder'], lastAccessed: now, expiresAt: now + HOUR, ifVersion: version }
  return (await store.update(id, patch)) === 'ok'
}

async function end(store: GuardedStore, id: string): Promise<void> {
  try {
    await store.destroy(id)
  } catch {
    // Another process takes the lock over later, and the sign-in has already succeeded or failed.
  }
}
