import { inspect } from 'node:util'
import type { FastifyContextConfig, FastifyReply, FastifyRequest } from 'fastify'
import { SessionOptionError, type SessionStoreError } from '../errors.js'
import { oneOf } from '../rules.js'
import type { Saver, Session } from '../session/session.js'
import type { SessionRequest } from '../session/context.js'
import type { Awaitable } from '../types.js'
import type { RequestSessions } from './request-sessions.js'

/** The key of the session state on a request. */
export const kState = Symbol('fastify-sesame.state')

/**
 * How far the session of a request has been loaded. `unloaded`: the `onRequest` hook has not run yet. `loaded`: the
 * session has been looked up. `off`: the route has no session. `failed`: the store failed, or the request was
 * refused before. `late`: the reply has been sent, before anything used the session.
 */
export type Phase = 'unloaded' | 'loaded' | 'off' | 'failed' | 'late'

/** The session state of a request. It is a single object, because each request decorator slows down all requests. */
export class RequestState implements Saver, SessionRequest {
  readonly #sessions: RequestSessions
  readonly #request: FastifyRequest
  /** The `Cookie` header. Kept, because the schema of a route can remove it from `request.headers`. */
  readonly cookieHeader: string | undefined
  phase: Phase = 'unloaded'
  /** The loaded session, or the new session that `request.session` created. */
  session: Session | undefined
  /** The error from the store, if the session could not be loaded and the request must fail. */
  error: SessionStoreError | undefined
  /** The load that is still running. Concurrent callers share it. */
  loading: Awaitable<void> | undefined = undefined
  /** True if a correctly signed cookie's session has ended. Stays true if the request creates a new session. */
  ended = false
  used = false
  /** True once an error page follows a commit. It cannot use up a flash message, because nothing is written any more. */
  commitIsOver = false
  /** True if the reply prints a CSRF token, so that no cache may keep it. */
  printsToken = false
  /** The reply that `session.save()` sets the cookie on. The `onRequest` hook assigns it. */
  reply: FastifyReply | undefined

  constructor(sessions: RequestSessions, request: FastifyRequest) {
    this.#sessions = sessions
    this.#request = request
    this.cookieHeader = request.headers.cookie
  }

  visitorCookies(): readonly string[] {
    return this.#sessions.visitorCookies(this.cookieHeader)
  }

  isPassive(): boolean {
    return this.commitIsOver || this.#request.method === 'HEAD' || isPrefetch(this.#request)
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
    /** `'readonly'` loads the session but never saves it. `false` does neither. The default is to do both. */
    session?: false | 'readonly'
    /**
     * `false` exempts this route from CSRF protection. `'origin'` checks the origin of its requests and no CSRF token.
     * A handler that reads the body itself can then call `request.verifyCsrf(token)`.
     */
    csrf?: false | 'origin'
  }
}

/** Returns true if the browser loads the page in advance and may never show it (Fetch Metadata, Sec-Purpose). */
export function isPrefetch({ headers }: FastifyRequest): boolean {
  return headers['sec-purpose']?.includes('prefetch') === true
}

/** The parts of a route's options, or of `request.routeOptions`, that `routeProblem` reads. */
interface Route {
  readonly method?: string | readonly string[] | undefined
  readonly url?: string | undefined
  readonly config?: FastifyContextConfig
}

const CONFIG_RULES = { session: oneOf(false, 'readonly'), csrf: oneOf(false, 'origin') }

/** Returns an error that names the route if its `config` has an unknown value, which would have no effect. */
export function routeProblem(route: Route): SessionOptionError | undefined {
  return configProblem(route, 'session') ?? configProblem(route, 'csrf')
}

function configProblem({ method, url, config = {} }: Route, key: 'session' | 'csrf') {
  const value = own(config, key)
  if (value === undefined || CONFIG_RULES[key].accepts(value)) return undefined
  const name = url === undefined ? 'the not-found handler' : `the route ${[method].flat().join()} ${url}`
  const problem = `of ${name} is ${inspect(value, { depth: 0 })}, but must be ${CONFIG_RULES[key].want}`
  return new SessionOptionError(`config.${key}`, problem)
}

export function sessionConfigOf({ routeOptions }: FastifyRequest): FastifyContextConfig['session'] {
  return own(routeOptions.config, 'session')
}

export function csrfConfigOf({ routeOptions }: FastifyRequest): FastifyContextConfig['csrf'] {
  return own(routeOptions.config, 'csrf')
}

/** Ignores inherited values, so that a polluted `Object.prototype` cannot turn off the protection of every route. */
function own<K extends 'session' | 'csrf'>(
  config: FastifyContextConfig,
  key: K
): FastifyContextConfig[K] | undefined {
  return Object.hasOwn(config, key) ? config[key] : undefined
}
