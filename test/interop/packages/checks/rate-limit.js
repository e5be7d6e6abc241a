import { equal } from 'node:assert/strict'
import rateLimit from '@fastify/rate-limit'

export const packages = ['@fastify/rate-limit']
export const notes = [
  'A `keyGenerator` can use `request.session` on every route. Do not use `session.id`: a visitor has another id in each request.',
  'For unknown paths, add `app.rateLimit()` to `setNotFoundHandler` as a preHandler.'
]

/** Visitors share the limit of their address. */
const keyGenerator = ({ session, ip }) => session.get('userId') ?? ip

const startWithLimit = (start, options) =>
  start({
    register: (app) => app.register(rateLimit, { max: 2, timeWindow: 60_000, keyGenerator, ...options }),
    routes(app) {
      app.post(
        '/login',
        { config: { rateLimit: false } },
        async ({ session, body }) => (session.login(body.name), {})
      )
      app.get('/', async () => ({}))
      app.setNotFoundHandler({ preHandler: app.rateLimit() }, async (_request, reply) =>
        reply.code(404).send({})
      )
    }
  })

const signIn = async (visitor, name) => {
  const browser = visitor.copy()
  await browser.post('/login', { name })
  return browser
}

async function statuses(browser, path, count = 3) {
  const seen = []
  for (let index = 0; index < count; index++) seen.push((await browser.get(path)).status)
  return seen.join(' ')
}

export const checks = {
  async 'each user has a limit, in all their sessions'({ start }) {
    for (const hook of ['onRequest', 'preHandler']) {
      const visitor = await startWithLimit(start, { hook })
      const [ada, bob, other] = [
        await signIn(visitor, 'ada'),
        await signIn(visitor, 'bob'),
        await signIn(visitor, 'ada')
      ]
      equal(await statuses(ada, '/'), '200 200 429')
      equal(await statuses(other, '/', 1), '429')
      equal(await statuses(bob, '/'), '200 200 429')
    }
  },

  async 'visitors share the limit of their address'({ start }) {
    const visitor = await startWithLimit(start)
    equal(await statuses(visitor, '/'), '200 200 429')
    equal(await statuses(visitor.copy(), '/', 1), '429')
  },

  async 'an unknown path is limited too'({ start }) {
    const visitor = await startWithLimit(start)
    equal(await statuses(visitor, '/missing'), '404 404 429')
  },

  async 'a refused request changes nothing in the session'({ start }) {
    const visitor = await startWithLimit(start)
    const ada = await signIn(visitor, 'ada')
    await statuses(ada, '/')
    equal((await ada.get('/')).setCookies.length, 0)
  }
}
