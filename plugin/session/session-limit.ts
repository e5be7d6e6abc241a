import { SessionGoneError, SessionLimitError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { endSession, type GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { StoredSession } from '../types.js'
import { isLive } from './lifetime.js'
import { RetryQueue } from './retry-queue.js'
import { createLock } from './user-lock.js'

/** Keeps the number of a user's sessions within `maxSessionsPerUser`. Calls the store only when somebody signs in. */
export interface SessionLimit {
  /**
   * Runs `write`, which signs in a user, and ends the oldest logins beyond the limit. The sign-ins of a user run one
   * after the other, in all processes. `write` gets the time of the user's newest login, or 0, and must store a later
   * one.
   * @throws {SessionLimitError} if `onLimit` is `'reject'` and the user already has the maximum number of sessions.
   * @throws {SessionGoneError} if other sign-ins that ran at the same time have already reached the maximum.
   */
  signIn<T>(userId: string, ids: SignIn, write: (newest: number) => Promise<T>): Promise<T>
}

/** What the limit needs to know about a sign-in: the id of its session before, if it is stored, and afterwards. */
export interface SignIn {
  readonly before: string | undefined
  readonly after: string
  /** When the login began, in milliseconds since the epoch. */
  readonly loginAt: number
  /** The id of the request, for diagnostics. */
  readonly requestId: string
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
  const { maxSessionsPerUser, storeTimeout } = options
  if (maxSessionsPerUser === undefined) return undefined
  const queue = new RetryQueue()

  async function idsOf(userId: string): Promise<ReadonlySet<string>> {
    return new Set((await liveSessionsOf(options, store, userId)).map(({ id }) => id))
  }

  return {
    async signIn(userId, ids, write) {
      const seen = queue.has(userId) ? await idsOf(userId) : undefined
      return queue.run(userId, async () => {
        const lock = createLock(store, userId, storeTimeout)
        const known = (await lock.tryTake()) ? seen : (seen ?? (await idsOf(userId)))
        await lock.take()
        try {
          const sessions = await liveSessionsOf(options, store, userId)
          const others = sessions.filter(({ id }) => id !== ids.before)
          const surplus = surplusOf(others, overlaps(known, ids.loginAt), options)
          const result = await write(Math.max(0, ...others.map(({ record }) => record.createdAt)))
          await endAll(store, surplus, ids)
          return result
        } finally {
          await lock.release()
        }
      })
    }
  }
}

/**
 * Returns a function that recognizes the sessions of sign-ins that ran at the same time. `known` holds the ids from
 * before this sign-in waited for others. One of them can also be of such a sign-in, but then its login is not older.
 */
function overlaps(known: ReadonlySet<string> | undefined, loginAt: number) {
  return ({ id, record }: StoredSession): boolean =>
    known !== undefined && (!known.has(id) || record.createdAt >= loginAt)
}

/**
 * Returns the sessions that a sign-in ends, which are the oldest logins. It never ends the session of a sign-in that ran
 * at the same time, because that has been answered with success.
 * @throws {SessionLimitError} or {SessionGoneError} if the sign-in itself is the surplus.
 */
function surplusOf(
  others: readonly StoredSession[],
  isOverlapping: (session: StoredSession) => boolean,
  { maxSessionsPerUser: max = Infinity, onLimit }: ResolvedOptions
): readonly StoredSession[] {
  if (onLimit === 'reject' && others.length >= max) throw new SessionLimitError()
  const older = others.filter((session) => !isOverlapping(session)).sort(newestFirst)
  const room = max - 1 - (others.length - older.length)
  if (room < 0) throw new SessionGoneError()
  return older.slice(room)
}

/** If the surplus cannot be ended, the sign-in fails, and its session must not count towards the limit. */
async function endAll(
  store: GuardedStore,
  surplus: readonly StoredSession[],
  { after: own, requestId }: SignIn
): Promise<void> {
  const end = async (id: string) => endSession(store, id, { reason: 'limit', requestId })
  try {
    for (const { id } of surplus) await end(id)
  } catch (error) {
    await end(own).catch(() => undefined)
    throw error
  }
}

/** Sorts by the time of the login, because a write changes `lastAccessed`. Ties are broken by id. */
function newestFirst(a: StoredSession, b: StoredSession): number {
  return b.record.createdAt - a.record.createdAt || (a.id < b.id ? -1 : 1)
}
