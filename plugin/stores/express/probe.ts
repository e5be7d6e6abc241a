import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { SessionOptionError } from '../../errors.js'
import type { SessionRecord } from '../../types.js'
import { NoCallbackError, type Calls, type ExpressSession } from './calls.js'

const MINUTE = 60_000
/** Matches the errors of databases for a text that is longer than its column. */
const TOO_LONG = /too long|too large|truncat|exceed/i

/**
 * Stores, reads and removes a session, because some stores keep only the fields that they know, or short ids.
 * @throws {SessionOptionError} if the store does not return what it was given.
 */
export async function probe(
  calls: Calls,
  sessionOf: (record: SessionRecord) => ExpressSession,
  recordOf: (id: string, stored: unknown) => SessionRecord | undefined
): Promise<void> {
  const id = randomBytes(32).toString('hex')
  const now = Date.now()
  const times = { createdAt: now, lastAccessed: now, expiresAt: now + MINUTE }
  const record: SessionRecord = { version: 1, data: { probe: '"é"' }, ...times, userId: null }
  try {
    await calls.set(id, sessionOf(record))
    const found = recordOf(id, await calls.get(id))
    await calls.destroy(id)
    if (!isDeepStrictEqual(found, record)) throw unable(found === undefined)
    if ((await calls.get(id)) != null)
      throw new SessionOptionError('store', 'does not remove a session on destroy()')
  } catch (error) {
    throw explained(error)
  }
}

function unable(isAbsent: boolean): SessionOptionError {
  return isAbsent
    ? new SessionOptionError(
        'store',
        'does not return a session that it was given: it must keep ids of 64 characters and the field "sesame" of a session'
      )
    : new SessionOptionError('store', 'returns a session with other values than it was given')
}

/** Returns an error that says what is wrong with the store, or the same error if the store may just be unreachable. */
function explained(error: unknown): unknown {
  if (error instanceof NoCallbackError && error.hasResolved)
    return new SessionOptionError(
      'store',
      'returned a promise instead of calling its callback: call the callback too'
    )
  if (error instanceof Error && TOO_LONG.test(error.message))
    return new SessionOptionError(
      'store',
      'cannot hold a session: its column for the id must have room for 64 characters, and its column for the session ' +
        'for any text, such as in "ALTER TABLE sessions ALTER COLUMN sid TYPE varchar(64)"'
    )
  return error
}
