import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import { requireAuth } from 'fastify-sesame'
import type { User, Users } from './users.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The signed-in user. It is set only on routes that use `signedIn`. */
    member: User
  }
}

/**
 * Returns the options of a route that only signed-in users can open. The route sets `request.member`, and redirects other
 * visitors to the login page.
 */
export function signedIn(users: Users): { preHandler: preHandlerAsyncHookHandler[] } {
  async function findUser(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
    const member = users.find(request.session.get('userId') as string)
    if (member !== undefined) {
      request.member = member
      return
    }
    // The account no longer exists, so its session must end.
    request.session.invalidate()
    return reply.redirect('/login', 303)
  }
  return { preHandler: [requireAuth(), findUser] }
}
