import { deepEqual, equal, match } from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import oauth2 from '@fastify/oauth2'
import { startProvider } from '../provider.js'

export const packages = ['@fastify/oauth2']
export const notes = [
  'By default, its state is in a cookie of its own. To keep it in the session, set `generateStateFunction` and `checkStateFunction`.',
  'The session cookie needs `sameSite: "lax"`, the default: the provider sends the user back from another site.'
]

const inSession = {
  generateStateFunction: async ({ session }) => {
    const state = randomUUID()
    session.set('state', state)
    return state
  },
  checkStateFunction: async ({ session, query }) =>
    query.state !== undefined && session.take('state') === query.state
}

async function startWithOauth({ start, closeLater }, options) {
  const provider = await startProvider()
  closeLater(provider)
  return start({
    register: (app) =>
      app.register(oauth2, {
        name: 'fake',
        credentials: {
          client: { id: 'id', secret: 'secret' },
          auth: { tokenHost: provider.url, tokenPath: '/token', authorizePath: '/authorize' }
        },
        startRedirectPath: '/login',
        callbackUri: ({ protocol, host }) => `${protocol}://${host}/callback`,
        cookie: { secure: false },
        ...options
      }),
    routes(app) {
      app.get('/callback', async (request, reply) => {
        const { token } = await app.fake.getAccessTokenFromAuthorizationCodeFlow(request, reply)
        request.session.login(token.user)
        return reply.redirect('/')
      })
      app.get('/', async ({ session }) => ({ userId: session.get('userId') ?? null, keys: session.keys() }))
    }
  })
}

/** Follows the redirects from `/login` to the provider and back. Returns the URL of the callback. */
async function authorize(browser) {
  const { location } = await browser.get('/login')
  return (await browser.get(location)).location
}

/** Runs a check with the state in a cookie and with the state in the session. */
function always(check) {
  return async (tools) => {
    for (const options of [{}, { pkce: 'S256' }, inSession]) await check(await startWithOauth(tools, options))
  }
}

export const checks = {
  'a login through the provider signs the user in': always(async (browser) => {
    const callback = await authorize(browser)
    match(callback, /[?&]state=/)
    equal((await browser.get(callback)).location, '/')
    const { userId, keys } = await browser.get()
    deepEqual({ userId, keys }, { userId: 'ada', keys: ['userId'] })
  }),

  'a callback with a wrong state or in another browser is refused': always(async (browser) => {
    const callback = await authorize(browser)
    const other = browser.copy()
    other.clear()
    equal((await other.get(callback)).status, 500)
    equal((await browser.get(callback.replace(/state=[^&]+/, 'state=wrong'))).status, 500)
    equal((await browser.get()).userId, null)
  })
}
