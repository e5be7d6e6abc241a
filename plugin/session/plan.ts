import { emptyTexts, isEmpty, type Difference, type Draft } from './changes.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { isRecord } from './record.js'
import type { VerifiedToken } from '../cookies/tokens.js'
import type { SessionPatch, SessionRecord } from '../types.js'

/** A session that was found in the store. */
export interface FoundSession extends Omit<VerifiedToken, 'value'> {
  readonly record: SessionRecord
}

/** What a session is at the end of its request. */
export interface SessionOutcome {
  readonly options: ResolvedOptions
  readonly draft: Draft
  /** What the store had; absent for a new session. */
  readonly found: FoundSession | undefined
  /** The id that `invalidate()` ended. */
  readonly ended: string | undefined
  /** Whether `regenerate()` gave a found session a new id. */
  readonly rotated: boolean
  readonly createdAt: number
  /** The session's present token and id, minted now where nobody asked before. */
  identity(): { readonly token: string; readonly id: string }
}

/** The cookie to send: its token, and when the session ends. */
export interface CookieOrder {
  readonly token: string
  readonly expiresAt: number
}

export interface CreatePlan {
  readonly kind: 'create'
  readonly id: string
  readonly record: SessionRecord
  readonly cookie: CookieOrder
}

export interface UpdatePlan {
  readonly kind: 'update'
  readonly id: string
  readonly patch: SessionPatch
  /** True when the caller must know that the change could not be kept. */
  readonly lossy: boolean
  readonly cookie: CookieOrder | undefined
}

export interface DestroyPlan {
  readonly kind: 'destroy'
  readonly id: string
  /** The fresh session that holds what was set after `invalidate()`. */
  readonly next: CreatePlan | undefined
}

/** What one request asks of the store. `undefined` is nothing. */
export type Plan = CreatePlan | UpdatePlan | DestroyPlan | undefined

/** A touch is due when this part of `idleTimeout` has passed: a session may end by that much too early, never late. */
const TOUCH_PART = 0.1

/** Where the session's CSRF secret lies. */
export const CSRF_KEY = '$csrf'

const NO_DIFFERENCE: Difference = Object.freeze({
  set: emptyTexts(),
  remove: [],
  clear: false,
  versioned: false
})

/** The one place that decides what a request writes. `failed`: the reply is a 5xx. */
export function planOf(outcome: SessionOutcome, failed: boolean): Plan {
  const { ended, found } = outcome
  if (ended !== undefined) {
    return { kind: 'destroy', id: ended, next: failed ? undefined : planCreate(outcome) }
  }
  if (failed) return undefined
  return found === undefined ? planCreate(outcome) : planUpdate(outcome, found)
}

/** When a session ends: `createdAt + maxAge`, or earlier when nobody comes for `idleTimeout`. */
export function expiryOf(options: ResolvedOptions, createdAt: number, lastAccessed: number): number {
  return Math.min(createdAt + options.maxAge, lastAccessed + options.idleTimeout)
}

/**
 * Whether a store's answer is a record of ours whose session is not over. Its time-outs are asked of every record, because
 * a store's clock, or a maxAge that was shortened since, may say otherwise.
 */
export function isLive({ maxAge, idleTimeout }: ResolvedOptions, id: string, record: SessionRecord): boolean {
  if (!isRecord(id, record)) return false
  const { createdAt, lastAccessed, expiresAt } = record
  const now = Date.now()
  return now < expiresAt && now < createdAt + maxAge && now < lastAccessed + idleTimeout
}

/** The user id that a value of the `userKey` stands for; `null` when it stands for nobody. */
export function userIdOf(value: unknown): string | null {
  return typeof value === 'number' || (typeof value === 'string' && value !== '') ? String(value) : null
}

function planCreate(outcome: SessionOutcome): CreatePlan | undefined {
  const { options, draft, createdAt } = outcome
  const data = draft.difference()?.set
  if (data === undefined || isEmpty(data)) return undefined
  const { token, id } = outcome.identity()
  const now = Date.now()
  const expiresAt = expiryOf(options, createdAt, now)
  const userId = userIdOf(draft.value(options.userKey))
  const record = { version: 1, data, createdAt, lastAccessed: now, expiresAt, userId }
  return { kind: 'create', id, record, cookie: { token, expiresAt } }
}

function planUpdate(outcome: SessionOutcome, found: FoundSession): UpdatePlan | undefined {
  const { options, draft, rotated, createdAt } = outcome
  const difference = draft.difference(rotated)
  const isChanged = difference !== undefined || rotated || found.stale
  if (!isChanged && !isTouchDue(options, found.record)) return undefined
  const now = Date.now()
  const expiresAt = expiryOf(options, createdAt, now)
  return {
    kind: 'update',
    id: found.id,
    patch: patchOf(outcome, found.record, difference ?? NO_DIFFERENCE, now, expiresAt),
    lossy: rotated || (difference !== undefined && !isEmpty(difference.set)),
    cookie: needsCookie(outcome, found, expiresAt)
      ? { token: outcome.identity().token, expiresAt }
      : undefined
  }
}

/** A request that only reads asks the clock no more often than it must: `Date.now()` costs a twentieth of a session. */
function isTouchDue({ idleTimeout }: ResolvedOptions, { lastAccessed }: SessionRecord): boolean {
  return idleTimeout !== Infinity && Date.now() - lastAccessed >= idleTimeout * TOUCH_PART
}

/** A cookie that an older secret signed is issued again with a touch, so that an ended session gets none. */
function needsCookie({ options, rotated }: SessionOutcome, found: FoundSession, expiresAt: number): boolean {
  return rotated || found.stale || (options.cookie.persistent && expiresAt !== found.record.expiresAt)
}

function patchOf(
  outcome: SessionOutcome,
  record: SessionRecord,
  { set, remove, clear, versioned }: Difference,
  lastAccessed: number,
  expiresAt: number
): SessionPatch {
  const { userKey } = outcome.options
  const userMayDiffer = clear || Object.hasOwn(set, userKey) || remove.includes(userKey)
  // Named though this request saw none: another one may have made a secret since, and whoever knew the old cookie knows it.
  const dropsSecret = outcome.rotated && !Object.hasOwn(set, CSRF_KEY) && !remove.includes(CSRF_KEY)
  return {
    set,
    remove: dropsSecret ? [...remove, CSRF_KEY] : remove,
    lastAccessed,
    expiresAt,
    ...(clear && { clear }),
    ...(versioned && { ifVersion: record.version }),
    ...(userMayDiffer && { userId: userIdOf(outcome.draft.value(userKey)) }),
    ...(outcome.rotated && { createdAt: outcome.createdAt, renameTo: outcome.identity().id })
  }
}
