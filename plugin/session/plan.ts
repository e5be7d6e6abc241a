import type { ResolvedOptions } from '../options/resolve.js'
import type { VerifiedToken } from '../cookies/tokens.js'
import type { SessionPatch, SessionRecord } from '../types.js'
import { emptyTexts, isEmpty, type Difference } from './changes.js'
import { expiryOf, isTouchDue } from './lifetime.js'

/** A stored session, as the request loaded it. */
export interface FoundSession extends Omit<VerifiedToken, 'value'> {
  readonly record: SessionRecord
}

/** A session at the end of its request. */
export interface Outcome {
  readonly options: Pick<ResolvedOptions, 'maxAge' | 'idleTimeout' | 'userKey' | 'cookie'>
  /** Absent for a new session. */
  readonly found: FoundSession | undefined
  /** The id of the session that `invalidate()` ended. */
  readonly ended: string | undefined
  /** True if `regenerate()` gives the found session a new id. */
  readonly rotated: boolean
  readonly createdAt: number
  readonly difference: Difference | undefined
  /** The user in the data after the changes, or `null`. */
  readonly userId: string | null
  /** True if the reply is a 5xx. */
  readonly failed: boolean
}

/** The token and id that the session has from now on. */
export interface Ids {
  readonly token: string
  readonly id: string
}

/** The session cookie to send: its token, and when the session ends. */
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
  /** True if the client has to get an error when the session has ended and the change is lost. */
  readonly lossy: boolean
  readonly cookie: PlannedCookie | undefined
}

export interface DestroyPlan {
  readonly kind: 'destroy'
  readonly id: string
  /** The new session with the data that was set after `invalidate()`. */
  readonly next: CreatePlan | undefined
}

/** The write that a request asks of the store. */
export type Plan = CreatePlan | UpdatePlan | DestroyPlan

/** Key of the CSRF secret. */
export const CSRF_KEY = '$csrf'

const NO_DIFFERENCE: Difference = { set: emptyTexts(), remove: [], clear: false, versioned: false }

/**
 * Decides what a request writes. Returns `undefined` if nothing has to be written. Pure: the caller passes the time and
 * the ids. `ids` is a new token and id for a new session and for a rotation, otherwise those of the found session.
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
 * Returns true if the cookie has to be sent. A cookie signed with an older secret is sent again only together with a
 * write, so that an ended session gets no cookie.
 */
function needsCookie({ options, rotated }: Outcome, found: FoundSession, expiresAt: number): boolean {
  return rotated || found.stale || (options.cookie.persistent && expiresAt !== found.record.expiresAt)
}

function patchOf(outcome: Outcome, record: SessionRecord, now: number, { id }: Ids): SessionPatch {
  const { options, rotated, createdAt, userId } = outcome
  const difference = outcome.difference ?? NO_DIFFERENCE
  const { set, remove, clear, versioned } = difference
  const userMayDiffer = clear || changesKey(options.userKey, difference)
  // Remove the CSRF secret even if this request did not see one. Another request may have created it since, and it must
  // not survive the rotation.
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
