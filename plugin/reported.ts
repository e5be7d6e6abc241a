import { isPromise, recover, then, withTimeout } from './awaitable.js'
import { channels } from './diagnostics.js'
import { SessionStoreError, SessionUsageError } from './errors.js'
import type { Awaitable, SessionStore } from './types.js'

/** A store whose every method is there, and whose every failure is one `SessionStoreError`. */
export type ReportedStore = Required<Omit<SessionStore, 'rotationPrefix' | 'ready'>>

/**
 * The same store, made dependable for its caller: a throw, a rejection or an answer later than `timeout` (ms) becomes
 * a `SessionStoreError` and is published; a method that the store lacks throws `SESSION_STORE_UNSUPPORTED`.
 */
export function reportFailures(store: SessionStore, timeout: number): ReportedStore {
  const call = <T>(operation: string, work: () => Awaitable<T>): Awaitable<T> => {
    const timed = (): Awaitable<T> => {
      const answer = work()
      return isPromise(answer) ? withTimeout(answer, timeout) : answer
    }
    return recover(timed, (error) => fail(operation, error))
  }
  return {
    get: (id) => call('get', () => store.get(id)),
    create: (id, record) => call('create', () => store.create(id, record)),
    update: (id, patch) => call('update', () => store.update(id, patch)),
    destroy: (id) => call('destroy', () => store.destroy(id)),
    listByUser: (userId) => {
      if (store.listByUser === undefined) throw lacks('listByUser')
      const list = store.listByUser.bind(store)
      return call('listByUser', () => list(userId))
    },
    destroyByUser: (userId, except) => {
      if (store.destroyByUser === undefined) throw lacks('destroyByUser')
      const destroy = store.destroyByUser.bind(store)
      return call('destroyByUser', () => destroy(userId, except))
    },
    // A sweep may take longer than a request may wait.
    cleanup: () => store.cleanup?.() ?? 0,
    close: () => call('close', () => store.close?.())
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

function lacks(method: string): SessionUsageError {
  return new SessionUsageError(
    'SESSION_STORE_UNSUPPORTED',
    `The session store has no ${method}(): it cannot find sessions by user`
  )
}
