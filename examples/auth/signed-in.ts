import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import { requireAuth } from 'fastify-sesame'
import type { User, Users } from './users.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who is signed in; only on routes behind `signedIn`. */
    user: User
  }
}

/** What a route for signed-in users needs: they are sent to the login page where nobody is, and are `request.user`. */
export function signedIn(users: Users): { preHandler: preHandlerAsyncHookHandler[] } {
  async function findUser(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
    const user = users.find(request.session.get('userId') as string)
    if (user !== undefined) {
      request.user = user
      return
    }
    // The account is gone, and the session with it.
    request.session.invalidate()
    return reply.redirect('/login', 303)
  }
  return { preHandler: [requireAuth(), findUser] }
}
