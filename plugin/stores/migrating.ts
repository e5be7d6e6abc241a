import { isPromise, recover, then, withTimeout } from '../awaitable.js'
import type { Awaitable, SessionRecord, SessionStore } from '../types.js'

/**
 * `store`, which takes each session over from `old` when its owner comes back: changing engines logs nobody out.
 * By user it can do what both can, because a `revokeAll` that left the old store alone would end too little.
 * `timeout` (ms): so long others wait for a move; what comes of it later takes its copy back where the session has ended.
 */
export function migrating(store: SessionStore, old: SessionStore, timeout: number): SessionStore {
  /** Looks again where the old store has nothing: a move may have ended between the two looks. */
  const moves = onePerId(timeout, (id) =>
    then(old.get(id), (found) => (found === undefined ? store.get(id) : takeOver(store, old, id, found)))
  )

  return {
    ...(store.rotationPrefix !== undefined && { rotationPrefix: store.rotationPrefix }),
    get: (id) =>
      moves.underWay(id) ?? then(store.get(id), (record) => record ?? moves.underWay(id) ?? moves.start(id)),
    create: (id, record) => store.create(id, record),
    // What a move that failed half-way left in the old store must not outlive the id.
    update: (id, patch) =>
      then(patch.renameTo === undefined ? undefined : old.destroy(id), () => store.update(id, patch)),
    destroy: (id) =>
      then(
        moves.underWay(id)?.then(undefined, () => undefined),
        () => then(old.destroy(id), (was) => then(store.destroy(id), (is) => was || is))
      ),
    ...byUser(store, old),
    cleanup: () => then(old.cleanup?.() ?? 0, (a) => then(store.cleanup?.() ?? 0, (b) => a + b)),
    ready: () => then(store.ready?.(), () => old.ready?.()),
    close: () => then(old.close?.(), () => store.close?.())
  }
}

/**
 * Copies, then destroys. Whoever ends the session destroys in the same order, the old record first: so either the destroy
 * here finds it gone and takes the copy back, or the other one's second destroy meets the copy. Where the destroy here
 * fails, nobody knows which, so the copy goes.
 */
function takeOver(
  store: SessionStore,
  old: SessionStore,
  id: string,
  record: SessionRecord
): Awaitable<SessionRecord | undefined> {
  return then(store.create(id, record), (created) => {
    if (!created) return then(old.destroy(id), () => store.get(id))
    return recover(
      () => then(old.destroy(id), (was) => (was ? store.get(id) : then(store.destroy(id), () => undefined))),
      (error) =>
        then(store.destroy(id), () => {
          throw error
        })
    )
  })
}

/** Whoever asks for an id while work on it is under way waits for that, so that nobody uses a copy before the move is over. */
function onePerId<T>(timeout: number, work: (id: string) => Awaitable<T>) {
  const underWay = new Map<string, PromiseLike<T>>()
  return {
    underWay: (id: string): PromiseLike<T> | undefined => underWay.get(id),
    start(id: string): Awaitable<T> {
      const answer = work(id)
      if (!isPromise(answer)) return answer
      const result = withTimeout(answer, timeout)
      const forget = (): void => void underWay.delete(id)
      underWay.set(id, result)
      result.then(forget, forget)
      return result
    }
  }
}

function byUser(store: SessionStore, old: SessionStore): Pick<SessionStore, 'listByUser' | 'destroyByUser'> {
  const [list, listOld] = [store.listByUser?.bind(store), old.listByUser?.bind(old)]
  const [end, endOld] = [store.destroyByUser?.bind(store), old.destroyByUser?.bind(old)]
  return {
    ...(list &&
      listOld && {
        listByUser: (userId: string) =>
          then(listOld(userId), (before) =>
            then(list(userId), (now) => {
              const moved = new Set(now.map(({ id }) => id))
              return [...before.filter(({ id }) => !moved.has(id)), ...now]
            })
          )
      }),
    ...(end &&
      endOld && {
        destroyByUser: (userId: string, except?: string) =>
          then(endOld(userId, except), (a) => then(end(userId, except), (b) => a + b))
      })
  }
}
