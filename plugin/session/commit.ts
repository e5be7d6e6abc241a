import { setTimeout as delay } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { SessionConflictError, SessionGoneError, SessionStoreError, SessionUsageError } from '../errors.js'
import { endSession, type GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { Awaitable, UpdateResult } from '../types.js'
import type { CreatePlan, DestroyPlan, Plan, PlannedCookie, UpdatePlan } from './plan.js'
import { isOwnKey } from './record.js'
import { RetryQueue } from './retry-queue.js'
import { createSessionLimit, type SessionLimit } from './session-limit.js'
import type { SessionContext, SessionState } from './state.js'

/** How many times an `update` function may run again because another process changed the session first. */
const ATTEMPTS = 32
/** The longest pause between two attempts to write a session, in milliseconds. */
const LONGEST_PAUSE = 250

/** An instruction to set or clear the session cookie. `expiresAt` is in milliseconds since the epoch. */
export type CookieOrder =
  { readonly kind: 'set'; readonly value: string; readonly expiresAt: number } | { readonly kind: 'clear' }

/** The properties of the reply that affect the commit of a session. */
export interface CommitReply {
  /** True if the reply has a 5xx status. In that case, only an `invalidate()` is applied. */
  readonly failed: boolean
  /** Returns false after the headers have been sent. */
  canSetCookie(): boolean
}

const NO_COOKIES: readonly CookieOrder[] = []

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
    this.#limit = createSessionLimit(context.options, store)
  }

  /** Commits a session. Returns synchronously if nothing has to be written. Must be called at most once per request. */
  commit(state: SessionState, reply: CommitReply): Awaitable<readonly CookieOrder[]> {
    const plan = state.plan(Date.now(), reply.failed)
    if (plan !== undefined) requireHeaders(plan, reply)
    state.committed = true
    return plan === undefined ? NO_COOKIES : this.#carryOut(state, plan, reply)
  }

  async #carryOut(state: SessionState, plan: Plan, reply: CommitReply): Promise<readonly CookieOrder[]> {
    switch (plan.kind) {
      case 'create':
        return this.#create(plan)
      case 'update':
        return this.#update(state, plan)
      case 'destroy':
        return this.#destroy(plan, reply)
    }
  }

  async #create(plan: CreatePlan): Promise<readonly CookieOrder[]> {
    const { id, record, cookie } = plan
    try {
      if (this.#limit !== undefined) await this.#limit.before(record.userId, id)
      if (!(await this.#store.create(id, record))) throw new SessionConflictError()
      if (channels.created.hasSubscribers) channels.created.publish({ id, userId: record.userId })
      await this.#limit?.after(record.userId, id)
      return [this.#issue(id, cookie)]
    } catch (error) {
      if (error instanceof SessionStoreError && this.#context.options.onStoreError === 'anonymous')
        return NO_COOKIES
      throw error
    }
  }

  async #update(state: SessionState, plan: UpdatePlan): Promise<readonly CookieOrder[]> {
    const { id, patch } = plan
    // A write with `ifVersion` would conflict with the queued retries for the same session, so it joins their queue.
    if (patch.ifVersion === undefined || !this.#retries.has(id)) {
      const result = await this.#write(plan)
      if (result !== 'conflict') return this.#settle(result, plan)
    }
    return this.#retries.run(id, () => this.#retry(state, id))
  }

  /** Without a session limit, the write starts synchronously, so that pipelined requests reach the store in order. */
  async #write({ id, patch }: UpdatePlan): Promise<UpdateResult> {
    if (this.#limit !== undefined) await this.#limit.before(patch.userId, id)
    return this.#store.update(id, patch)
  }

  async #retry(state: SessionState, id: string): Promise<readonly CookieOrder[]> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (channels.conflict.hasSubscribers) channels.conflict.publish({ id, attempt })
      const began = performance.now()
      const record = await this.#store.get(id)
      if (record === undefined || !isRecord(id, record)) return gone(id, true)
      state.rebase(record)
      const plan = state.plan(Date.now(), false)
      if (plan?.kind !== 'update') return NO_COOKIES
      const result = await this.#write(plan)
      if (result !== 'conflict') return this.#settle(result, plan)
      // Only another process can cause a conflict here. Wait for a random time, which is longer if the store is slow.
      const tried = performance.now() - began
      await delay(Math.random() * Math.min(LONGEST_PAUSE, 2 * tried * 2 ** attempt))
    }
    throw new SessionConflictError()
  }

  async #settle(result: UpdateResult, plan: UpdatePlan): Promise<readonly CookieOrder[]> {
    const { id, patch, cookie, lossy } = plan
    if (result === 'gone') return gone(id, lossy)
    const { renameTo: newId = id, userId } = patch
    if (channels.saved.hasSubscribers) channels.saved.publish({ id: newId })
    if (newId !== id && channels.rotated.hasSubscribers)
      channels.rotated.publish({ id: newId, previousId: id })
    await this.#limit?.after(userId, newId)
    return cookie === undefined ? NO_COOKIES : [this.#issue(newId, cookie)]
  }

  async #destroy({ id, next }: DestroyPlan, reply: CommitReply): Promise<readonly CookieOrder[]> {
    // If another request has already ended the session, do not clear the cookie: the browser may have a newer one.
    if (!(await endSession(this.#store, id))) return gone(id, next !== undefined && holdsData(next))
    if (next === undefined) return [{ kind: 'clear' }]
    requireHeaders(next, reply)
    return this.#create(next)
  }

  #issue(id: string, { token, expiresAt }: PlannedCookie): CookieOrder {
    return { kind: 'set', value: this.#context.tokens.issue(token, id), expiresAt }
  }
}

/** Flash messages do not count as data, so that a double click on a logout button does not cause an error. */
function holdsData({ record }: CreatePlan): boolean {
  return Object.keys(record.data).some((key) => !isOwnKey(key))
}

/** @throws {SessionGoneError} if the client has to be told that its change has been lost. */
function gone(id: string, lossy: boolean): readonly CookieOrder[] {
  if (channels.gone.hasSubscribers) channels.gone.publish({ id })
  if (lossy) throw new SessionGoneError()
  return NO_COOKIES
}

/**
 * Throws an error, before any write, if a new session cookie is needed but the headers have already been sent. A
 * session can still be ended or extended after the headers are sent, but its cookie is not updated.
 */
function requireHeaders(plan: Plan, reply: CommitReply): void {
  const hasNewToken = plan.kind === 'create' || (plan.kind === 'update' && plan.patch.renameTo !== undefined)
  if (!hasNewToken || reply.canSetCookie()) return
  throw new SessionUsageError(
    'SESSION_HEADERS_SENT',
    'Cannot set the session cookie: the response headers were already sent (or belong to a WebSocket upgrade). ' +
      'Call save() earlier, in a hook or before the upgrade.'
  )
}
