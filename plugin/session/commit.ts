import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'
import { isPromise, recover, then } from '../awaitable.js'
import type { SessionCookie } from '../http/cookie.js'
import { channels } from '../diagnostics.js'
import { SessionConflictError, SessionGoneError, SessionStoreError, SessionUsageError } from '../errors.js'
import { isOwn, isRecord } from './record.js'
import { createLimit, type SessionLimit } from './session-limit.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { end, type ReportedStore } from '../stores/guarded.js'
import type { CookieOrder, CreatePlan, DestroyPlan, Plan, UpdatePlan } from './plan.js'
import { internals, type Session } from './session.js'
import type { Tokens } from '../cookies/tokens.js'
import type { Awaitable, UpdateResult } from '../types.js'

/** How often an `update` function may run again because another process wrote in between. */
const ATTEMPTS = 32
/** Milliseconds. */
const LONGEST_PAUSE = 250

/**
 * When a session is committed: by `save()`, or as its reply goes out. `failed`: that is a 5xx, so that nothing but an
 * `invalidate()` holds.
 */
export type Moment = 'early' | 'reply' | 'failed'

/** Carries out what a session asks of the store, then sets the cookie: the end of a request. */
export class Committer {
  readonly #options: ResolvedOptions
  readonly #tokens: Tokens
  readonly #store: ReportedStore
  readonly #cookie: SessionCookie
  readonly #limit: SessionLimit
  /** The last retry of each session in this process: those that follow wait for it, instead of beating each other. */
  readonly #turns = new Map<string, Promise<unknown>>()
  /** Commits under way: a reply that is sent meanwhile, by a handler that answers twice, waits for its cookie. */
  readonly #pending = new WeakMap<Session, Awaitable<void>>()

  constructor(options: ResolvedOptions, tokens: Tokens, store: ReportedStore, cookie: SessionCookie) {
    this.#options = options
    this.#tokens = tokens
    this.#store = store
    this.#cookie = cookie
    this.#limit = createLimit(options, store)
  }

  commit(session: Session, reply: FastifyReply, moment: Moment): Awaitable<void> {
    if (internals.isCommitted(session)) return this.#pending.get(session)
    const plan = internals.planOf(session, moment === 'failed')
    if (plan !== undefined) requireHeaders(plan, reply, moment)
    internals.markCommitted(session)
    const work = this.#carryOut(session, plan, reply, moment)
    if (!isPromise(work)) return
    const forget = (): void => void this.#pending.delete(session)
    this.#pending.set(session, work)
    work.then(forget, forget)
    return work
  }

