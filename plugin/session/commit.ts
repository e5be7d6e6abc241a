import { setTimeout as delay } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { SessionConflictError, SessionGoneError, SessionStoreError, SessionUsageError } from '../errors.js'
import { endSession, type GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { Awaitable, UpdateResult } from '../types.js'
import { isEmpty } from './changes.js'
import type { CreatePlan, DestroyPlan, IfGone, Plan, PlannedCookie, UpdatePlan, VisitorPlan } from './plan.js'
import { RetryQueue } from './retry-queue.js'
import { SessionLimit } from './session-limit.js'
import type { SessionState } from './state.js'
import type { SessionContext } from './context.js'

/** How many times an `update` function may run again because another process changed the session first. */
const ATTEMPTS = 32
/** For how many times `storeTimeout` a request retries its write, including the wait for the retries of others. */
const PATIENCE = 2
/** The longest pause between two attempts to write a session, in milliseconds. */
const LONGEST_PAUSE = 250

/** An instruction to set or clear the session cookie or the visitor cookie. */
export type CookieOrder =
  | {
      readonly cookie: 'session'
      readonly kind: 'set'
      readonly value: string
      /** When the session ends, in milliseconds since the epoch. */
      readonly expiresAt: number
      readonly persistent: boolean
    }
  | { readonly cookie: 'visitor'; readonly kind: 'set'; readonly value: string }
  | { readonly cookie: 'session' | 'visitor'; readonly kind: 'clear' }

/** The properties of the request and its reply that affect the commit of a session. */
export interface CommitReply {
  /** The id of the request, for diagnostics. */
  readonly requestId: string
  /** True if the reply has a 5xx status. In that case, only an `invalidate()` is applied. */
  readonly failed: boolean
  /** Returns false after the headers have been sent. */
  canSetCookie(): boolean
  /** Ends the sessions of other libraries whose cookies the request carries. Absent if it carries none. */
  readonly endOldSessions?: (() => Promise<void>) | undefined
}

const NO_COOKIES: readonly CookieOrder[] = []
const TOO_SLOW = 'The writes of other requests to the same session took too long'

/** Writes the changes of a session to the store, and returns instructions for the session cookie. */
export class Committer {
  readonly #context: SessionContext
  readonly #store: GuardedStore
  readonly #limit: SessionLimit | undefined
  /** Retries writes to the same session one after the other within this process. */
  readonly #retries = new RetryQueue()

  constructor(context: SessionContext, store: GuardedStore) {
    this.#context = context
    this.#store = store
    if (context.options.maxSessionsPerUser !== undefined)
      this.#limit = new SessionLimit(context.options, store)
  }

  /**
   * Commits a session. Returns synchronously if nothing has to be written to the store. Must be called at most once per
   * request, except after an error that was thrown before the session was committed.
   */
  commit(state: SessionState, reply: CommitReply): Awaitable<readonly CookieOrder[]> {
    const plan = this.#plan(state, reply)
    state.committed = true
    if (plan === undefined) return NO_COOKIES
    return plan.kind === 'visitor' ? [visitorOrder(state, plan)] : this.#carryOut(state, plan, reply)
  }

  #plan(state: SessionState, reply: CommitReply): Plan | undefined {
    try {
      const plan = state.plan(Date.now(), reply.failed || state.refused)
      if (plan !== undefined) requireHeaders(plan, reply)
      return plan
    } catch (error) {
      // The error page must not run into the same error.
      state.refused = true
      throw error
    }
  }

  #carryOut(
    state: SessionState,
    plan: CreatePlan | UpdatePlan | DestroyPlan,
    reply: CommitReply
  ): Promise<readonly CookieOrder[]> {
    if (plan.kind === 'destroy') return this.#destroy(state, plan, reply)
    const userId = signedInBy(plan)
    if (userId === null || this.#limit === undefined) return this.#write(state, plan, reply)
    const before = plan.kind === 'update' ? plan.id : undefined
    const signIn = { before, after: state.id, requestId: reply.requestId }
    return this.#limit.signIn(userId, signIn, (newest) => {
      state.signInAfter(newest)
      return this.#write(state, planAgain(state), reply)
    })
  }

  #write(
    state: SessionState,
    plan: CreatePlan | UpdatePlan,
    reply: CommitReply
  ): Promise<readonly CookieOrder[]> {
    return plan.kind === 'create' ? this.#create(state, plan, reply) : this.#update(state, plan, reply)
  }

  async #create(
    state: SessionState,
    { id, record, cookie }: CreatePlan,
    { requestId }: CommitReply
  ): Promise<readonly CookieOrder[]> {
    const { userId } = record
    try {
      if (!(await this.#store.create(id, record))) throw new SessionConflictError()
    } catch (error) {
      const isOptional = error instanceof SessionStoreError && userId === null
      if (isOptional && this.#context.options.onStoreError === 'anonymous') return NO_COOKIES
      throw error
    }
    state.isStored = true
    if (channels.created.hasSubscribers) channels.created.publish({ id, userId, requestId })
    return [this.#issue(id, cookie)]
  }

  async #update(state: SessionState, plan: UpdatePlan, reply: CommitReply): Promise<readonly CookieOrder[]> {
    const { id, patch } = plan
    // A write with `ifVersion` would conflict with the queued retries for the same session, so it joins their queue.
    if (patch.ifVersion === undefined || !this.#retries.has(id)) {
      const result = await this.#store.update(id, patch)
      if (result !== 'conflict') return this.#settle(state, result, plan, reply)
    }
    const deadline = performance.now() + PATIENCE * this.#context.options.storeTimeout
    return this.#retries.run(id, () => this.#retry(state, plan, reply, deadline))
  }

  async #retry(
    state: SessionState,
    { id, ifGone }: UpdatePlan,
    reply: CommitReply,
    deadline: number
  ): Promise<readonly CookieOrder[]> {
    const { requestId } = reply
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (performance.now() > deadline) throw new SessionStoreError(new Error(TOO_SLOW))
      if (channels.conflict.hasSubscribers) channels.conflict.publish({ id, attempt, requestId })
      const began = performance.now()
      const record = await this.#store.get(id)
      if (record === undefined || !isRecord(id, record)) return this.#gone(state, id, ifGone, reply)
      state.rebase(record)
      const plan = state.plan(Date.now(), false)
      if (plan?.kind !== 'update') return NO_COOKIES
      const result = await this.#store.update(id, plan.patch)
      if (result !== 'conflict') return this.#settle(state, result, plan, reply)
      // Only another process can cause a conflict here. Wait for a random time, which is longer if the store is slow.
      const tried = performance.now() - began
      await delay(Math.random() * Math.min(LONGEST_PAUSE, 2 * tried * 2 ** attempt))
    }
    throw new SessionConflictError()
  }

  #settle(
    state: SessionState,
    result: UpdateResult,
    { id, patch, cookie, ifGone }: UpdatePlan,
    reply: CommitReply
  ): Awaitable<readonly CookieOrder[]> {
    if (result === 'gone') return this.#gone(state, id, ifGone, reply)
    const { requestId } = reply
    const { renameTo: newId = id } = patch
    if (channels.saved.hasSubscribers) channels.saved.publish({ id: newId, requestId })
    if (newId !== id && channels.rotated.hasSubscribers)
      channels.rotated.publish({ id: newId, previousId: id, requestId })
    return cookie === undefined ? NO_COOKIES : [this.#issue(newId, cookie)]
  }

  /**
   * Handles a session that has ended before its changes could be written.
   * @throws {SessionGoneError} if the client has to be told that its change has been lost.
   */
  async #gone(
    state: SessionState,
    id: string,
    ifGone: IfGone,
    reply: CommitReply
  ): Promise<readonly CookieOrder[]> {
    const { requestId } = reply
    if (channels.gone.hasSubscribers) channels.gone.publish({ id, requestId })
    if (ifGone === 'refuse') throw new SessionGoneError()
    if (ifGone === 'ignore') return NO_COOKIES
    state.startOver()
    return this.#create(state, planAgain(state) as CreatePlan, reply)
  }

  async #destroy(
    state: SessionState,
    { id, next, ifGone }: DestroyPlan,
    reply: CommitReply
  ): Promise<readonly CookieOrder[]> {
    const { requestId } = reply
    // If this fails, the session lives on, so that the user can log out again.
    if (reply.endOldSessions !== undefined) await reply.endOldSessions()
    const existed = await endSession(this.#store, id, { reason: 'invalidated', requestId })
    // If another request has already ended the session, do not clear the cookie: the browser may have a newer one.
    if (!existed && ifGone !== 'create') return this.#gone(state, id, ifGone, reply)
    if (next === undefined) return [CLEAR_SESSION]
    requireHeaders(next, reply)
    return next.kind === 'visitor'
      ? [CLEAR_SESSION, visitorOrder(state, next)]
      : this.#carryOut(state, next, reply)
  }

  #issue(id: string, { token, expiresAt, persistent }: PlannedCookie): CookieOrder {
    const value = this.#context.tokens.issue(token, id)
    return { cookie: 'session', kind: 'set', value, expiresAt, persistent }
  }
}

