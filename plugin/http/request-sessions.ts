import type { FastifyReply, FastifyRequest } from 'fastify'
import { isPromise, then } from '../awaitable.js'
import { createTokens } from '../cookies/tokens.js'
import { SessionStoreError, SessionUsageError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { Committer, type CookieOrder } from '../session/commit.js'
import { createLoad, type Load } from '../session/load.js'
import type { FoundSession } from '../session/plan.js'
import { Session } from '../session/session.js'
import { SessionState, type SessionContext, type SessionMode } from '../session/state.js'
import type { GuardedStore } from '../stores/guarded.js'
import type { Awaitable } from '../types.js'
import { createCookie, varyByCookie, type CookieWriter, type SessionCookie } from './cookie.js'
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
  readonly #cookie: SessionCookie
  /** The running commits. A reply waits for the commit of its session, which may set a cookie on the reply. */
  readonly #commits = new WeakMap<SessionState, Promise<void>>()

  constructor(options: ResolvedOptions, store: GuardedStore, serialize: CookieWriter) {
    this.options = options
    this.context = { options, tokens: createTokens(options.secrets, options.idLength) }
    this.#load = createLoad(this.context, store)
    this.#committer = new Committer(this.context, store)
    this.#cookie = createCookie(options, serialize)
  }

  stateOf(request: FastifyRequest): RequestState {
    return (request[kState] ??= new RequestState(this))
  }

  /** Loads the session of a request. Later calls do not load it again. */
  load(request: FastifyRequest): Awaitable<void> {
    const state = this.stateOf(request)
    if (state.error !== undefined) throw state.error
    if (state.phase !== 'unloaded') return
    if (state.loading !== undefined) return state.loading
    const header = request.headers.cookie
    if (header !== undefined && sessionConfigOf(request) !== false)
      return (state.loading = this.#loadCookie(request, state, header))
    state.phase = header === undefined ? 'loaded' : 'off'
  }

  /** Gives a request that is refused before its session is loaded an empty session that is never saved. */
  skipLoad(request: FastifyRequest): void {
    const state = this.stateOf(request)
    if (state.phase === 'unloaded') state.phase = 'failed'
  }

  /** Returns the session for `request.session`. Creates a new session on the first use if none was loaded. */
  open(request: FastifyRequest): Session {
    const state = this.stateOf(request)
    state.used = true
    if (state.session !== undefined) return state.session
    const config = sessionConfigOf(request)
    if (config === false)
      throw new SessionUsageError(
        'SESSION_OFF',
        'This route has config { session: false }: it has no session'
      )
    const opened = this.#newSession(state, modeOf(state, config))
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
    if (internal.committed) this.#cookie.keepPrivate(reply)
    if (internal.mutatedAfterCommit())
      throw new SessionUsageError(
        'SESSION_COMMITTED',
        'An object of the session was changed in place after save()'
      )
    return this.#commit(session, reply, reply.statusCode >= 500 ? 'failed' : 'reply')
  }

  /** Runs when no more `onSend` hooks will follow. Applies a pending `invalidate()` and ignores all other changes. */
  abandon(request: FastifyRequest, reply: FastifyReply): Awaitable<void> {
    const { session } = this.stateOf(request)
    if (session !== undefined) return this.#commit(session, reply, 'failed')
  }

  #loadCookie(request: FastifyRequest, state: RequestState, header: string): Awaitable<void> {
    const mode = sessionConfigOf(request) === 'readonly' ? 'readonly' : 'open'
    try {
      const found = this.#load(this.#cookie.read(header))
      if (!isPromise(found)) return this.#loaded(state, found, mode)
      return found.then(
        (later) => this.#loaded(state, later, mode),
        (error: unknown) => this.#failed(state, error)
      )
    } catch (error) {
      this.#failed(state, error)
    }
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
    return new Session(new SessionState(this.context, mode, found), state)
  }

  #commit(session: Session, reply: FastifyReply, moment: Moment): Awaitable<void> {
    const state = Session.stateOf(session)
    if (state.committed) return this.#commits.get(state)
    const orders = this.#committer.commit(state, {
      failed: moment === 'failed',
      canSetCookie: () => canSetCookie(reply, moment)
    })
    const work = then(orders, (orders) => this.#apply(reply, orders))
    if (!isPromise(work)) return
    const commit = Promise.resolve(work).finally(() => this.#commits.delete(state))
    this.#commits.set(state, commit)
    return commit
  }

  #apply(reply: FastifyReply, orders: readonly CookieOrder[]): void {
    for (const order of orders) {
      if (order.kind === 'set') this.#cookie.write(reply, order.value, order.expiresAt)
      else if (!reply.raw.headersSent) this.#cookie.clear(reply)
    }
  }
}

/** If the browser may have a session that was not loaded, changes must not create a second session. */
function modeOf({ phase, error }: RequestState, config: 'readonly' | undefined): SessionMode {
  if (phase === 'unloaded') return 'unloaded'
  if (phase === 'failed' || phase === 'off' || error !== undefined) return 'detached'
  return config === 'readonly' ? 'readonly' : 'open'
}

/** Returns false after the headers have been sent or if the reply is a 101, which Fastify does not write. */
function canSetCookie({ raw, request }: FastifyReply, moment: Moment): boolean {
  const { upgrade } = request.raw as { upgrade?: boolean }
  return !raw.headersSent && !(upgrade === true && moment === 'early')
}
