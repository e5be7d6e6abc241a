import type { FastifyReply, FastifyRequest } from 'fastify'
import type { SessionStoreError } from '../errors.js'
import type { Saver, Session } from '../session/session.js'
import type { Awaitable } from '../types.js'
import type { RequestSessions } from './request-sessions.js'

/** Key of a request's state. */
export const kState = Symbol('fastify-sesame.state')

/**
 * `unloaded`: the `onRequest` hook has not run yet. `loaded`: the session was looked up. `off`: the route has no session.
 * `failed`: the session was not loaded, because the store failed or the request comes from another site. `late`: the
 * reply was sent and nothing had used the session.
 */
export type Phase = 'unloaded' | 'loaded' | 'off' | 'failed' | 'late'

/** All state of one request's session. A single object, because each request decorator costs time on every request. */
export class RequestState implements Saver {
  readonly #sessions: RequestSessions
  phase: Phase = 'unloaded'
  /** The loaded session, or the new session that `request.session` created. */
  session: Session | undefined
  /** The error of the store, if the request must fail because its session could not be loaded. */
  error: SessionStoreError | undefined
  /** The pending load, shared by concurrent callers. */
  loading: Awaitable<void> | undefined = undefined
  /** True if the cookie was validly signed but its session has ended, even after a new session is opened. */
  ended = false
  /** True if the application accessed the session. */
  used = false
  /** Set by the `onRequest` hook, for `session.save()`. */
  reply: FastifyReply | undefined

  constructor(sessions: RequestSessions) {
    this.#sessions = sessions
  }

  save(): Promise<void> {
    return this.#sessions.saveEarly(this)
  }
}

declare module 'fastify' {
  interface FastifyRequest {
    /** @internal */
    [kState]: RequestState | null
  }
  interface FastifyContextConfig {
    /** `false`: the route has no session. `'readonly'`: it is loaded and never written. Default: loaded and saved. */
    session?: false | 'readonly'
    /** `false` exempts this route from CSRF protection. */
    csrf?: false
  }
}

export function sessionConfigOf(request: FastifyRequest): false | 'readonly' | undefined {
  return request.routeOptions.config.session
}
