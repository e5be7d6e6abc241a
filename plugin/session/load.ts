import { isPromise } from '../awaitable.js'
import type { Tokens, VerifiedToken } from '../cookies/tokens.js'
import { channels } from '../diagnostics.js'
import type { GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { Awaitable, SessionRecord } from '../types.js'
import { isLive } from './lifetime.js'
import type { FoundSession } from './plan.js'
import type { SessionContext } from './context.js'

/**
 * Returns the session that a request's cookies belong to. Returns `'ended'` if a cookie has a valid signature but no
 * live session, and `undefined` if no cookie has a valid signature.
 */
export type Load = (
  values: readonly string[],
  requestId: string
) => Awaitable<FoundSession | 'ended' | undefined>

/** How many validly signed cookies may cause a store call. Only such cookies count, so that forged ones hide no session. */
const CANDIDATES = 4

/** The returned function runs for every request with a session. It creates a promise only if the store returns one. */
export function createLoad({ options, tokens }: SessionContext, store: GuardedStore): Load {
  /** Tries the tokens in order, starting at `index`. Returns the first live session, or `'ended'` if there is none. */
  function find(
    found: readonly VerifiedToken[],
    index: number,
    requestId: string
  ): Awaitable<FoundSession | 'ended'> {
    const token = found[index]
    if (token === undefined) return 'ended'
    const record = store.get(token.id)
    return isPromise(record)
      ? record.then((later) => check(token, later, requestId) ?? find(found, index + 1, requestId))
      : (check(token, record, requestId) ?? find(found, index + 1, requestId))
  }

  function check(
    { token, id, stale }: VerifiedToken,
    record: SessionRecord | undefined,
    requestId: string
  ): FoundSession | undefined {
    if (record !== undefined && isRecord(id, record) && isLive(options, record, Date.now())) {
      if (channels.loaded.hasSubscribers) channels.loaded.publish({ id, userId: record.userId, requestId })
      // Do not use spread syntax here: V8 would create an object in the slow dictionary mode for every request.
      return { token, id, stale, record }
    }
    if (channels.expired.hasSubscribers) channels.expired.publish({ id, requestId })
    return undefined
  }

  return function load(values, requestId) {
    const verified = verifiedOf(values, tokens)
    return verified.length === 0 ? undefined : find(verified, 0, requestId)
  }
}

function verifiedOf(values: readonly string[], tokens: Tokens): readonly VerifiedToken[] {
  const verified: VerifiedToken[] = []
  for (const value of values) {
    const token = tokens.verify(value)
    if (token !== undefined) verified.push(token)
    else if (channels.malformedCookie.hasSubscribers)
      channels.malformedCookie.publish({ reason: 'signature' })
    if (verified.length === CANDIDATES) break
  }
  return verified
}
