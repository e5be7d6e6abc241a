import type { FastifyInstance, FastifyRequest } from 'fastify'
import { fieldOf } from './form.js'
import { signedIn } from './guard.js'
import { page } from './page.js'

const MAX_NAME_LENGTH = 50

/** Registers the home page, the dashboard and the profile. */
export async function accountRoutes(app: FastifyInstance): Promise<void> {
  app.get('/', async ({ session }, reply) => {
    return reply.redirect(session.has('userId') ? '/dashboard' : '/login')
  })

  app.get('/dashboard', signedIn(), async (request, reply) => {
    const { session, member } = request
    if (asksForJson(request)) {
      return { message: session.getFlash('success') ?? 'Dashboard', user: member.username }
    }
    const { authenticatedAt, expiresAt } = session
    return page(request, reply, 'dashboard', { since: authenticatedAt, until: expiresAt })
  })

  app.get('/profile', signedIn(), async (request, reply) => {
    return page(request, reply, 'profile', { name: request.member.name })
  })

  app.post('/profile', signedIn(), async (request, reply) => {
    const name = fieldOf(request, 'name').trim()
    const problem = problemOf(name)
    if (problem !== undefined) return page(request, reply.code(422), 'profile', { name, problem })
    app.users.rename(request.member.id, name)
    request.session.setFlash('success', 'Your profile was saved.')
    return reply.redirect('/profile', 303)
  })
}

/** Returns true if the client accepts JSON but not HTML. A browser accepts HTML when it opens a page. */
function asksForJson({ headers: { accept = '' } }: FastifyRequest): boolean {
  return accept.includes('application/json') && !accept.includes('text/html')
}

function problemOf(name: string): string | undefined {
  if (name === '') return 'Please enter a name.'
  if (name.length > MAX_NAME_LENGTH) return `A name can have at most ${MAX_NAME_LENGTH} characters.`
  return /\p{C}/u.test(name) ? 'A name must not contain control characters.' : undefined
}
