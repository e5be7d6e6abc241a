import { isPromise, recover, then, withTimeout } from '../awaitable.js'
import { channels } from '../diagnostics.js'
import { SessionStoreError, SessionUsageError } from '../errors.js'
import type { Awaitable, SessionStore } from '../types.js'

/** A store whose every method is there, and whose every failure is one `SessionStoreError`. */
export type ReportedStore = Required<Omit<SessionStore, 'rotationPrefix' | 'ready'>>

/**
 * The same store, made dependable for its caller: a throw, a rejection or an answer later than `timeout` (ms) becomes
 * a `SessionStoreError` and is published; a method that the store lacks throws `SESSION_STORE_UNSUPPORTED`.
 */
export function reportFailures(store: SessionStore, timeout: number): ReportedStore {
  /** One function for each method, made once: a request makes none. */
  function guard<A extends unknown[], T>(
    operation: string,
    method: (...args: A) => Awaitable<T>
  ): (...args: A) => Awaitable<T> {
    return (...args) => {
      try {
        const answer = method(...args)
        if (!isPromise(answer)) return answer
        return withTimeout(answer, timeout).catch((error: unknown) => fail(operation, error))
      } catch (error) {
        return fail(operation, error)
      }
    }
  }

  return {
    get: guard('get', (id) => store.get(id)),
    create: guard('create', (id, record) => store.create(id, record)),
    update: guard('update', (id, patch) => store.update(id, patch)),
    destroy: guard('destroy', (id) => store.destroy(id)),
    listByUser: store.listByUser ? guard('listByUser', store.listByUser.bind(store)) : lacks('listByUser'),
    destroyByUser: store.destroyByUser
      ? guard('destroyByUser', store.destroyByUser.bind(store))
      : lacks('destroyByUser'),
    // A sweep may take longer than a request may wait.
    cleanup: () =>
      recover(
        () => store.cleanup?.() ?? 0,
        (error) => fail('cleanup', error)
      ),
    close: guard('close', () => store.close?.())
  }
}

/** Ends one session by its id, and says so; `false` when there was none. */
export function end(store: ReportedStore, id: string): Awaitable<boolean> {
  return then(store.destroy(id), (was) => {
    if (was && channels.destroyed.hasSubscribers) channels.destroyed.publish({ id })
    return was
  })
}

function fail(operation: string, error: unknown): never {
  const channel = channels.storeFailure
  if (channel.hasSubscribers) channel.publish({ operation, error })
  throw new SessionStoreError(error)
}

function lacks(method: string): () => never {
  return () => {
    throw new SessionUsageError(
      'SESSION_STORE_UNSUPPORTED',
      `The session store has no ${method}(): it cannot find sessions by user`
    )
  }
}
