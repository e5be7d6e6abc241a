import type { ResolvedOptions } from '../options/resolve.js'
import type { VerifiedToken } from '../cookies/tokens.js'
import type { SessionPatch, SessionRecord } from '../types.js'
import { emptyTexts, isEmpty, type Difference } from './changes.js'
import { expiryOf, isTouchDue } from './lifetime.js'

/** A stored session, as the request loaded it. */
export interface FoundSession extends Omit<VerifiedToken, 'value'> {
  readonly record: SessionRecord
}

/** The state of a session at the end of a request. */
export interface Outcome {
  readonly options: Pick<ResolvedOptions, 'maxAge' | 'idleTimeout' | 'userKey' | 'cookie'>
  /** The session as it was loaded, or `undefined` for a new session. */
  readonly found: FoundSession | undefined
  /** The id of the session that `invalidate()` has ended, if any. */
  readonly ended: string | undefined
  /** True if `regenerate()` has been called on a stored session. */
  readonly rotated: boolean
  readonly createdAt: number
  readonly difference: Difference | undefined
  /** The user id in the changed data, or `null` if there is none. */
  readonly userId: string | null
  /** True if the status code of the reply is 5xx. */
  readonly failed: boolean
}

/** The token and id of the session after the write. */
export interface Ids {
  readonly token: string
  readonly id: string
}

/** The session cookie to send: its token and the time at which the session ends. */
export interface PlannedCookie {
  readonly token: string
  readonly expiresAt: number
}

export interface CreatePlan {
  readonly kind: 'create'
  readonly id: string
  readonly record: SessionRecord
  readonly cookie: PlannedCookie
}

export interface UpdatePlan {
  readonly kind: 'update'
  readonly id: string
  readonly patch: SessionPatch
  /** True if the client must receive an error when this write is impossible because the session has already ended. */
  readonly lossy: boolean
  readonly cookie: PlannedCookie | undefined
}

export interface DestroyPlan {
  readonly kind: 'destroy'
  readonly id: string
  /** The new session, if data was set after `invalidate()` was called. */
  readonly next: CreatePlan | undefined
}

export type Plan = CreatePlan | UpdatePlan | DestroyPlan

/** The key of the CSRF secret in the session data. */
export const CSRF_KEY = '$csrf'

const NO_DIFFERENCE: Difference = { set: emptyTexts(), remove: [], clear: false, versioned: false }

/**
 * Returns the write that a request needs, or `undefined` if it needs none. This is a pure function. If the session is
 * new or was regenerated, `ids` holds a new token and id. Otherwise, it holds those of the loaded session.
 */
export function plan(outcome: Outcome, now: number, ids: Ids): Plan | undefined {
  const { ended, failed, found } = outcome
  if (ended !== undefined)
    return { kind: 'destroy', id: ended, next: failed ? undefined : planCreate(outcome, now, ids) }
  if (failed) return undefined
  return found === undefined ? planCreate(outcome, now, ids) : planUpdate(outcome, found, now, ids)
}

function planCreate(outcome: Outcome, now: number, { token, id }: Ids): CreatePlan | undefined {
  const { options, difference, createdAt, userId } = outcome
  if (difference === undefined || isEmpty(difference.set)) return undefined
  const expiresAt = expiryOf(options, createdAt, now)
  const record = { version: 1, data: difference.set, createdAt, lastAccessed: now, expiresAt, userId }
  return { kind: 'create', id, record, cookie: { token, expiresAt } }
}

function planUpdate(outcome: Outcome, found: FoundSession, now: number, ids: Ids): UpdatePlan | undefined {
  const { options, difference, rotated, createdAt } = outcome
  const isChanged = difference !== undefined || rotated || found.stale
  if (!isChanged && !isTouchDue(options, found.record, now)) return undefined
  const expiresAt = expiryOf(options, createdAt, now)
  return {
    kind: 'update',
    id: found.id,
    patch: patchOf(outcome, found.record, now, ids),
    lossy: rotated || (difference !== undefined && !isEmpty(difference.set)),
    cookie: needsCookie(outcome, found, expiresAt) ? { token: ids.token, expiresAt } : undefined
  }
}

/**
 * Returns true if the session cookie has to be sent. A cookie that was signed with an older secret is not replaced
 * until the session has been written to the store, because the write shows whether the session still exists.
 */
function needsCookie({ options, rotated }: Outcome, found: FoundSession, expiresAt: number): boolean {
  return rotated || found.stale || (options.cookie.persistent && expiresAt !== found.record.expiresAt)
}

function patchOf(outcome: Outcome, record: SessionRecord, now: number, { id }: Ids): SessionPatch {
  const { options, rotated, createdAt, userId } = outcome
  const difference = outcome.difference ?? NO_DIFFERENCE
  const { set, remove, clear, versioned } = difference
  const userMayDiffer = clear || changesKey(options.userKey, difference)
  // Remove the CSRF secret even if the loaded session has none. Another request may have created a secret in the
  // meantime, and that secret must not survive a change of the session id.
  const dropsSecret = rotated && !changesKey(CSRF_KEY, difference)
  return {
    set,
    remove: dropsSecret ? [...remove, CSRF_KEY] : remove,
    lastAccessed: now,
    expiresAt: expiryOf(options, createdAt, now),
    ...(clear && { clear }),
    ...(versioned && { ifVersion: record.version }),
    ...(userMayDiffer && { userId }),
    ...(rotated && { createdAt, renameTo: id })
  }
}

function changesKey(key: string, { set, remove }: Difference): boolean {
  return Object.hasOwn(set, key) || remove.includes(key)
}
