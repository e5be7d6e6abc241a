import type { FastifyReply, FastifyRequest } from 'fastify'
import { mapInSlices } from '../awaitable.js'
import { channels } from '../diagnostics.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { anything, checkOptions } from '../rules.js'
import { ownOptions } from '../own-options.js'
import {
  infoOf,
  infoWithDataOf,
  userIdOf,
  type SessionInfo,
  type SessionInfoWithData
} from '../session/record.js'
import { Session } from '../session/session.js'
import { liveSessionsOf } from '../session/session-limit.js'
import { endSession, type GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { SessionProperties } from '../types.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import type { RequestSessions } from './request-sessions.js'

/** Gives access to sessions where `request.session` cannot be used: in early hooks, device lists or scheduled jobs. */
export interface SessionManager {
  /** Returns the request's live session, or `undefined` if it has none. Loads the session if it is not yet loaded. */
  get(request: AnyRequest): Promise<(Session & SessionProperties) | undefined>

  /** Returns the session of a request. If the request has none, returns a new, empty session. */
  getOrCreate(request: AnyRequest): Promise<Session & SessionProperties>

  /** Writes the session's changes and sets its cookie on the reply. Only the first call in a request has an effect. */
  save(session: Session, reply: AnyReply): Promise<void>

  /** Ends the session and clears its cookie, as a logout does. */
  destroy(session: Session, reply: AnyReply): Promise<void>

  /**
   * Removes expired sessions and returns their number. Returns 0 if the database removes expired sessions itself. Stops
   * early once `signal` aborts.
   */
  cleanup(signal?: AbortSignal): Promise<number>

  /**
   * Returns the live sessions of a user, starting with the most recently used session. With `data: true`, each comes
   * with its data. Do not send that to a browser as it is.
   * @throws {SessionUsageError} `SESSION_STORE_UNSUPPORTED`, as `revokeAll` does, if the store cannot search by user.
   */
  list(userId: string | number, options?: { data?: false }): Promise<SessionInfo[]>
  list(userId: string | number, options: { data: true }): Promise<SessionInfoWithData[]>

  /**
   * Ends a session, so that requests that use it can no longer save changes. Returns `false` if it does not exist.
   * `userId` protects other users: the session of another user is not ended, and `false` is returned. So is every
   * session if `userId` is `undefined`, because a request without a user has no sessions.
   * @throws {SessionOptionError} if an option is unknown.
   */
  revoke(id: string, options?: { userId?: string | number }): Promise<boolean>

  /**
   * Ends all sessions of a user and returns how many ended. `except` is a session to keep, or its id. If you have
   * called `regenerate()` in this request, pass the session and not its id, because the store still has the old id.
   */
  revokeAll(userId: string | number, options?: { except?: string | Session }): Promise<number>
}

/** How often a revocation lists the sessions of a user who signs in again and again. */
const MOST_PASSES = 5

export function createSessionManager(sessions: RequestSessions, store: GuardedStore): SessionManager {
  async function save(session: Session, reply: AnyReply): Promise<void> {
    await sessions.save(session, reply as FastifyReply)
  }

  return {
    async get(request) {
      await sessions.load(request as FastifyRequest)
      const state = sessions.stateOf(request as FastifyRequest)
      state.used = true
      return state.session?.isNew === false ? state.session : undefined
    },
    async getOrCreate(request) {
      await sessions.load(request as FastifyRequest)
      return sessions.open(request as FastifyRequest)
    },
    save,
    async destroy(session, reply) {
      session.invalidate()
      await save(session, reply)
    },
    async cleanup(signal) {
      const count = await store.cleanup(signal)
      if (count > 0 && channels.expired.hasSubscribers) channels.expired.publish({ count })
      return count
    },
    list: createList(sessions.options, store),
    async revoke(id, options = {}) {
      checkOptions(options, { userId: anything }, 'revoke.')
      // A session only changes its user together with its id, so this check holds until the session is destroyed.
      if (Object.hasOwn(options, 'userId') && !(await belongsTo(store, id, options.userId))) return false
      return endSession(store, id, { reason: 'revoked' })
    },
    revokeAll: (userId, options) => {
      const { except } = ownOptions(options)
      const kept = except instanceof Session ? Session.stateOf(except).storedId : except
      return revokeAll(sessions.options, store, String(userId), kept)
    }
  }
}

function createList(options: ResolvedOptions, store: GuardedStore): SessionManager['list'] {
  async function list(userId: string | number, given?: { data?: boolean }): Promise<SessionInfo[]> {
    const { data = false } = ownOptions(given)
    const found = await liveSessionsOf(options, store, String(userId))
    const describe = data ? infoWithDataOf : infoOf
    const infos = await mapInSlices(found, ({ id, record }) => describe(id, record))
    return infos.sort((a, b) => b.lastAccessed - a.lastAccessed)
  }
  return list as SessionManager['list']
}

async function belongsTo(store: GuardedStore, id: string, userId: unknown): Promise<boolean> {
  const user = userIdOf(userId)
  const record = user === null ? undefined : await store.get(id)
  return record !== undefined && isRecord(id, record) && record.userId === user
}

async function revokeAll(
  options: ResolvedOptions,
  store: GuardedStore,
  userId: string,
  kept: string | undefined
): Promise<number> {
  const isHeard = channels.destroyed.hasSubscribers && options.store.listByUser !== undefined
  const count = isHeard ? await revokeEach(store, userId, kept) : 0
  return count + (await store.destroyByUser(userId, kept))
}

/**
 * Ends the sessions of a user one by one, because `destroyByUser` does not say which sessions it ends, and each has to
 * be published exactly once. Lists them again until none is left: some may have been created or rotated meanwhile.
 */
async function revokeEach(store: GuardedStore, userId: string, kept: string | undefined): Promise<number> {
  let count = 0
  for (let pass = 0; pass < MOST_PASSES; pass++) {
    const others = (await store.listByUser(userId)).filter(({ id }) => id !== kept)
    if (others.length === 0) break
    const ended = await mapInSlices(others, ({ id }) => endSession(store, id, { reason: 'revoked' }))
    count += ended.filter(Boolean).length
  }
  return count
}
