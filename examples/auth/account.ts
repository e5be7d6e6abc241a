import type { FastifyInstance } from 'fastify'
import { browserOf } from './browser.js'
import { dashboardPage, loginPage, profilePage } from './pages.js'
import { asksForJson, fieldOf, frameOf, sendPage } from './reply.js'
import { signedIn } from './signed-in.js'
import type { Users } from './users.js'

const MAX_NAME_LENGTH = 50
const DAY = 86_400
/** How long the session of a user who ticks "Keep me signed in" lives, in seconds. */
const REMEMBERED = { maxAge: 30 * DAY, idleTimeout: 7 * DAY }

/** Registers the routes for login and logout, and the pages of the signed-in user. */
export async function accountRoutes(app: FastifyInstance, { users }: { users: Users }): Promise<void> {
  app.get('/', async ({ session }, reply) => {
    return reply.redirect(session.has('userId') ? '/dashboard' : '/login')
  })

  app.get('/login', async (request, reply) => {
    if (request.session.has('userId')) return reply.redirect('/dashboard')
    return sendPage(reply, loginPage(frameOf(request, reply)))
  })

  app.post('/login', async (request, reply) => {
    const { session, headers } = request
    const user = await users.authenticate(fieldOf(request, 'username'), fieldOf(request, 'password'))
    if (user === undefined) {
      session.setFlash('error', 'Invalid credentials')
      return reply.redirect('/login', 303)
    }
    session.login(user.id, fieldOf(request, 'remember') === 'on' ? REMEMBERED : {})
    session.set('username', user.username)
    session.set('role', user.role)
    session.set('browser', browserOf(headers['user-agent']))
    session.setFlash('success', 'Welcome back!')
    return reply.redirect(session.takeReturnTo('/dashboard'), 303)
  })

  app.post('/logout', async ({ session }, reply) => {
    session.invalidate()
    session.setFlash('success', 'You are logged out.')
    return reply.redirect('/login', 303)
  })

  app.get('/dashboard', signedIn(users), async (request, reply) => {
    const { session, member } = request
    if (asksForJson(request)) {
      return { message: session.getFlash('success') ?? 'Dashboard', user: session.get('username') }
    }
    const { authenticatedAt, expiresAt } = session
    return sendPage(
      reply,
      dashboardPage(frameOf(request, reply), member, authenticatedAt as number, expiresAt)
    )
  })

  app.get('/profile', signedIn(users), async (request, reply) => {
    return sendPage(reply, profilePage(frameOf(request, reply), request.member.name))
  })

  app.post('/profile', signedIn(users), async (request, reply) => {
    const name = fieldOf(request, 'name').trim()
    const problem = problemOf(name)
    if (problem !== undefined) {
      return sendPage(reply.code(422), profilePage(frameOf(request, reply), name, problem))
    }
    users.rename(request.member.id, name)
    request.session.setFlash('success', 'Your profile was saved.')
    return reply.redirect('/profile', 303)
  })
}

function problemOf(name: string): string | undefined {
  if (name === '') return 'Please enter a name.'
  if (name.length > MAX_NAME_LENGTH) return `A name can have at most ${MAX_NAME_LENGTH} characters.`
  return /\p{C}/u.test(name) ? 'A name must not contain control characters.' : undefined
}
