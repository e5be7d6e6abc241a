import { channel } from 'node:diagnostics_channel'

/**
 * `node:diagnostics_channel` channels, each named `fastify-sesame:<key>`. Messages carry ids, never tokens.
 * Publish behind `hasSubscribers`, so that nothing is built when nobody listens.
 */
export const channels = {
  /** `{ id, userId }`: a record was made. */
  created: channel('fastify-sesame:created'),
  /** `{ id, userId }`: a request's cookie led to a live session. */
  loaded: channel('fastify-sesame:loaded'),
  /** `{ id }`: a change or a touch was written. */
  saved: channel('fastify-sesame:saved'),
  /** `{ id, previousId }`: the record moved to a new id. */
  rotated: channel('fastify-sesame:rotated'),
  /** `{ id }`, or `{ userId, count }` of `revokeAll`: ended by a logout or a revocation. */
  destroyed: channel('fastify-sesame:destroyed'),
  /** `{ id }`: a validly signed cookie whose session is over; `{ count }`: a sweep removed that many. */
  expired: channel('fastify-sesame:expired'),
  /** `{ id }`: a commit found its session ended by somebody else. */
  gone: channel('fastify-sesame:gone'),
  /** `{ id, attempt }`: somebody wrote in between; `update` functions run again. */
  conflict: channel('fastify-sesame:conflict'),
  /** `{ id }`: the memory store was full and dropped its least recently used session. */
  evicted: channel('fastify-sesame:evicted'),
  /** `{ reason }`: a session cookie was malformed or its signature wrong. */
  malformedCookie: channel('fastify-sesame:malformed-cookie'),
  /** `{ id, key?, reason }`: a record, or one value of it, is not one that this library wrote. */
  invalidRecord: channel('fastify-sesame:invalid-record'),
  /** `{ reason, method, url }`: a request was refused as forged. The url comes without its query. */
  csrfRefused: channel('fastify-sesame:csrf-refused'),
  /** `{ operation, error }`: the store failed or timed out. */
  storeFailure: channel('fastify-sesame:store-failure')
} as const
