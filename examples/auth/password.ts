import type { FastifyInstance, FastifyRequest } from 'fastify'
import { fieldOf } from './form.js'
import { confirmedWithin } from './guard.js'
import { PASSWORD_LIMIT } from './login.js'
import { page } from './page.js'
import { deviceOf } from './sign-outs.js'

const MIN_LENGTH = 8
/** A user can open the form for this many seconds after entering the password. */
const OPEN = 300
/** A user who has opened the form in time has longer to fill it in. */
const SEND = 900

interface Problems {
  current?: string
  next?: string
  repeated?: string
}

/** Registers the page on which a user changes the password. The change ends the user's other sessions. */
export async function passwordRoutes(app: FastifyInstance): Promise<void> {
  app.get('/password', confirmedWithin(OPEN), (request, reply) =>
    page(request, reply, 'password', { problems: {}, minLength: MIN_LENGTH })
  )

  const config = { rateLimit: PASSWORD_LIMIT }
  app.post('/password', { ...confirmedWithin(SEND), config }, async (request, reply) => {
    const { session, member } = request
    const problems = await problemsOf(request)
    if (Object.keys(problems).length > 0) {
      return page(request, reply.code(422), 'password', { problems, minLength: MIN_LENGTH })
    }
    await app.users.changePassword(member.id, fieldOf(request, 'next'))
    const reason = `Your password was changed on another device: ${deviceOf(session)}.`
    await app.signOuts.endAll(member.id, reason, session)
    session.regenerate()
    session.setFlash('success', 'Your password was changed. All other devices are signed out.')
    return reply.redirect('/profile', 303)
  })
}

async function problemsOf(request: FastifyRequest): Promise<Problems> {
  const [current, next, repeated] = ['current', 'next', 'repeated'].map((name) => fieldOf(request, name))
  const { server, member } = request
  const problems: Problems = {}
  if ((await server.users.authenticate(member.username, current as string)) === undefined) {
    problems.current = 'This is not your current password.'
  }
  if ((next as string).length < MIN_LENGTH) {
    problems.next = `The new password needs at least ${MIN_LENGTH} characters.`
  } else if (next !== repeated) {
    problems.repeated = 'The two new passwords are not the same.'
  }
  return problems
}
