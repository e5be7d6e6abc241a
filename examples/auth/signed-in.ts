import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import { requireAuth } from 'fastify-sesame'
import type { User, Users } from './users.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The signed-in user. Only set on routes that use `signedIn`. */
    user: User
  }
}

/** Returns the options of a route for signed-in users: it sets `request.user` and sends others to the login page. */
export function signedIn(users: Users): { preHandler: preHandlerAsyncHookHandler[] } {
  async function findUser(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
    const user = users.find(request.session.get('userId') as string)
    if (user !== undefined) {
      request.user = user
      return
    }
    // The account no longer exists, so its session must end.
    request.session.invalidate()
    return reply.redirect('/login', 303)
  }
  return { preHandler: [requireAuth(), findUser] }
}