  #carryOut(session: Session, plan: Plan, reply: FastifyReply, moment: Moment): Awaitable<void> {
    switch (plan?.kind) {
      case undefined:
        return
      case 'create':
        return this.#create(plan, reply)
      case 'update':
        return this.#update(session, plan, reply)
      case 'destroy':
        return this.#destroy(plan, reply, moment)
    }
  }

  #create(plan: CreatePlan, reply: FastifyReply): Awaitable<void> {
    return recover(
      () => this.#createOrThrow(plan, reply),
      (error) => {
        if (!(error instanceof SessionStoreError && this.#options.onStoreError === 'anonymous')) throw error
      }
    )
  }

  #createOrThrow({ id, record, cookie }: CreatePlan, reply: FastifyReply): Awaitable<void> {
    const created = then(this.#limit.before(record.userId, id), () => this.#store.create(id, record))
    return then(created, (isNew) => {
      if (!isNew) throw new SessionConflictError()
      if (channels.created.hasSubscribers) channels.created.publish({ id, userId: record.userId })
      return then(this.#limit.after(record.userId, id), () => this.#sendCookie(reply, id, cookie))
    })
  }

  #update(session: Session, plan: UpdatePlan, reply: FastifyReply): Awaitable<void> {
    // A write that depends on the version would only beat, or be beaten by, those that are waiting.
    if (plan.patch.ifVersion !== undefined && this.#turns.has(plan.id))
      return this.#retry(session, plan.id, reply)
    const written = then(this.#limit.before(plan.patch.userId, plan.id), () =>
      this.#store.update(plan.id, plan.patch)
    )
    return then(written, (result) =>
      result === 'conflict' ? this.#retry(session, plan.id, reply) : this.#settle(result, plan, reply)
    )
  }

  #settle(
    result: UpdateResult,
    { id, patch, cookie, lossy }: UpdatePlan,
    reply: FastifyReply
  ): Awaitable<void> {
    if (result === 'gone') return reportGone(id, lossy)
    const { renameTo: newId = id, userId } = patch
    if (channels.saved.hasSubscribers) channels.saved.publish({ id: newId })
    if (newId !== id && channels.rotated.hasSubscribers)
      channels.rotated.publish({ id: newId, previousId: id })
    return then(this.#limit.after(userId, newId), () => {
      if (cookie !== undefined) this.#sendCookie(reply, newId, cookie)
    })
  }

  #destroy({ id, next }: DestroyPlan, reply: FastifyReply, moment: Moment): Awaitable<void> {
    return then(end(this.#store, id), (was) => {
      // Somebody else ended it, and may have given the browser a newer cookie since.
      if (!was) return reportGone(id, next !== undefined && holdsData(next))
      if (next !== undefined) {
        requireHeaders(next, reply, moment)
        return this.#create(next, reply)
      }
      if (!reply.raw.headersSent) this.#cookie.clear(reply)
    })
  }

  #retry(session: Session, id: string, reply: FastifyReply): Promise<void> {
    const before = this.#turns.get(id)
    const work = () => this.#writeUntilUnchanged(session, id, reply)
    // A store that did not answer the one before would let each of those who wait run out of time after the other.
    const unlessDown = (error: unknown) => {
      if (error instanceof SessionStoreError) throw error
      return work()
    }
    const turn = before === undefined ? work() : before.then(work, unlessDown)
    this.#turns.set(id, turn)
    return turn.finally(() => {
      if (this.#turns.get(id) === turn) this.#turns.delete(id)
    })
  }

  /** Reads again, puts the changes on what is there now, and writes if nobody wrote since. */
  async #writeUntilUnchanged(session: Session, id: string, reply: FastifyReply): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (channels.conflict.hasSubscribers) channels.conflict.publish({ id, attempt })
      const began = performance.now()
      const record = await this.#store.get(id)
      if (record === undefined || !isRecord(id, record)) return reportGone(id, true)
      internals.rebase(session, record)
      const plan = internals.planOf(session, false)
      if (plan?.kind !== 'update') return
      await this.#limit.before(plan.patch.userId, id)
      const result = await this.#store.update(id, plan.patch)
      if (result !== 'conflict') return this.#settle(result, plan, reply)
      // Only another process can be in the way here. A random pause, in measure with the store's speed, breaks the step.
      const tried = performance.now() - began
      await delay(Math.random() * Math.min(LONGEST_PAUSE, 2 * tried * 2 ** attempt))
    }
    throw new SessionConflictError()
  }

  #sendCookie(reply: FastifyReply, id: string, { token, expiresAt }: CookieOrder): void {
    this.#cookie.write(reply, this.#tokens.issue(token, id), expiresAt)
  }
}

/** A flash message alone is none: a logout that is clicked twice must not end in an error. */
function holdsData({ record }: CreatePlan): boolean {
  return Object.keys(record.data).some((key) => !isOwn(key))
}

function reportGone(id: string, lossy: boolean): void {
  if (channels.gone.hasSubscribers) channels.gone.publish({ id })
  if (lossy) throw new SessionGoneError()
}

/**
 * Asked before anything is written. An end of a session holds all the same, only its cookie cannot be cleared; so does
 * a change whose cookie would only live longer.
 */
function requireHeaders(plan: NonNullable<Plan>, reply: FastifyReply, moment: Moment): void {
  const hasNewToken = plan.kind === 'create' || (plan.kind === 'update' && plan.patch.renameTo !== undefined)
  // The answer to an upgrade that is accepted, 101, is not Fastify's, and carries none of the reply's headers.
  const { upgrade } = reply.request.raw as { upgrade?: boolean }
  if (hasNewToken && (reply.raw.headersSent || (upgrade === true && moment === 'early'))) {
    throw new SessionUsageError(
      'SESSION_HEADERS_SENT',
      'The session needs a cookie, but its headers are sent, or are an upgrade’s: save() before, in a hook or a handler'
    )
  }
}
