import { recover, then } from '../awaitable.js'
import { SessionGoneError, SessionLimitError, SessionStoreError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { isLive } from './plan.js'
import { end, type ReportedStore } from '../stores/guarded.js'
import type { Awaitable, StoredSession } from '../types.js'

/** Keeps the number of a user's sessions within `maxSessionsPerUser`. Asks the store only when somebody signs in. */
export interface SessionLimit {
  /** Before a session of the user is written. @throws {SessionLimitError} with `onLimit: 'reject'`, when there is no room. */
  before(userId: string | null | undefined, id: string): Awaitable<void>
  /** After it was written: sign-ins that came at the same moment all count the same sessions, and end the same ones. */
  after(userId: string | null | undefined, id: string): Awaitable<void>
}

const NO_LIMIT: SessionLimit = { before: () => undefined, after: () => undefined }

export function createLimit(options: ResolvedOptions, store: ReportedStore): SessionLimit {
  const { maxSessionsPerUser: most, onLimit } = options
  if (most === undefined) return NO_LIMIT
  const rejects = onLimit === 'reject'

  const liveOf = (userId: string): Awaitable<StoredSession[]> =>
    then(store.listByUser(userId), (sessions) =>
      sessions.filter(({ id, record }) => isLive(options, id, record))
    )

  function endSurplus(sessions: StoredSession[], own: string): Awaitable<void> {
    const surplus = sessions.sort(rejects ? oldestFirst : newestFirst).slice(most)
    const ended = surplus.reduce<Awaitable<unknown>>(
      (before, { id }) => then(before, () => end(store, id)),
      undefined
    )
    return then(ended, () => {
      if (surplus.some(({ id }) => id === own))
        throw rejects ? new SessionLimitError() : new SessionGoneError()
    })
  }

  return {
    before(userId, own) {
      if (userId == null || !rejects) return undefined
      return then(liveOf(userId), (sessions) => {
        if (sessions.filter(({ id }) => id !== own).length >= most) throw new SessionLimitError()
      })
    },
    after(userId, own) {
      if (userId == null) return undefined
      return recover(
        () => then(liveOf(userId), (sessions) => endSurplus(sessions, own)),
        (error) => giveUp(store, own, error)
      )
    }
  }
}

/** The answer will be an error, without a cookie: the session would take the place of the next sign-in's. */
function giveUp(store: ReportedStore, own: string, error: unknown): Awaitable<void> {
  const rethrow = (): never => {
    throw error
  }
  if (!(error instanceof SessionStoreError)) return rethrow()
  return recover(() => then(end(store, own), rethrow), rethrow)
}

/** By the last write, which of a session that has just signed in is now; among equals by id, the same for everybody. */
function newestFirst(a: StoredSession, b: StoredSession): number {
  return b.record.lastAccessed - a.record.lastAccessed || (a.id < b.id ? -1 : 1)
}

/** By creation or rotation, which a sign-in is: whoever is signed in already and writes meanwhile stays. */
function oldestFirst(a: StoredSession, b: StoredSession): number {
  return a.record.createdAt - b.record.createdAt || newestFirst(b, a)
}
