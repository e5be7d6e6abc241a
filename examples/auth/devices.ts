import type { FastifyInstance } from 'fastify'
import { signedIn } from './guard.js'
import { page } from './page.js'
import { deviceOf } from './sign-outs.js'

interface EndRoute {
  Params: { id: string }
}

/** Registers the page that lists the devices on which the user is signed in, and the routes that end their sessions. */
export async function deviceRoutes(app: FastifyInstance): Promise<void> {
  app.get('/devices', signedIn(), async (request, reply) => {
    const { session, member } = request
    const list = await app.sessionManager.list(member.id, { data: true })
    const here = list.filter(({ id }) => id === session.id)
    const others = list.filter(({ id }) => id !== session.id)
    return page(request, reply, 'devices', { here, others })
  })

  app.post<EndRoute>('/devices/:id/end', signedIn(), async ({ session, member, params: { id } }, reply) => {
    const reason = `You were signed out from another device: ${deviceOf(session)}.`
    const isEnded = id !== session.id && (await app.signOuts.end(id, member.id, reason))
    if (isEnded) session.setFlash('success', 'The session was ended.')
    else session.setFlash('problem', 'That session no longer exists.')
    return reply.redirect('/devices', 303)
  })

  app.post('/devices/end-others', signedIn(), async ({ session, member }, reply) => {
    const reason = `You were signed out from another device: ${deviceOf(session)}.`
    const count = await app.signOuts.endAll(member.id, reason, session)
    session.setFlash('success', count === 1 ? 'One session was ended.' : `${count} sessions were ended.`)
    return reply.redirect('/devices', 303)
  })
}
