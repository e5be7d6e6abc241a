import { channel, type Channel } from 'node:diagnostics_channel'
import type { EndReason } from './types.js'

/** A channel of `node:diagnostics_channel`, with a TypeScript type for its messages. */
export interface SessionChannel<Message> extends Pick<Channel, 'name' | 'hasSubscribers'> {
  publish(message: Message): void
  subscribe(listener: (message: Message, name: string | symbol) => void): void
  unsubscribe(listener: (message: Message, name: string | symbol) => void): void
}

/** Why a request failed the CSRF checks. The last three are about its origin, the others about its token. */
export type CsrfReason =
  'token-missing' | 'token-wrong' | 'body-not-parsed' | 'sec-fetch-site' | 'origin' | 'origin-null'

/**
 * The diagnostics channels of the library. Each channel is named `fastify-sesame:<name>`. Messages contain session ids,
 * never tokens.
 * Check `hasSubscribers` before building a message, so that no time is spent on a message that nobody receives.
 */
export const channels = {
  /** `{ id, userId, requestId }`: a session was stored for the first time. */
  created: typed<{ id: string; userId: string | null; requestId: string }>('fastify-sesame:created'),
  /** `{ id, userId, cookieName, requestId }`: a session of another library became a session of this one. */
  migrated: typed<{ id: string; userId: string | null; cookieName: string; requestId: string }>(
    'fastify-sesame:migrated'
  ),
  /** `{ id, userId, requestId }`: a request's cookie belongs to a live session. */
  loaded: typed<{ id: string; userId: string | null; requestId: string }>('fastify-sesame:loaded'),
  /** `{ id, requestId }`: changes to a session were written to the store, or only its last access time. */
  saved: typed<{ id: string; requestId: string }>('fastify-sesame:saved'),
  /** `{ id, previousId, requestId }`: a session received a new id. */
  rotated: typed<{ id: string; previousId: string; requestId: string }>('fastify-sesame:rotated'),
  /** `{ id, reason, requestId? }`: a session ended: `'invalidated'` (logout), `'revoked'` (manager) or `'limit'`. */
  destroyed: typed<{ id: string; reason: EndReason; requestId?: string }>('fastify-sesame:destroyed'),
  /** `{ id, requestId }`: a correctly signed cookie has no live session. `{ count }`: a sweep removed `count` expired sessions. */
  expired: typed<{ id: string; requestId: string } | { count: number }>('fastify-sesame:expired'),
  /** `{ id, requestId }`: a session ended before its changes could be written. */
  gone: typed<{ id: string; requestId: string }>('fastify-sesame:gone'),
  /** `{ id, attempt, requestId }`: another request changed the session, so the write and its `update` functions are retried. */
  conflict: typed<{ id: string; attempt: number; requestId: string }>('fastify-sesame:conflict'),
  /** `{ id }`: the memory store was full and evicted a session that had not been used recently. */
  evicted: typed<{ id: string }>('fastify-sesame:evicted'),
  /** `{ reason }`: a session cookie is malformed or its signature is wrong. */
  malformedCookie: typed<{ reason: string }>('fastify-sesame:malformed-cookie'),
  /** `{ id, key?, reason }`: a stored record, or its value at `key`, is malformed. */
  invalidRecord: typed<{ id: string; key?: string; reason: string }>('fastify-sesame:invalid-record'),
  /** `{ reason, method, url }`: a request failed a CSRF check. The URL has no query string. */
  csrfRefused: typed<{ reason: CsrfReason; method: string; url: string }>('fastify-sesame:csrf-refused'),
  /** `{ operation, error }`: a store method failed or timed out. The error contains no values of the session. */
  storeFailure: typed<{ operation: string; error: Error }>('fastify-sesame:store-failure')
} as const

/** The type of the messages on each channel, by the channel's key in `channels`. */
export type ChannelMessages = {
  [Name in keyof typeof channels]: (typeof channels)[Name] extends SessionChannel<infer Message>
    ? Message
    : never
}

function typed<Message>(name: string): SessionChannel<Message> {
  return channel(name) as SessionChannel<Message>
}
