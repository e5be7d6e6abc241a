import { isPromise, then, withTimeout } from '../awaitable.js'
import { channels } from '../diagnostics.js'
import { SessionStoreError, SessionUsageError } from '../errors.js'
import type { Awaitable, EndReason, SessionStore } from '../types.js'
import { withoutValues } from './driver-error.js'

/** A store that has every optional method. If its backend fails, each method fails with a `SessionStoreError`. */
export type GuardedStore = Required<Omit<SessionStore, 'rotationPrefix' | 'ready' | 'close'>>

/**
 * Wraps a store so that it always fails in the same way. If a method throws, rejects or takes longer than `timeout`
 * (in milliseconds), the failure is published and becomes a `SessionStoreError`. Both show the error without the values
 * of the session. If the store has no `listByUser` or `destroyByUser`, calling it throws `SESSION_STORE_UNSUPPORTED`.
 * Synchronous methods stay synchronous.
 */
export function guardStore(store: SessionStore, timeout: number): GuardedStore {
  const guard = createGuard(timeout)
  return {
    get: guard('get', (id) => store.get(id)),
    create: guard(
      'create',
      (id, record) => store.create(id, record),
      (_id, { data, userId }) => [data, userId]
    ),
    update: guard(
      'update',
      (id, patch) => store.update(id, patch),
      (_id, { set, userId }) => [set, userId]
    ),
    destroy: guard('destroy', (id) => store.destroy(id)),
    listByUser: store.listByUser
      ? guard('listByUser', store.listByUser.bind(store), (userId) => userId)
      : unsupported('listByUser'),
    destroyByUser: store.destroyByUser
      ? guard('destroyByUser', store.destroyByUser.bind(store), (userId) => userId)
      : unsupported('destroyByUser'),
    // A sweep has no timeout, because it may take longer than a request is allowed to wait.
    async cleanup(signal) {
      try {
        return (await store.cleanup?.(signal)) ?? 0
      } catch (error) {
        return fail('cleanup', error)
      }
    }
  }
}

type Guard = <A extends unknown[], T>(
  operation: string,
  method: (...args: A) => Awaitable<T>,
  /** Returns the values among the arguments that an error must not contain. By default, there are none. */
  valuesIn?: (...args: A) => unknown
) => (...args: A) => Awaitable<T>

function createGuard(timeout: number): Guard {
  return (operation, method, valuesIn) =>
    (...args) => {
      try {
        const answer = method(...args)
        if (!isPromise(answer)) return answer
        return withTimeout(answer, timeout).catch((error: unknown) =>
          fail(operation, error, valuesIn?.(...args))
        )
      } catch (error) {
        return fail(operation, error, valuesIn?.(...args))
      }
    }
}

/** Ends the session `id` and publishes this on `destroyed`. Returns `false` if the session does not exist. */
export function endSession(
  store: GuardedStore,
  id: string,
  why: { readonly reason: EndReason; readonly requestId?: string }
): Awaitable<boolean> {
  return then(store.destroy(id), (existed) => {
    if (existed && channels.destroyed.hasSubscribers) channels.destroyed.publish({ id, ...why })
    return existed
  })
}

function fail(operation: string, error: unknown, values?: unknown): never {
  const cause = withoutValues(error, values)
  const channel = channels.storeFailure
  if (channel.hasSubscribers) channel.publish({ operation, error: cause })
  throw new SessionStoreError(cause)
}

function unsupported(method: string): () => never {
  return () => {
    throw new SessionUsageError(
      'SESSION_STORE_UNSUPPORTED',
      `The session store has no ${method}(): it cannot find sessions by user`
    )
  }
}
