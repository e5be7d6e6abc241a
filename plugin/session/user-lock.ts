import { hash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { SessionConflictError } from '../errors.js'
import type { GuardedStore } from '../stores/guarded.js'

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

/** Returns the lock of a user's sign-ins. If its holder crashes, the lock ends after `timeout` milliseconds. */
export function createLock(store: GuardedStore, userId: string, timeout: number): Lock {
  const id = hash('sha256', `fastify-sesame lock of ${userId}`, 'hex')
  let isHeld = false
  let expiresAt = 0

  async function tryTake(): Promise<boolean> {
    if (isHeld) return true
    const now = Date.now()
    expiresAt = now + timeout
    const times = { createdAt: now, lastAccessed: now, expiresAt }
    isHeld = await store.create(id, { version: 1, data: {}, ...times, userId: null })
    return isHeld
  }

  return {
    tryTake,
    async take() {
      const deadline = performance.now() + 2 * timeout
      while (!(await tryTake())) {
        if (performance.now() > deadline) throw new SessionConflictError()
        await delay(Math.random() * LONGEST_PAUSE)
      }
    },
    async release() {
      // After this time, another process may hold the lock.
      if (Date.now() >= expiresAt) return
      try {
        await store.destroy(id)
      } catch {
        // The lock expires by itself, and the sign-in has already succeeded or failed.
      }
    }
  }
}