const CLEAR_SESSION: CookieOrder = { cookie: 'session', kind: 'clear' }

function visitorOrder(state: SessionState, { texts }: VisitorPlan): CookieOrder {
  return isEmpty(texts)
    ? { cookie: 'visitor', kind: 'clear' }
    : { cookie: 'visitor', kind: 'set', value: state.sealVisitor(texts) }
}

/** Plans a login again with what has changed since. The session that the request has ended is already destroyed. */
function planAgain(state: SessionState): CreatePlan | UpdatePlan {
  const plan = state.plan(Date.now(), false) as CreatePlan | UpdatePlan | DestroyPlan
  return plan.kind === 'destroy' ? (plan.next as CreatePlan) : plan
}

/** Returns the user that a write logs in, or `null`. */
function signedInBy(plan: CreatePlan | UpdatePlan): string | null {
  if (plan.kind === 'create') return plan.record.userId
  return plan.signsIn ? (plan.patch.userId as string) : null
}

/**
 * Throws an error, before any write, if a new cookie is needed but the headers have already been sent. A session can
 * still be ended or extended after the headers are sent, but its cookie is not updated.
 */
function requireHeaders(plan: Plan, reply: CommitReply): void {
  if (!needsNewCookie(plan) || reply.canSetCookie()) return
  throw new SessionUsageError(
    'SESSION_HEADERS_SENT',
    'Cannot set the session cookie: the response headers were already sent (or belong to a WebSocket upgrade). ' +
      'Call save() earlier, in a hook or before the upgrade.'
  )
}

function needsNewCookie(plan: Plan): boolean {
  if (plan.kind === 'update') return plan.patch.renameTo !== undefined
  return plan.kind === 'create' || plan.kind === 'visitor'
}
