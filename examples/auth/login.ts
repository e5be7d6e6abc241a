import type { FastifyInstance, FastifyRequest } from 'fastify'
import { browserOf } from './browser.js'
import { fieldOf } from './form.js'
import { signedIn } from './guard.js'
import { page } from './page.js'
import { DEMO_ACCOUNTS, type User } from './users.js'

const DAY = 86_400
/** How long the session of a user who ticks "Keep me signed in" lives, in seconds. */
const REMEMBERED = { maxAge: 30 * DAY, idleTimeout: 7 * DAY }
/** Limits how often an address can try a password. */
export const PASSWORD_LIMIT = { max: 10, timeWindow: '1 minute' }
const MAX_USERNAME_LENGTH = 64

/** Registers the routes for login, for confirming the password, and for logout. */
export async function loginRoutes(app: FastifyInstance): Promise<void> {
  app.get('/login', async (request, reply) => {
    const { session } = request
    if (session.has('userId')) return reply.redirect('/dashboard')
    const reason = app.signOuts.takeReason(request)
    if (reason !== undefined) session.setFlash('error', reason)
    return page(request, reply, 'login', {
      username: session.getFlash('username') ?? '',
      accounts: DEMO_ACCOUNTS
    })
  })

  // A cart stores a session before the login. Then a second click on "Sign in" would have no valid token, because the
  // first click has changed the session. The browser still says which site the form is from, and that is checked.
  const config = { csrf: 'origin', rateLimit: PASSWORD_LIMIT } as const
  app.post('/login', { config }, async (request, reply) => {
    const { session } = request
    const username = fieldOf(request, 'username')
    const user = await app.users.authenticate(username, fieldOf(request, 'password'))
    if (user === undefined) {
      session.setFlash('problem', 'Wrong username or password.')
      session.setFlash('username', username.slice(0, MAX_USERNAME_LENGTH))
      return reply.redirect('/login', 303)
    }
    startSession(request, user, fieldOf(request, 'remember') === 'on')
    session.setFlash('success', 'Welcome back!')
    return reply.redirect(session.takeReturnTo('/dashboard'), 303)
  })

  app.get('/confirm', signedIn(), (request, reply) => page(request, reply, 'confirm'))

  const limited = { config: { rateLimit: PASSWORD_LIMIT } }
  app.post('/confirm', { ...signedIn(), ...limited }, async (request, reply) => {
    const { session, member } = request
    const user = await app.users.authenticate(member.username, fieldOf(request, 'password'))
    if (user === undefined) {
      return page(request, reply.code(422), 'confirm', { problem: 'This is not your password.' })
    }
    startSession(request, user, session.get('isRemembered') === true)
    return reply.redirect(session.takeReturnTo('/dashboard'), 303)
  })

  app.post('/logout', async ({ session }, reply) => {
    session.invalidate()
    session.setFlash('success', 'You are logged out.')
    return reply.redirect('/login', 303)
  })
}

function startSession({ session, headers, ip }: FastifyRequest, user: User, isRemembered: boolean): void {
  session.login(user.id, isRemembered ? REMEMBERED : {})
  session.set('isRemembered', isRemembered)
  session.set('browser', browserOf(headers['user-agent']))
  session.set('address', ip)
}
