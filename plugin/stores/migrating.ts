import { isPromise, withTimeout } from '../awaitable.js'
import type { Awaitable, SessionRecord, SessionStore } from '../types.js'

type Found = SessionRecord | undefined

/**
 * Returns a store that uses `store` and moves each session over from `old` when its browser returns, so that changing the
 * store logs nobody out. `listByUser` and `destroyByUser` exist only if both stores have them: revoking in one store only
 * would miss sessions. `timeout`: how long concurrent requests wait for a move, in milliseconds.
 */
export function migratingStore(store: SessionStore, old: SessionStore, timeout: number): SessionStore {
  const moves = createMoves(store, old, timeout)
  return {
    ...(store.rotationPrefix !== undefined && { rotationPrefix: store.rotationPrefix }),
    get(id) {
      const move = moves.running(id)
      if (move !== undefined) return move
      const answer = store.get(id)
      const isFound = answer !== undefined && !isPromise(answer)
      return isFound ? answer : moves.orStart(id, answer)
    },
    create: (id, record) => store.create(id, record),
    async update(id, patch) {
      // A move that failed half-way may have left the old record, which must not survive the rotation.
      if (patch.renameTo !== undefined) await old.destroy(id)
      return store.update(id, patch)
    },
    async destroy(id) {
      await moves.running(id)?.catch(() => undefined)
      const wasOld = await old.destroy(id)
      return (await store.destroy(id)) || wasOld
    },
    ...byUser(store, old),
    cleanup: async () => ((await old.cleanup?.()) ?? 0) + ((await store.cleanup?.()) ?? 0),
    async ready() {
      await store.ready?.()
      await old.ready?.()
    },
    async close() {
      await old.close?.()
      await store.close?.()
    }
  }
}

/** Moves sessions. Concurrent callers share the move of a session, so that nobody uses a copy before it is finished. */
function createMoves(store: SessionStore, old: SessionStore, timeout: number) {
  const moves = new Map<string, Promise<Found>>()

  function start(id: string): Promise<Found> {
    const move = withTimeout(takeOver(store, old, id), timeout).finally(() => moves.delete(id))
    moves.set(id, move)
    return move
  }

  return {
    running: (id: string): Promise<Found> | undefined => moves.get(id),
    /** Returns the record in `answer`, or moves the session if the new store does not have it. */
    orStart: async (id: string, answer: Awaitable<Found>): Promise<Found> =>
      (await answer) ?? moves.get(id) ?? start(id)
  }
}

/**
 * Copies a session, then deletes the old record. A logout also deletes the old record first, then the new one. So either
 * the delete here finds nothing and the copy is removed again, or the second delete of the logout finds the copy. If the
 * delete here fails, either may have happened, so the copy is removed.
 */
async function takeOver(store: SessionStore, old: SessionStore, id: string): Promise<Found> {
  const record = await old.get(id)
  // Another process may have moved the session since the new store was asked.
  if (record === undefined) return store.get(id)
  // Another process is moving it. Only that process may delete the old record: if its delete found nothing, it would take
  // this for a logout.
  if (!(await store.create(id, record))) return store.get(id)
  try {
    if (await old.destroy(id)) return await store.get(id)
  } catch (error) {
    await store.destroy(id)
    throw error
  }
  await store.destroy(id)
  return undefined
}

function byUser(store: SessionStore, old: SessionStore): Pick<SessionStore, 'listByUser' | 'destroyByUser'> {
  const [list, listOld] = [store.listByUser?.bind(store), old.listByUser?.bind(old)]
  const [end, endOld] = [store.destroyByUser?.bind(store), old.destroyByUser?.bind(old)]
  return {
    ...(list &&
      listOld && {
        async listByUser(userId: string) {
          const before = await listOld(userId)
          const now = await list(userId)
          const moved = new Set(now.map(({ id }) => id))
          return [...before.filter(({ id }) => !moved.has(id)), ...now]
        }
      }),
    ...(end &&
      endOld && {
        destroyByUser: async (userId: string, except?: string) =>
          (await endOld(userId, except)) + (await end(userId, except))
      })
  }
}
