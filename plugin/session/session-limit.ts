import { SessionGoneError, SessionLimitError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { endSession, type GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { StoredSession } from '../types.js'
import { isLive } from './lifetime.js'
import { RetryQueue } from './retry-queue.js'
import { UserLock } from './user-lock.js'

/** How long a sign-in can take, and by how much the clocks of two servers can differ, in milliseconds. */
const RECENT = 10_000

/** The ids of the session of a sign-in: before the sign-in, if the session is stored, and after it. */
export interface SignIn {
  readonly before: string | undefined
  readonly after: string
  /** The id of the request, for diagnostics. */
  readonly requestId: string
}

/** Stores the session of a sign-in. `newest` is the time of the user's newest login, or 0. The new login must be later. */
type Write<T> = (newest: number) => Promise<T>
/** The ids of the sessions that were signed in before a sign-in began. `undefined` if all of them were. */
type Older = ReadonlySet<string> | undefined

/** Keeps the number of a user's sessions within `maxSessionsPerUser`. Calls the store only when somebody signs in. */
export class SessionLimit {
  readonly #options: ResolvedOptions
  readonly #store: GuardedStore
  readonly #queue = new RetryQueue()
  /** The ids of the sessions that this process is signing in, by user. */
  readonly #running = new Map<string, readonly string[]>()

  constructor(options: ResolvedOptions, store: GuardedStore) {
    this.#options = options
    this.#store = store
  }

  /**
   * Runs `write`, which signs in a user, and ends the oldest logins beyond the limit. The sign-ins of a user run one
   * after the other, in all processes.
   * @throws {SessionLimitError} if `onLimit` is `'reject'` and the user already has the maximum number of sessions.
   * @throws {SessionGoneError} if other sign-ins that ran at the same time have already reached the maximum.
   */
  async signIn<T>(userId: string, ids: SignIn, write: Write<T>): Promise<T> {
    const others = this.#running.get(userId) ?? []
    this.#running.set(userId, [...others, ids.after])
    try {
      return await this.#takeTurn(userId, ids, others, write)
    } finally {
      const left = (this.#running.get(userId) as readonly string[]).filter((id) => id !== ids.after)
      if (left.length > 0) this.#running.set(userId, left)
      else this.#running.delete(userId)
    }
  }

  /** `others` holds the ids of the sessions that this process was already signing in. */
  async #takeTurn<T>(userId: string, ids: SignIn, others: readonly string[], write: Write<T>): Promise<T> {
    const lock = new UserLock(this.#store, userId, ids.after, this.#options.storeTimeout)
    let older: Older = others.length === 0 ? undefined : await this.#idsBefore(userId, lock, others)
    return this.#queue.run(userId, async () => {
      if (!(await lock.tryTake())) older ??= await this.#idsBefore(userId, lock, others)
      return lock.run(() => this.#replaceOldest(userId, ids, older, write))
    })
  }

  /**
   * Returns the ids of the older sessions. Whoever holds the lock may have stored a session without an answer yet, and
   * all sessions that are newer than that have been signed in meanwhile.
   */
  async #idsBefore(userId: string, lock: UserLock, others: readonly string[]): Promise<Set<string>> {
    const holder = (await lock.holder()) ?? ''
    const sessions = (await liveSessionsOf(this.#options, this.#store, userId)).sort(newestFirst)
    const isKnown = others.includes(holder) || sessions.some(({ id }) => id === holder)
    const last = isKnown ? holder : latestLogin(sessions)
    const older = sessions.slice(sessions.findIndex(({ id }) => id === last) + 1)
    return new Set(older.map(({ id }) => id).filter((id) => !others.includes(id)))
  }

  /** Signs in while no other sign-in of the user is running. */
  async #replaceOldest<T>(userId: string, ids: SignIn, older: Older, write: Write<T>): Promise<T> {
    const sessions = await liveSessionsOf(this.#options, this.#store, userId)
    const others = sessions.filter(({ id }) => id !== ids.before)
    const surplus = surplusOf(others, older, this.#options)
    const result = await write(Math.max(0, ...others.map(({ record }) => record.createdAt)))
    await endAll(this.#store, surplus, ids)
    return result
  }
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

/** Returns the newest session if it may be of a sign-in that came between two looks at the lock. */
function latestLogin([newest]: readonly StoredSession[]): string | undefined {
  return newest !== undefined && newest.record.createdAt >= Date.now() - RECENT ? newest.id : undefined
}

/**
 * Returns the sessions that a sign-in ends, which are the oldest logins. It never ends the session of a sign-in that ran
 * at the same time, because that has been answered with success.
 * @throws {SessionLimitError} or {SessionGoneError} if the sign-in itself is the surplus.
 */
function surplusOf(
  others: readonly StoredSession[],
  older: Older,
  { maxSessionsPerUser: max = Infinity, onLimit }: ResolvedOptions
): readonly StoredSession[] {
  if (onLimit === 'reject' && others.length >= max) throw new SessionLimitError()
  const candidates = others.filter(({ id }) => older?.has(id) ?? true).sort(newestFirst)
  const room = max - 1 - (others.length - candidates.length)
  if (room < 0) throw new SessionGoneError()
  return candidates.slice(room)
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
