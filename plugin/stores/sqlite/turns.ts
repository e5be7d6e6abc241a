import { setImmediate as nextTurn } from 'node:timers/promises'
import type { StoredSession } from '../../types.js'
import { LISTED } from './sql.js'

/** After this many milliseconds of work, the rest of the process gets a turn of the event loop. */
const TURN = 2

/** Returns a function to await before each step of long work. It yields to the event loop when that is due. */
export function createPace(): () => Promise<void> {
  let end = 0
  return async () => {
    if (performance.now() < end) return
    await nextTurn()
    end = performance.now() + TURN
  }
}

/**
 * Returns the sessions with the ids from `listIds`. Lists the ids again after reading the sessions, because a session
 * that is rotated meanwhile gets another id. The result has the sessions that existed when the ids were last listed.
 */
export async function listInTurns(
  listIds: () => string[],
  read: (ids: string[]) => StoredSession[]
): Promise<StoredSession[]> {
  const found = new Map<string, StoredSession | undefined>()
  const pace = createPace()
  for (;;) {
    await nextTurn()
    const ids = listIds()
    const rest = ids.filter((id) => !found.has(id))
    const isLast = rest.length <= LISTED
    for (let at = 0; at < rest.length; at += LISTED) {
      if (!isLast) await pace()
      const batch = rest.slice(at, at + LISTED)
      for (const id of batch) found.set(id, undefined)
      for (const session of read(batch)) found.set(session.id, session)
    }
    if (!isLast) continue
    const sessions = ids.flatMap((id) => found.get(id) ?? [])
    // The caller’s own work on so many sessions gets another turn.
    await nextTurn()
    return sessions
  }
}
