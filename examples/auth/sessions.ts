import type { FastifyInstance } from 'fastify'
import { sessionsPage } from './pages.js'
import { frameOf, sendPage } from './reply.js'
import { signedIn } from './signed-in.js'
import type { Users } from './users.js'

interface EndRoute {
  Params: { id: string }
}

/** Registers the page that lists the user's sessions, and the routes that end them. */
export async function sessionRoutes(app: FastifyInstance, { users }: { users: Users }): Promise<void> {
  const { sessionManager } = app

  app.get('/sessions', signedIn(users), async (request, reply) => {
    const list = await sessionManager.list(request.member.id, { data: true })
    return sendPage(reply, sessionsPage(frameOf(request, reply), list, request.session.id))
  })

  app.post<EndRoute>(
    '/sessions/:id/end',
    signedIn(users),
    async ({ session, member, params: { id } }, reply) => {
      // With `userId`, nobody can end the session of another user, or find out whether it exists.
      const isEnded = id !== session.id && (await sessionManager.revoke(id, { userId: member.id }))
      if (isEnded) session.setFlash('success', 'The session was ended.')
      else session.setFlash('error', 'That session no longer exists.')
      return reply.redirect('/sessions', 303)
    }
  )

  app.post('/sessions/end-others', signedIn(users), async ({ session, member }, reply) => {
    const count = await sessionManager.revokeAll(member.id, { except: session })
    session.setFlash('success', count === 1 ? 'One session was ended.' : `${count} sessions were ended.`)
    return reply.redirect('/sessions', 303)
  })
}
