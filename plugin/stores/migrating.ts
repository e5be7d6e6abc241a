import { isPromise, withTimeout } from '../awaitable.js'
import type { Awaitable, SessionRecord, SessionStore } from '../types.js'
import { withoutValues } from './driver-error.js'

type Found = SessionRecord | undefined

/**
 * Returns a store that uses `store`, and moves each session from `old` to `store` at the session's next request, so
 * that changing the store logs nobody out. `listByUser` and `destroyByUser` exist only if both stores have them,
 * because one store alone would miss sessions. `timeout` is how long a request waits for a move, in milliseconds.
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
      if (patch.renameTo !== undefined) {
        // A move that is still running would take a missing record in `old` for a logout, and remove the copy.
        await moves.running(id)?.catch(() => undefined)
        // If moving the session failed half-way, its record in `old` may still exist. The old id must not stay valid.
        await old.destroy(id)
      }
      return store.update(id, patch)
    },
    async destroy(id) {
      await moves.running(id)?.catch(() => undefined)
      const wasOld = await old.destroy(id)
      return (await store.destroy(id)) || wasOld
    },
    ...byUser(store, old),
    cleanup: async (signal) => ((await old.cleanup?.(signal)) ?? 0) + ((await store.cleanup?.(signal)) ?? 0),
    ready: async () => [...((await store.ready?.()) ?? []), ...((await old.ready?.()) ?? [])]
  }
}

/** Concurrent requests for a session wait for the same move, so that no request uses the copy before the move ends. */
function createMoves(store: SessionStore, old: SessionStore, timeout: number) {
  const moves = new Map<string, Promise<Found>>()

  function start(id: string): Promise<Found> {
    const move = withTimeout(takeOver(store, old, id), timeout).finally(() => moves.delete(id))
    moves.set(id, move)
    return move
  }

  return {
    running: (id: string): Promise<Found> | undefined => moves.get(id),
    orStart: async (id: string, answer: Awaitable<Found>): Promise<Found> =>
      (await answer) ?? moves.get(id) ?? start(id)
  }
}

/**
 * Copies a session to the new store, then deletes the old record. A concurrent logout deletes the old record, then the
 * copy. If the logout comes first, this function finds no old record to delete and removes the copy. Otherwise the
 * logout removes it. If deleting the old record fails, the order is unknown, so this function also removes the copy.
 */
async function takeOver(store: SessionStore, old: SessionStore, id: string): Promise<Found> {
  const record = await old.get(id)
  // Another process may have moved the session after the new store was read.
  if (record === undefined) return store.get(id)
  // If the id is taken, another process is moving the session. Only that process is allowed to delete the old record.
  // If that process found no record to delete, it would assume that the user has logged out.
  if (!(await copyTo(store, id, record))) return store.get(id)
  try {
    if (await old.destroy(id)) return await store.get(id)
  } catch (error) {
    await store.destroy(id)
    throw error
  }
  await store.destroy(id)
  return undefined
}

/** The caller asked only for an id, so it does not know which values an error must not contain. */
async function copyTo(store: SessionStore, id: string, record: SessionRecord): Promise<boolean> {
  try {
    return await store.create(id, record)
  } catch (error) {
    throw withoutValues(error, [record.data, record.userId])
  }
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
