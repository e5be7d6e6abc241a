import type { FastifyReply, FastifyRequest } from 'fastify'
import { isPromise, then } from '../awaitable.js'
import { Committer } from '../session/commit.js'
import { createCookie, varyByCookie, type CookieWriter, type SessionCookie } from './cookie.js'
import { channels } from '../diagnostics.js'
import { SessionStoreError, SessionUsageError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { end, reportFailures, type ReportedStore } from '../stores/guarded.js'
import { infoOf, type SessionInfo } from '../session/record.js'
import { isLive, type FoundSession } from '../session/plan.js'
import { internals, Session, type SessionHost, type SessionMode } from '../session/session.js'
import { createTokens, type Tokens, type VerifiedToken } from '../cookies/tokens.js'
import type { Awaitable, SessionRecord } from '../types.js'

/** Where the plugin keeps what it knows of a request. */
export const kState = Symbol('fastify-sesame.state')

/**
 * A request's session: a Session, or why there is none. `null`: not loaded yet. `anonymous`: no cookie of a live session.
 * `off`: a `session: false` route. `failed`: the store did not answer, or was not asked because the request comes from
 * elsewhere. A SessionStoreError: it did not answer, and nothing may go on without it. `late`: the reply is out, and
 * nobody had asked.
 */
export type SessionState = Session | null | 'anonymous' | 'off' | 'failed' | 'late' | SessionStoreError

/** One object, because Fastify sets each decorator of a request anew for every request. */
export interface RequestState {
  session: SessionState
  /** A load that is under way: whoever asks meanwhile waits for the same. */
  loading: Awaitable<void>
  /** Whether the cookie was ours and its session is over; stays so when a new session is opened. */
  ended: boolean
  /** Whether the application looked at the session. */
  used: boolean
  /** The request's reply, for `session.save()`. */
  reply: FastifyReply | null
}

declare module 'fastify' {
  interface FastifyRequest {
    [kState]: RequestState | null
  }
  interface FastifyContextConfig {
    /** `false`: the route has no session. `'readonly'`: it is loaded and never written. Default: loaded and saved. */
    session?: false | 'readonly'
    /** `false` exempts this route from CSRF protection. */
    csrf?: false
  }
}

/** The state of a request, begun where it has none. */
export function stateOf(request: FastifyRequest): RequestState {
  return (request[kState] ??= { session: null, loading: undefined, ended: false, used: false, reply: null })
}

/** Loads, saves and ends sessions: the only part that talks to the store. */
export class SessionManager implements SessionHost {
  readonly options: ResolvedOptions
  readonly tokens: Tokens
  readonly #store: ReportedStore
  readonly #cookie: SessionCookie
  readonly #committer: Committer

  constructor(options: ResolvedOptions, serialize: CookieWriter) {
    this.options = options
    this.tokens = createTokens(options.secrets, options.idLength)
    this.#store = reportFailures(options.store, options.storeTimeout)
    this.#cookie = createCookie(options, serialize)
    this.#committer = new Committer(options, this.tokens, this.#store, this.#cookie)
  }

  /** The request's live session, or `undefined` for a visitor who has none. Loads it where `onRequest` has not. */
  get(request: FastifyRequest): Awaitable<Session | undefined> {
    return then(this.load(request), () => {
      const state = stateOf(request)
      state.used = true
      const { session } = state
      return session instanceof Session && !session.isNew ? session : undefined
    })
  }

  /** The request's session; a new, empty one for a visitor who has none. */
  getOrCreate(request: FastifyRequest): Awaitable<Session> {
    return then(this.load(request), () => this.open(request))
  }

  /** Writes what changed and puts the cookie on the reply. A second time nothing happens: a request commits once. */
  save(session: Session, reply: FastifyReply): Awaitable<void> {
    varyByCookie(reply)
    return this.#committer.commit(session, reply, 'early')
  }

  /** Ends the session and clears its cookie: a logout. */
  destroy(session: Session, reply: FastifyReply): Awaitable<void> {
    session.invalidate()
    return this.save(session, reply)
  }

  /** Removes expired sessions from the store; how many went, 0 where the store does that by itself. */
  cleanup(): Awaitable<number> {
    return then(this.#store.cleanup(), (count) => {
      if (count > 0 && channels.expired.hasSubscribers) channels.expired.publish({ count })
      return count
    })
  }

  /**
   * The live sessions of a user, newest activity first.
   * @throws {SessionUsageError} `SESSION_STORE_UNSUPPORTED`, as `revokeAll` does, where the store cannot find by user.
   */
  list(userId: string | number): Awaitable<SessionInfo[]> {
    return then(this.#store.listByUser(String(userId)), (found) => {
      const live = found.filter(({ id, record }) => isLive(this.options, id, record))
      return live.map(({ id, record }) => infoOf(id, record)).sort((a, b) => b.lastAccessed - a.lastAccessed)
    })
  }

  /** Ends one session by its id; `false` when there was none. Requests that it is serving can no longer save. */
  revoke(id: string): Awaitable<boolean> {
    return end(this.#store, id)
  }

  /**
   * Ends all sessions of a user but `except`, an id or a session; how many ended. A session that was regenerated in this
   * request is known to the store by its old id still: give the session itself, not its id.
   */
  revokeAll(userId: string | number, { except }: { except?: string | Session } = {}): Awaitable<number> {
    const user = String(userId)
    const kept = except instanceof Session ? internals.storedId(except) : except
    return then(this.#store.destroyByUser(user, kept), (count) => {
      if (count > 0 && channels.destroyed.hasSubscribers) channels.destroyed.publish({ userId: user, count })
      return count
    })
  }

  /** @internal Closes the store. */
  async close(): Promise<void> {
    await this.#store.close()
  }

  /** @internal Sets the request's session, once. */
  load(request: FastifyRequest): Awaitable<void> {
    const state = stateOf(request)
    if (state.session instanceof SessionStoreError) throw state.session
    if (state.session !== null) return
    if (state.loading !== undefined) return state.loading
    const header = request.headers.cookie
    if (header === undefined) {
      state.session = 'anonymous'
      return
    }
    const { session } = request.routeOptions.config
    if (session === false) state.session = 'off'
    else return (state.loading = this.#loadCookie(request, header, session === 'readonly'))
  }

  /** @internal The session that `request.session` is. */
  open(request: FastifyRequest): Session {
    const state = stateOf(request)
    state.used = true
    if (state.session instanceof Session) return state.session
    const { session } = request.routeOptions.config
    if (session === false) {
      throw new SessionUsageError(
        'SESSION_OFF',
        'This route has config { session: false }: it has no session'
      )
    }
    if (state.session === null) return new Session(this, request, 'unloaded')
    const opened = new Session(this, request, modeOf(state.session, session === 'readonly'))
    if (state.session === 'late') internals.markCommitted(opened)
    return (state.session = opened)
  }

  /** @internal What `onSend` does: `undefined` when nothing is pending. */
  finish(request: FastifyRequest, reply: FastifyReply): Awaitable<void> {
    const state = stateOf(request)
    if (state.used) varyByCookie(reply)
    const { session } = state
    if (!(session instanceof Session)) {
      // What is set from now on would be lost, so it must throw.
      if (session !== null) state.session = 'late'
      return
    }
    if (internals.isCommitted(session)) this.#cookie.keepPrivate(reply)
    if (internals.changedSince(session)) {
      throw new SessionUsageError(
        'SESSION_COMMITTED',
        'An object of the session was changed in place after save()'
      )
    }
    return this.#committer.commit(session, reply, reply.statusCode >= 500 ? 'failed' : 'reply')
  }

  /** @internal Where no `onSend` comes any more: an end of the session holds, and nothing else. */
  abandon(request: FastifyRequest, reply: FastifyReply): Awaitable<void> {
    const { session } = stateOf(request)
    if (session instanceof Session) return this.#committer.commit(session, reply, 'failed')
  }

  /** @internal */
  async saveEarly(session: Session, request: FastifyRequest): Promise<void> {
    const { reply } = stateOf(request)
    if (reply === null) {
      if (!session.modified) return
      throw new SessionUsageError(
        'SESSION_NOT_LOADED',
        'save() needs the reply: call it after the onRequest hook of fastify-sesame, or use sessionManager.save()'
      )
    }
    await this.save(session, reply)
  }

  #loadCookie(request: FastifyRequest, header: string, readonly: boolean): Awaitable<void> {
    const tokens = this.#verified(header)
    if (tokens.length === 0) {
      stateOf(request).session = 'anonymous'
      return
    }
    try {
      const found = this.#find(tokens, 0)
      if (!isPromise(found)) return this.#opened(request, found, readonly)
      return found.then(
        (later) => this.#opened(request, later, readonly),
        (error: unknown) => this.#failed(request, error)
      )
    } catch (error) {
      this.#failed(request, error)
    }
  }

  #opened(request: FastifyRequest, found: FoundSession | undefined, readonly: boolean): void {
    const state = stateOf(request)
    state.ended = found === undefined
    state.session =
      found === undefined ? 'anonymous' : new Session(this, request, readonly ? 'readonly' : 'open', found)
  }

  #failed(request: FastifyRequest, error: unknown): void {
    const state = stateOf(request)
    state.session = 'failed'
    if (this.options.onStoreError !== 'fail') return
    if (error instanceof SessionStoreError) state.session = error
    throw error
  }

  #verified(header: string): VerifiedToken[] {
    const verified: VerifiedToken[] = []
    for (const value of this.#cookie.read(header)) {
      const token = this.tokens.verify(value)
      if (token !== undefined) verified.push(token)
      else if (channels.malformedCookie.hasSubscribers)
        channels.malformedCookie.publish({ reason: 'signature' })
    }
    return verified
  }

  /** The first of the tokens, from `index` on, that has a live session. */
  #find(tokens: readonly VerifiedToken[], index: number): Awaitable<FoundSession | undefined> {
    const token = tokens[index]
    if (token === undefined) return undefined
    const record = this.#store.get(token.id)
    if (isPromise(record))
      return record.then((later) => this.#live(token, later) ?? this.#find(tokens, index + 1))
    return this.#live(token, record) ?? this.#find(tokens, index + 1)
  }

  #live({ token, id, stale }: VerifiedToken, record: SessionRecord | undefined): FoundSession | undefined {
    if (record !== undefined && isLive(this.options, id, record)) {
      if (channels.loaded.hasSubscribers) channels.loaded.publish({ id, userId: record.userId })
      // Written out: a spread would give every request an object that V8 keeps as a dictionary.
      return { token, id, stale, record }
    }
    if (channels.expired.hasSubscribers) channels.expired.publish({ id })
    return undefined
  }
}

/** What is set begins no session where one may live that was not loaded, as on the 404 page of a `session: false` route. */
function modeOf(state: SessionState, readonly: boolean): SessionMode {
  if (state === 'failed' || state === 'off' || state instanceof SessionStoreError) return 'detached'
  return readonly ? 'readonly' : 'open'
}
