import type { FastifyInstance } from 'fastify'
import { sessionsPage } from './pages.js'
import { frameOf, sendPage } from './reply.js'
import { signedIn } from './signed-in.js'
import type { Users } from './users.js'

interface EndRoute {
  Params: { id: string }
}

/** The list of the user's sessions, and how to end them. */
export async function sessionRoutes(app: FastifyInstance, { users }: { users: Users }): Promise<void> {
  const { sessionManager } = app

  app.get('/sessions', signedIn(users), async (request, reply) => {
    const list = await sessionManager.list(request.user.id)
    return sendPage(reply, sessionsPage(frameOf(request, reply), list, request.session.id))
  })

  app.post<EndRoute>(
    '/sessions/:id/end',
    signedIn(users),
    async ({ session, user, params: { id } }, reply) => {
      // An id is no secret, so whose session it is must be asked. A foreign one is answered like one that is not there.
      const list = await sessionManager.list(user.id)
      const isOther = list.some((info) => info.id === id) && id !== session.id
      if (isOther && (await sessionManager.revoke(id))) session.setFlash('success', 'The session is ended.')
      else session.setFlash('error', 'There is no such session any more.')
      return reply.redirect('/sessions', 303)
    }
  )

  app.post('/sessions/end-others', signedIn(users), async ({ session, user }, reply) => {
    const count = await sessionManager.revokeAll(user.id, { except: session })
    session.setFlash('success', count === 1 ? 'One session is ended.' : `${count} sessions are ended.`)
    return reply.redirect('/sessions', 303)
  })
}
