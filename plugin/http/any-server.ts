import type { FastifyReply, FastifyRequest, RawServerBase, RouteGenericInterface } from 'fastify'

/** A request to any Fastify server, with HTTP/1 or HTTP/2 and with any logger. */
export type AnyRequest<Route extends RouteGenericInterface = RouteGenericInterface> = FastifyRequest<
  Route,
  RawServerBase
>
export type AnyReply<Route extends RouteGenericInterface = RouteGenericInterface> = FastifyReply<
  Route,
  RawServerBase
>
