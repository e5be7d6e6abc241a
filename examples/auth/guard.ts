import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import { requireAuth, type RequireAuthOptions } from 'fastify-sesame'
import type { User } from './users.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The signed-in user. It is set only on routes that use a guard of this file. */
    member: User
  }
}

interface Guard {
  readonly preHandler: preHandlerAsyncHookHandler[]
}

/**
 * Returns the options of a route that only signed-in users can open. The route sets `request.member`, and redirects other
 * visitors to the login page.
 */
export function signedIn(options: RequireAuthOptions = {}): Guard {
  return { preHandler: [requireAuth({ message: 'Please sign in to continue.', ...options }), findMember] }
}

/** Returns the options of a route that only administrators can open. Other users get a 403. */
export function admin(): Guard {
  // The role is read from the account and not from the session, so that a role that is taken away ends at once.
  return signedIn({
    check: (session, { server }) => server.users.find(session.get('userId') ?? '')?.role === 'admin'
  })
}

/**
 * Returns the options of a route whose user must have entered the password within the last `seconds`. Other users are
 * asked for their password, and then come back to the route.
 */
export function confirmedWithin(seconds: number): Guard {
  const confirmed = requireAuth({
    freshWithin: seconds,
    loginPath: '/confirm',
    message: 'Please confirm that it is you.'
  })
  return { preHandler: [...signedIn().preHandler, confirmed] }
}

async function findMember(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
  const member = request.server.users.find(request.session.get('userId') as string)
  if (member !== undefined) {
    request.member = member
    return
  }
  // The account no longer exists, so its session must end.
  request.session.invalidate()
  return reply.redirect('/login', 303)
}
