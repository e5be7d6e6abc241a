import { isPromise } from '../awaitable.js'
import type { VerifiedToken } from '../cookies/tokens.js'
import { channels } from '../diagnostics.js'
import type { GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { Awaitable, SessionRecord } from '../types.js'
import { isLive } from './lifetime.js'
import type { FoundSession } from './plan.js'
import type { SessionContext } from './state.js'

/**
 * Finds the session that a request's cookies belong to. `ended`: a cookie is validly signed, but has no live session.
 * `undefined`: no cookie is validly signed.
 */
export type Load = (values: readonly string[]) => Awaitable<FoundSession | 'ended' | undefined>

/**
 * Creates the load function. Every request with a session calls it, so it creates no promise if the store answers
 * synchronously.
 */
export function createLoad({ options, tokens }: SessionContext, store: GuardedStore): Load {
  /** Returns the first live session of the tokens from `index` on. */
  function find(found: readonly VerifiedToken[], index: number): Awaitable<FoundSession | 'ended'> {
    const token = found[index]
    if (token === undefined) return 'ended'
    const record = store.get(token.id)
    return isPromise(record)
      ? record.then((later) => check(token, later) ?? find(found, index + 1))
      : (check(token, record) ?? find(found, index + 1))
  }

  function check(
    { token, id, stale }: VerifiedToken,
    record: SessionRecord | undefined
  ): FoundSession | undefined {
    if (record !== undefined && isRecord(id, record) && isLive(options, record, Date.now())) {
      if (channels.loaded.hasSubscribers) channels.loaded.publish({ id, userId: record.userId })
      // No spread: V8 would give every request an object in dictionary mode.
      return { token, id, stale, record }
    }
    if (channels.expired.hasSubscribers) channels.expired.publish({ id })
    return undefined
  }

  return function load(values) {
    const verified: VerifiedToken[] = []
    for (const value of values) {
      const token = tokens.verify(value)
      if (token !== undefined) verified.push(token)
      else if (channels.malformedCookie.hasSubscribers)
        channels.malformedCookie.publish({ reason: 'signature' })
    }
    return verified.length === 0 ? undefined : find(verified, 0)
  }
}
