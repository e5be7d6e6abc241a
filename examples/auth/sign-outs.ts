import type { FastifyInstance, FastifyRequest } from 'fastify'
import { channels, type ChannelMessages, type Session } from 'fastify-sesame'

const HOUR = 3_600_000
const MAX_REASONS = 1000

/** Ends sessions, and remembers for a while why each was ended, so that its device can be told. */
export interface SignOuts {
  /** Ends one session of the user. Returns false if the user has no such session. */
  end(id: string, userId: string, reason: string): Promise<boolean>
  /** Ends all sessions of the user except `except`, and returns how many. */
  endAll(userId: string, reason: string, except: Session): Promise<number>
  /** Returns why the session of a request was ended, or `undefined`. Each reason is returned only once. */
  takeReason(request: FastifyRequest): string | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    signOuts: SignOuts
  }
}

/** Adds `app.signOuts`. The reasons are in memory: with several processes, keep them in the database instead. */
export function addSignOuts(app: FastifyInstance): void {
  const { sessionManager } = app
  const reasons = new Map<string, { text: string; until: number }>()
  /** The id of the ended session of each request that is running. */
  const endedIds = new Map<string, string>()

  function remember(id: string, text: string): void {
    reasons.set(id, { text, until: Date.now() + HOUR })
    const [oldest] = reasons.keys()
    if (reasons.size > MAX_REASONS && oldest !== undefined) reasons.delete(oldest)
  }

  // A request whose session has ended has a new session with another id. Only this channel says which one has ended.
  function onExpired(message: ChannelMessages['expired']): void {
    if ('id' in message && reasons.has(message.id)) endedIds.set(message.requestId, message.id)
  }
  channels.expired.subscribe(onExpired)
  app.addHook('onClose', async () => channels.expired.unsubscribe(onExpired))
  app.addHook('onResponse', async ({ id }) => void endedIds.delete(id))

  app.decorate('signOuts', {
    async end(id, userId, reason) {
      // With `userId`, nobody can end the session of another user, or find out whether it exists.
      const isEnded = await sessionManager.revoke(id, { userId })
      if (isEnded) remember(id, reason)
      return isEnded
    },
    async endAll(userId, reason, except) {
      const list = await sessionManager.list(userId)
      const count = await sessionManager.revokeAll(userId, { except })
      for (const { id } of list) if (id !== except.id) remember(id, reason)
      return count
    },
    takeReason({ id: requestId }) {
      const id = endedIds.get(requestId) ?? ''
      const reason = reasons.get(id)
      reasons.delete(id)
      return reason !== undefined && Date.now() < reason.until ? reason.text : undefined
    }
  })
}

/** Describes the device of a session, such as `Firefox on Linux, 192.0.2.1`. */
export function deviceOf(session: Session): string {
  return `${session.get('browser') ?? 'Unknown browser'}, ${session.get('address') ?? 'unknown address'}`
}
