import type { FastifyReply, FastifyRequest } from 'fastify'
import { isPromise, then } from '../awaitable.js'
import { createTokens } from '../cookies/tokens.js'
import { SessionStoreError, SessionUsageError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { Committer, type CookieOrder } from '../session/commit.js'
import { createLoad, type Load } from '../session/load.js'
import { MoveIn, type GivenCookie } from '../session/move-in.js'
import type { FoundSession } from '../session/plan.js'
import { withProperties } from '../session/properties.js'
import { Session } from '../session/session.js'
import type { SessionMode } from '../session/refusals.js'
import { SessionState } from '../session/state.js'
import type { SessionContext } from '../session/context.js'
import { createVisitors } from '../session/visitor.js'
import type { GuardedStore } from '../stores/guarded.js'
import type { Awaitable } from '../types.js'
import { createCookies, type Cookies, type CookieWriter } from './cookie.js'
import { createOldCookies, type OldCookies } from './old-cookies.js'
import { areHeadersSent, keepRawCookies, varyByCookie } from './reply-headers.js'
import { kState, RequestState, sessionConfigOf } from './request-state.js'

/** The key of the plugin's `RequestSessions` on the Fastify instance. */
export const kSessions = Symbol('fastify-sesame.sessions')

declare module 'fastify' {
  interface FastifyInstance {
    /** @internal This property is absent if the plugin is not registered. */
    [kSessions]?: RequestSessions
  }
}

/** When a session is committed: in `save()`, when a normal reply is sent, or when a 5xx reply is sent. */
type Moment = 'early' | 'reply' | 'failed'

/** Loads the session of each request and commits it: writes its changes to the store and sets its cookie. */
export class RequestSessions {
  readonly options: ResolvedOptions
  readonly context: SessionContext
  readonly #load: Load
  readonly #committer: Committer
  readonly #cookies: Cookies
  readonly #moveIn: MoveIn
  readonly #oldCookies: OldCookies
  /** The running commits. A reply waits for the commit of its session, which may set a cookie on the reply. */
  readonly #commits = new WeakMap<SessionState, Promise<void>>()

  constructor(options: ResolvedOptions, store: GuardedStore, serialize: CookieWriter) {
    this.options = options
    this.context = {
      options,
      tokens: createTokens(options.secrets, options.idLength),
      visitors: createVisitors(options)
    }
    this.#load = createLoad(this.context, store)
    this.#committer = new Committer(this.context, store)
    this.#cookies = createCookies(options, serialize)
    this.#moveIn = new MoveIn(options, store)
    this.#oldCookies = createOldCookies(options, serialize)
  }

  stateOf(request: FastifyRequest): RequestState {
    return (request[kState] ??= new RequestState(this, request))
  }

  /** Loads the session of a request. Later calls do not load it again. */
  load(request: FastifyRequest): Awaitable<void> {
    const state = this.stateOf(request)
    if (state.error !== undefined) throw state.error
    if (state.phase !== 'unloaded') return
    if (state.loading !== undefined) return state.loading
    const header = state.cookieHeader
    const config = header === undefined ? undefined : sessionConfigOf(request)
    if (header !== undefined && config !== false)
      return (state.loading = this.#loadCookie(request, state, header, config ?? 'open'))
    state.phase = header === undefined ? 'loaded' : 'off'
  }

  /** Returns the values of the visitor cookies in a `Cookie` header. */
  visitorCookies(header = ''): readonly string[] {
    return this.#cookies.visitor.read(header)
  }

  /** Returns the session for `request.session`. Creates a new session on the first use if none was loaded. */
  open(request: FastifyRequest): Session {
    const state = this.stateOf(request)
    state.used = true
    if (state.session !== undefined) return state.session
    const opened = this.#newSession(state, modeOf(state, sessionConfigOf(request)))
    if (state.phase === 'unloaded') return opened
    if (state.phase === 'late') Session.stateOf(opened).committed = true
    return (state.session = opened)
  }

  /** Commits the session before the reply is sent. */
  save(session: Session, reply: FastifyReply): Awaitable<void> {
    varyByCookie(reply)
    return this.#commit(session, reply, 'early')
  }

  async saveEarly({ session, reply }: RequestState): Promise<void> {
    if (session !== undefined && reply !== undefined) return this.save(session, reply)
    if (session?.modified === true)
      throw new SessionUsageError(
        'SESSION_NOT_LOADED',
        'save() needs the reply: call it after the onRequest hook of fastify-sesame, or use sessionManager.save()'
      )
  }

  /** Commits the session when the reply is sent. Returns synchronously if nothing has to be written. */
  finish(request: FastifyRequest, reply: FastifyReply): Awaitable<void> {
    const state = this.stateOf(request)
    if (state.used) varyByCookie(reply)
    if (state.printsToken) reply.header('cache-control', 'no-store')
    const { session } = state
    if (session === undefined) {
      // From now on, changes to the session would be lost, so they must throw an error.
      if (state.phase !== 'unloaded') state.phase = 'late'
      return
    }
    const internal = Session.stateOf(session)
    if (internal.committed) {
      keepRawCookies(reply)
      this.#cookies.keepPrivate(reply)
    }
    if (internal.mutatedAfterCommit())
      throw new SessionUsageError(
        'SESSION_COMMITTED',
        'An object of the session was changed in place after save()'
      )
    return this.#commit(session, reply, reply.statusCode >= 500 ? 'failed' : 'reply')
  }

  /**
   * Runs before the error handler. A request that has no loaded session gets an empty one that is never saved, and after
   * a commit a flash message can be read, so that an error page that reads the session does not become another error.
   */
  fail(request: FastifyRequest): void {
    const state = this.stateOf(request)
    state.commitIsOver = state.session !== undefined && Session.stateOf(state.session).committed
    if (state.phase !== 'unloaded' && sessionConfigOf(request) !== false) return
    state.phase = 'failed'
    state.session = undefined
  }

  /** Runs when no more `onSend` hooks will follow. Applies a pending `invalidate()` and ignores all other changes. */
  abandon(request: FastifyRequest, reply: FastifyReply): Awaitable<void> {
    const { session } = this.stateOf(request)
    if (session !== undefined) return this.#commit(session, reply, 'failed')
  }

  #loadCookie(
    request: FastifyRequest,
    state: RequestState,
    header: string,
    mode: SessionMode
  ): Awaitable<void> {
    try {
      const found = this.#find(header, request.id)
      if (!isPromise(found)) return this.#loaded(state, found, mode)
      return found.then(
        (later) => this.#loaded(state, later, mode),
        (error: unknown) => this.#failed(state, error)
      )
    } catch (error) {
      this.#failed(state, error)
    }
  }

  /** Looks for a session of this library first, and then for one of another library. */
  #find(header: string, requestId: string): Awaitable<FoundSession | 'ended' | undefined> {
    const found = this.#load(this.#cookies.session.read(header), requestId)
    const old = this.#oldCookies.read(header)
    if (old.length === 0) return found
    return then(found, (own) =>
      typeof own === 'object' ? own : then(this.#moveIn.load(old, requestId), (moved) => moved ?? own)
    )
  }

  #loaded(state: RequestState, found: FoundSession | 'ended' | undefined, mode: SessionMode): void {
    state.phase = 'loaded'
    if (found === 'ended') state.ended = true
    else if (found !== undefined) state.session = this.#newSession(state, mode, found)
  }

  #failed(state: RequestState, error: unknown): void {
    state.phase = 'failed'
    if (this.options.onStoreError !== 'fail') return
    if (error instanceof SessionStoreError) state.error = error
    throw error
  }

  #newSession(state: RequestState, mode: SessionMode, found?: FoundSession): Session {
    const session = new Session(new SessionState(this.context, mode, state, found), state)
    return this.options.properties ? withProperties(session) : session
  }

  #commit(session: Session, reply: FastifyReply, moment: Moment): Awaitable<void> {
    const state = Session.stateOf(session)
    if (state.committed) return this.#commits.get(state)
    const old = this.#oldCookies.read(this.stateOf(reply.request).cookieHeader)
    const orders = this.#committer.commit(state, {
      requestId: reply.request.id,
      failed: moment === 'failed',
      canSetCookie: () => canSetCookie(reply, moment),
      endOldSessions: old.length === 0 ? undefined : () => this.#moveIn.end(old)
    })
    const work = then(orders, (orders) => this.#apply(reply, orders, state.hasEnded, old))
    if (!isPromise(work)) return
    const commit = Promise.resolve(work).finally(() => this.#commits.delete(state))
    this.#commits.set(state, commit)
    return commit
  }

  /** `old` are the cookies of other libraries that the request carries. A session of this one replaces them. */
  #apply(
    reply: FastifyReply,
    orders: readonly CookieOrder[],
    hasEnded: boolean,
    old: readonly GivenCookie[]
  ): void {
    if (orders.length === 0 || areHeadersSent(reply)) return
    if (hasEnded) this.#cookies.clearSiteData(reply)
    if (orders.some(({ cookie }) => cookie === 'session')) this.#oldCookies.clear(reply, old, hasEnded)
    this.#applyOrders(reply, orders)
  }

  #applyOrders(reply: FastifyReply, orders: readonly CookieOrder[]): void {
    const { session, visitor } = this.#cookies
    for (const order of orders) {
      if (order.kind === 'clear') {
        if (order.cookie === 'session') session.clear(reply)
      } else if (order.cookie === 'session') {
        session.write(reply, order.value, order.expiresAt, order.persistent)
      } else {
        visitor.write(reply, order.value, Date.now() + this.options.maxAge, this.options.cookie.persistent)
      }
    }
    // A stored session, or its end, replaces what the visitor cookie holds.
    const keepsVisitor = orders.some((order) => order.cookie === 'visitor' && order.kind === 'set')
    if (!keepsVisitor && this.stateOf(reply.request).visitorCookies().length > 0) visitor.clear(reply)
  }
}

/** If the browser may have a session that was not loaded, changes must not create a second session. */
function modeOf({ phase, error }: RequestState, config: false | 'readonly' | undefined): SessionMode {
  if (phase === 'unloaded') return 'unloaded'
  if (phase === 'failed' || error !== undefined) return 'detached'
  if (config === false) return 'off'
  // A not-found handler that a route without a session has called.
  if (phase === 'off') return 'detached'
  return config === 'readonly' ? 'readonly' : 'open'
}

/** Returns false after the headers have been sent or if the reply is a 101, which Fastify does not write. */
function canSetCookie(reply: FastifyReply, moment: Moment): boolean {
  const { upgrade } = reply.request.raw as { upgrade?: boolean }
  return !areHeadersSent(reply) && !(upgrade === true && moment === 'early')
}
