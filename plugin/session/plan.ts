import type { VerifiedToken } from '../cookies/tokens.js'
import type { Lifetime } from '../options/resolve.js'
import type { SessionPatch, SessionRecord } from '../types.js'
import { emptyTexts, type Difference, type Texts } from './changes.js'
import { expiryOf, isTouchDue } from './lifetime.js'
import { CSRF_KEY, isOwnKey } from './record.js'

/** A stored session, as the request loaded it. */
export interface FoundSession extends Omit<VerifiedToken, 'value'> {
  readonly record: SessionRecord
}

/** A session that the request ends. */
export interface EndedSession {
  readonly id: string
  readonly userId: string | null
}

/** The state of a session at the end of a request. */
export interface Outcome {
  readonly lifetime: Lifetime
  readonly userKey: string
  /** The session as it was loaded, or `undefined` for a new session. */
  readonly found: FoundSession | undefined
  /** The session that `invalidate()` has ended, if any. */
  readonly ended: EndedSession | undefined
  /** True if a stored session gets a new id. */
  readonly rotated: boolean
  /** True if the user logs in. */
  readonly signsIn: boolean
  readonly createdAt: number
  readonly difference: Difference | undefined
  /** True if the visitor cookie must be sent even if its values have not changed. */
  readonly visitorDue: boolean
  /** All values after the changes, for a session that the store does not have. */
  readonly data: Texts | undefined
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

/** The session cookie to send: its token, and the time at which the session ends. */
export interface PlannedCookie {
  readonly token: string
  readonly expiresAt: number
  readonly persistent: boolean
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
  readonly ifGone: IfGone
  readonly signsIn: boolean
  readonly cookie: PlannedCookie | undefined
}

/**
 * What to do if the session has ended before the write. `ignore`: nothing that the application set is lost. `refuse`:
 * the client receives an error. `create`: a login does not need the session that it replaces.
 */
export type IfGone = 'ignore' | 'refuse' | 'create'

/** A visitor's values change. They are in a cookie, not in the store. Without values, the cookie is cleared. */
export interface VisitorPlan {
  readonly kind: 'visitor'
  readonly texts: Texts
}

export interface DestroyPlan {
  readonly kind: 'destroy'
  readonly id: string
  /** What was set after `invalidate()` was called. */
  readonly next: CreatePlan | VisitorPlan | undefined
  readonly ifGone: IfGone
}

export type Plan = CreatePlan | UpdatePlan | DestroyPlan | VisitorPlan

const NO_DIFFERENCE: Difference = {
  set: emptyTexts(),
  remove: [],
  clear: false,
  versioned: false,
  sets: { data: false, own: false }
}

/**
 * Returns the write that a request needs, or `undefined` if it needs none. This is a pure function. `ids` returns a new
 * token and id if the session is new or was rotated, and those of the loaded session otherwise.
 */
export function plan(outcome: Outcome, now: number, ids: () => Ids): Plan | undefined {
  const { ended, failed, found } = outcome
  if (failed) return ended && planDestroy(ended, undefined)
  if (found !== undefined) return planUpdate(outcome, found, now, ids)
  const next = planNew(outcome, now, ids)
  return ended === undefined ? next : planDestroy(ended, next)
}

/** Flash messages do not count as data, so that a double click on a logout button does not cause an error. */
function planDestroy({ id, userId }: EndedSession, next: DestroyPlan['next']): DestroyPlan {
  if (next?.kind !== 'create') return { kind: 'destroy', id, next, ifGone: 'ignore' }
  const isLogin = next.record.userId !== null && next.record.userId !== userId
  return { kind: 'destroy', id, next, ifGone: isLogin ? 'create' : 'refuse' }
}

/** Plans a session that the store does not have. It is stored only if the application has set something in it. */
function planNew(outcome: Outcome, now: number, ids: () => Ids): CreatePlan | VisitorPlan | undefined {
  const { difference, visitorDue, data = emptyTexts(), lifetime, createdAt, userId } = outcome
  if (difference === undefined && !visitorDue) return undefined
  if (Object.keys(data).every(isOwnKey)) return { kind: 'visitor', texts: data }
  const { token, id } = ids()
  const expiresAt = expiryOf(lifetime, createdAt, now)
  const record = { version: 1, data, createdAt, lastAccessed: now, expiresAt, userId }
  return { kind: 'create', id, record, cookie: { token, expiresAt, persistent: lifetime.persistent } }
}

function planUpdate(
  outcome: Outcome,
  found: FoundSession,
  now: number,
  ids: () => Ids
): UpdatePlan | undefined {
  const { lifetime, difference, rotated, signsIn, createdAt } = outcome
  const isChanged = difference !== undefined || rotated || found.stale
  if (!isChanged && !isTouchDue(lifetime, found.record, now)) return undefined
  // The time of the last access never goes back, even if the clock of this server is behind that of another one.
  const accessed = signsIn ? now : Math.max(now, found.record.lastAccessed)
  const expiresAt = expiryOf(lifetime, createdAt, accessed)
  const times = { lastAccessed: accessed, expiresAt }
  const { token, id } = ids()
  return {
    kind: 'update',
    id: found.id,
    patch: patchOf(outcome, found.record, times, id),
    ifGone: ifGoneOf(outcome, found.record),
    signsIn,
    cookie: needsCookie(outcome, found, expiresAt)
      ? { token, expiresAt, persistent: lifetime.persistent }
      : undefined
  }
}

/**
 * If the session was the same user's, it may have been revoked, so the login must not bring it back. A rotation cannot
 * be told from an end, so a request that only rotates must not fail if another request has rotated the session first.
 */
function ifGoneOf({ difference, rotated, signsIn, userId }: Outcome, record: SessionRecord): IfGone {
  if (signsIn) return record.userId === userId ? 'refuse' : 'create'
  const { data, own } = (difference ?? NO_DIFFERENCE).sets
  return data || (own && !rotated) ? 'refuse' : 'ignore'
}

/**
 * Returns true if the session cookie has to be sent. A cookie that was signed with an older secret is not replaced
 * until the session has been written to the store, because the write shows whether the session still exists.
 */
function needsCookie({ lifetime, rotated }: Outcome, found: FoundSession, expiresAt: number): boolean {
  return rotated || found.stale || (lifetime.persistent && expiresAt !== found.record.expiresAt)
}

type Times = Pick<SessionPatch, 'lastAccessed' | 'expiresAt'>

function patchOf(outcome: Outcome, record: SessionRecord, times: Times, id: string): SessionPatch {
  const { rotated, signsIn, createdAt } = outcome
  const difference = outcome.difference ?? NO_DIFFERENCE
  const { set, clear, versioned } = difference
  return {
    set,
    remove: removedBy(outcome, difference),
    lastAccessed: times.lastAccessed,
    expiresAt: times.expiresAt,
    ...(clear && { clear }),
    ...(versioned && { ifVersion: record.version }),
    ...userOf(outcome, difference),
    ...(signsIn && { createdAt }),
    ...(rotated && { renameTo: id })
  }
}

/**
 * Removes the CSRF secret at a rotation even if the loaded session has none. Another request may have created a secret
 * in the meantime, and that secret must not survive a change of the session id.
 */
function removedBy({ rotated }: Outcome, difference: Difference): readonly string[] {
  const { remove, clear } = difference
  return rotated && !clear && !changesKey(CSRF_KEY, difference) ? [...remove, CSRF_KEY] : remove
}

function userOf({ userKey, signsIn, userId }: Outcome, difference: Difference): Pick<SessionPatch, 'userId'> {
  return difference.clear || signsIn || changesKey(userKey, difference) ? { userId } : {}
}

function changesKey(key: string, { set, remove }: Difference): boolean {
  return Object.hasOwn(set, key) || remove.includes(key)
}
