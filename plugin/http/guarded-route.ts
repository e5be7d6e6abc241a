import type {
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  RawServerBase,
  RawServerDefault,
  RouteGenericInterface
} from 'fastify'
import { SessionOptionError, SessionUsageError } from '../errors.js'
import { ownOptions } from '../own-options.js'
import type { SessionData, SessionValue } from '../types.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import { csrfProtection } from './csrf.js'
import { requireAuth, userKeyOf, type AuthPreHandler, type RequireAuthOptions } from './require-auth.js'

type Declared<Key> = Key extends keyof SessionData ? SessionData[Key] : unknown

/** The id of a signed-in user: the type that `SessionData` declares at `Key`, or a string or number if it declares none. */
export type UserId<Key extends string = 'userId'> =
  unknown extends Declared<Key> ? string | number : NonNullable<SessionValue<Key>>

/**
 * The request that a handler of `guarded` receives. `Route` is the route's types, as for `FastifyRequest`. `Key` is the
 * option `userKey`.
 */
export type SignedInRequest<
  Route extends RouteGenericInterface = RouteGenericInterface,
  Key extends string = 'userId',
  Server extends RawServerBase = RawServerDefault
> = FastifyRequest<Route, Server> & { readonly userId: UserId<Key> }

/** The options of `guarded`: those of `requireAuth`, and `csrf`. */
export interface GuardedOptions<Key extends string = string> extends RequireAuthOptions {
  readonly userKey?: Key
  /** `true` checks the CSRF token first, as the preHandler `csrfProtection` does. Default: `false`. */
  readonly csrf?: boolean
}

/** The part of a route's options that `guarded` returns. */
export interface GuardedRoute<Route extends RouteGenericInterface, Result> {
  readonly preHandler: AuthPreHandler
  readonly handler: (request: AnyRequest<Route>, reply: AnyReply<Route>) => Result
}

/**
 * Returns the `preHandler` and the `handler` of a route that only signed-in users can use. The handler's request has the
 * user's id as `userId`. Example: `app.get('/me', guarded(async ({ userId }) => userId))`. The options are those of
 * `requireAuth`, and `csrf: true` for a route that changes something.
 * @throws {SessionOptionError} immediately, if the handler is not a function, or if an option is wrong or unknown.
 * @throws {SessionUsageError} `SESSION_GUARD_NOT_CALLED` at each request, if the route has another `preHandler` instead.
 */
export function guarded<
  Route extends RouteGenericInterface = RouteGenericInterface,
  Result = unknown,
  Key extends string = 'userId',
  Server extends RawServerBase = RawServerDefault
>(
  handler: (
    this: FastifyInstance,
    request: SignedInRequest<Route, Key, Server>,
    reply: FastifyReply<Route, Server>
  ) => Result,
  options: GuardedOptions<Key> = {}
): GuardedRoute<Route, Result> {
  const { csrf = false, ...ofGuard } = ownOptions(options)
  const guard = requireAuth(ofGuard)
  if (typeof csrf !== 'boolean') throw SessionOptionError.wrong('guarded.csrf', csrf, 'true or false')
  if (typeof handler !== 'function') throw SessionOptionError.wrong('guarded.handler', handler, 'a function')
  const { userKey } = ofGuard
  const passed = new WeakSet<object>()
  return {
    async preHandler(request, reply) {
      // A forged request gets a 403, and neither a redirect nor a message.
      if (csrf) csrfProtection(request, reply, () => undefined)
      await guard(request, reply)
      if (!reply.sent) passed.add(request)
    },
    handler(this: FastifyInstance, request, reply) {
      // A route that spreads this object and then sets a preHandler of its own would be open to everybody.
      if (!passed.has(request)) throw notGuarded()
      const value = request.session.get(userKeyOf(request, userKey))
      Object.defineProperty(request, 'userId', { value })
      return handler.call(
        this,
        request as SignedInRequest<Route, Key, Server>,
        reply as FastifyReply<Route, Server>
      )
    }
  }
}

function notGuarded(): SessionUsageError {
  return new SessionUsageError(
    'SESSION_GUARD_NOT_CALLED',
    'The preHandler of guarded() was replaced: put guarded() last, and other preHandlers in a hook or in preValidation'
  )
}
