import { SessionGoneError, SessionLimitError, SessionStoreError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { endSession, type GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { StoredSession } from '../types.js'
import { isLive } from './lifetime.js'

/** Keeps the number of a user's sessions within `maxSessionsPerUser`. Calls the store only when somebody signs in. */
export interface SessionLimit {
  /**
   * Runs before a session of the user is written.
   * @throws {SessionLimitError} if `onLimit` is `'reject'` and the user already has the maximum number of sessions.
   */
  before(userId: string | null | undefined, id: string): Promise<void>
  /** Runs after the write and ends the sessions beyond the limit. Concurrent sign-ins always end the same sessions. */
  after(userId: string | null | undefined, id: string): Promise<void>
}

/** Returns the user's sessions that have not expired. */
export async function liveSessionsOf(
  options: ResolvedOptions,
  store: GuardedStore,
  userId: string
): Promise<StoredSession[]> {
  const sessions = await store.listByUser(userId)
  const now = Date.now()
  return sessions.filter(({ id, record }) => isRecord(id, record) && isLive(options, record, now))
}

/** Returns `undefined` if the number of sessions per user is not limited. */
export function createSessionLimit(options: ResolvedOptions, store: GuardedStore): SessionLimit | undefined {
  const { maxSessionsPerUser: max, onLimit } = options
  if (max === undefined) return undefined
  const rejects = onLimit === 'reject'

  async function endSurplus(userId: string, own: string): Promise<void> {
    const sessions = await liveSessionsOf(options, store, userId)
    const surplus = sessions.sort(rejects ? oldestFirst : newestFirst).slice(max)
    for (const { id } of surplus) await endSession(store, id)
    if (surplus.some(({ id }) => id === own)) throw rejects ? new SessionLimitError() : new SessionGoneError()
  }

  return {
    async before(userId, own) {
      if (userId == null || !rejects) return
      const sessions = await liveSessionsOf(options, store, userId)
      if (sessions.filter(({ id }) => id !== own).length >= max) throw new SessionLimitError()
    },
    async after(userId, own) {
      if (userId == null) return
      try {
        await endSurplus(userId, own)
      } catch (error) {
        if (error instanceof SessionStoreError) await endQuietly(store, own)
        throw error
      }
    }
  }
}

/** Ends the new session of a failed request. No cookie was sent for it, but it would still count towards the limit. */
async function endQuietly(store: GuardedStore, id: string): Promise<void> {
  try {
    await endSession(store, id)
  } catch {
    // The caller throws the first error.
  }
}

/** Ties are broken by id, so that concurrent sign-ins agree on the order. */
function newestFirst(a: StoredSession, b: StoredSession): number {
  return b.record.lastAccessed - a.record.lastAccessed || (a.id < b.id ? -1 : 1)
}

/** Sorts by `createdAt`, because a write changes `lastAccessed` and could make an old session look new. */
function oldestFirst(a: StoredSession, b: StoredSession): number {
  return a.record.createdAt - b.record.createdAt || newestFirst(b, a)
}
