import type { FastifyInstance } from 'fastify'
import { admin } from './guard.js'
import { page } from './page.js'

interface UserRoute {
  Params: { id: string }
}

/** Registers the page on which an administrator sees all users, and can sign each of them out everywhere. */
export async function adminRoutes(app: FastifyInstance): Promise<void> {
  app.get('/admin', admin(), async (request, reply) => {
    const rows = app.users.all().map(async (user) => {
      const { length } = await app.sessionManager.list(user.id)
      return { ...user, sessions: length, isSelf: user.id === request.member.id }
    })
    return page(request, reply, 'admin', { users: await Promise.all(rows) })
  })

  app.post<UserRoute>('/admin/users/:id/sign-out', admin(), async ({ session, params }, reply) => {
    const user = app.users.find(params.id)
    if (user === undefined) return reply.callNotFound()
    await app.signOuts.endAll(user.id, 'An administrator signed you out.', session)
    session.setFlash('success', `${user.name} was signed out everywhere.`)
    return reply.redirect('/admin', 303)
  })
}
