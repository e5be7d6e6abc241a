import type { FastifyReply, FastifyRequest } from 'fastify'
import { channels } from '../diagnostics.js'
import { infoOf, type SessionInfo } from '../session/record.js'
import { Session } from '../session/session.js'
import { liveSessionsOf } from '../session/session-limit.js'
import { endSession, type GuardedStore } from '../stores/guarded.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import type { RequestSessions } from './request-sessions.js'

/** Sessions for code that has no `request.session`: hooks that run before the plugin's, device lists, scheduled jobs. */
export interface SessionManager {
  /** Returns the request's live session, or `undefined` if it has none. Loads it if `onRequest` has not run yet. */
  get(request: AnyRequest): Promise<Session | undefined>

  /** Returns the request's session, or a new, empty one. */
  getOrCreate(request: AnyRequest): Promise<Session>

  /** Writes changes and sets the cookie on the reply. A request commits once: later calls do nothing. */
  save(session: Session, reply: AnyReply): Promise<void>

  /** Ends the session and clears its cookie: a logout. */
  destroy(session: Session, reply: AnyReply): Promise<void>

  /** Removes expired sessions and returns how many. Returns 0 if the database removes them itself. */
  cleanup(): Promise<number>

  /**
   * Returns the live sessions of a user, most recent activity first.
   * @throws {SessionUsageError} `SESSION_STORE_UNSUPPORTED`, as `revokeAll` does, if the store cannot find
   * sessions by user.
   */
  list(userId: string | number): Promise<SessionInfo[]>

  /** Ends one session by its id. Returns `false` if there was none. Requests that use the session can no longer save. */
  revoke(id: string): Promise<boolean>

  /**
   * Ends all of a user's sessions except `except` (a session or its id) and returns how many ended. If you called
   * `regenerate()` in this request, pass the session, not its id: the store still has the old id.
   */
  revokeAll(userId: string | number, options?: { except?: string | Session }): Promise<number>
}

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
    async cleanup() {
      const count = await store.cleanup()
      if (count > 0 && channels.expired.hasSubscribers) channels.expired.publish({ count })
      return count
    },
    async list(userId) {
      const found = await liveSessionsOf(sessions.options, store, String(userId))
      return found.map(({ id, record }) => infoOf(id, record)).sort((a, b) => b.lastAccessed - a.lastAccessed)
    },
    revoke: async (id) => endSession(store, id),
    async revokeAll(userId, { except } = {}) {
      const user = String(userId)
      const kept = except instanceof Session ? Session.stateOf(except).storedId : except
      const count = await store.destroyByUser(user, kept)
      if (count > 0 && channels.destroyed.hasSubscribers) channels.destroyed.publish({ userId: user, count })
      return count
    }
  }
}
