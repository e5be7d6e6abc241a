import { deepEqual, equal } from 'node:assert/strict'
import grant from 'grant'
import { startProvider } from '../provider.js'

export const packages = ['grant']
export const notes = [
  'Set `properties: true`, because Grant writes `session.grant = …`. Otherwise its routes throw an error that says so.',
  'Its state and the answer of the provider stay at the key `grant`. In the callback, use `session.take("grant")`.'
]

async function startWithGrant({ start, closeLater }, session = { properties: true }) {
  const provider = await startProvider()
  closeLater(provider)
  return start({
    session,
    register: (app) =>
      app.register(
        grant.fastify({
          defaults: { transport: 'session' },
          fake: {
            oauth: 2,
            key: 'id',
            secret: 'secret',
            authorize_url: `${provider.url}/authorize`,
            access_url: `${provider.url}/token`,
            dynamic: ['redirect_uri'],
            state: true,
            pkce: true,
            callback: '/signed-in'
          }
        })
      ),
    routes(app) {
      // The port is not known before, so it comes with the request. Grant keeps it in `session.grant.dynamic`.
      app.get('/login', async ({ protocol, host }, reply) =>
        reply.redirect(`/connect/fake?redirect_uri=${protocol}://${host}/connect/fake/callback`)
      )
      app.get('/signed-in', async ({ session }) => {
        const { response } = session.take('grant')
        if (response.error === undefined) session.login(response.raw.user)
        return { error: response.error ?? null }
      })
      app.get('/', async ({ session }) => ({ userId: session.get('userId') ?? null, keys: session.keys() }))
    }
  })
}

/** Follows `count` redirects. Returns the last reply. */
async function follow(browser, path, count) {
  let reply = await browser.get(path)
  for (let index = 1; index < count; index++) reply = await browser.get(reply.location)
  return reply
}

export const checks = {
  async 'a login through the provider signs the user in'(tools) {
    const browser = await startWithGrant(tools)
    const { location } = await follow(browser, '/login', 4)
    deepEqual((await browser.get(location)).error, null)
    const { userId, keys } = await browser.get()
    deepEqual({ userId, keys }, { userId: 'ada', keys: ['userId'] })
  },

  async 'a callback with a wrong state is refused'(tools) {
    const browser = await startWithGrant(tools)
    const { location: callback } = await follow(browser, '/login', 3)
    const { location } = await browser.get(callback.replace(/state=[^&]+/, 'state=wrong'))
    equal((await browser.get(location)).error, 'Grant: OAuth2 state mismatch')
    equal((await browser.get()).userId, null)
  },

  async 'without properties: true, the error names the option'(tools) {
    const browser = await startWithGrant(tools, {})
    const { status, code } = await browser.get('/connect/fake')
    deepEqual({ status, code }, { status: 500, code: 'SESSION_PROPERTY_UNKNOWN' })
  }
}
