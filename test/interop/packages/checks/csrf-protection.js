import { equal, match, rejects } from 'node:assert/strict'
import csrfProtection from '@fastify/csrf-protection'
import { guarded } from '../../../../dist/index.js'

export const packages = ['@fastify/csrf-protection']
export const notes = [
  'Set `csrf: { decorate: false }`. Otherwise registration fails, because both packages add `reply.generateCsrf()`.',
  "Use `sessionPlugin: '@fastify/secure-session'`. `'@fastify/session'` needs `properties: true`.",
  'Its secret is data at the key `_csrf`. Remove it at a login: `session.login(id, { keep })` without this key, or ' +
    '`session.remove("_csrf")`.',
  'Its form for a visitor creates a session. The forms of this library do not.'
]

const SETTINGS = [
  { sessionPlugin: '@fastify/secure-session', properties: false },
  { sessionPlugin: '@fastify/secure-session', properties: true },
  { sessionPlugin: '@fastify/session', properties: true }
]

const startWithCsrf = (start, { sessionPlugin, properties }, csrf = { decorate: false }) =>
  start({
    session: { properties, csrf },
    register: (app) => app.register(csrfProtection, { sessionPlugin }),
    routes(app) {
      app.get('/form', async (_request, reply) => ({ token: reply.generateCsrf() }))
      app.post('/form', { preHandler: app.csrfProtection }, async () => ({ isSent: true }))
      app.post(
        '/ours',
        guarded(async () => ({}), { csrf: true })
      )
      app.post('/login', async ({ session }) => (session.login('ada'), {}))
      app.post('/careful-login', async ({ session }) => (session.remove('_csrf'), session.login('ada'), {}))
    }
  })

/** Runs a check with every kind of session that the package knows. */
function always(check) {
  return async ({ start }) => {
    for (const settings of SETTINGS) await check(await startWithCsrf(start, settings))
  }
}

const send = async (browser, token) => {
  const headers = token === undefined ? {} : { 'x-csrf-token': token }
  return (await browser.post('/form', {}, headers)).status
}

export const checks = {
  'a form with a token passes, and a form without one does not': always(async (browser) => {
    const { token } = await browser.get('/form')
    equal(await send(browser, token), 200)
    equal((await browser.post('/form', { _csrf: token })).status, 200)
    equal(await send(browser, undefined), 403)
    equal(await send(browser, 'wrong'), 403)
  }),

  'a token of another session is refused': always(async (browser) => {
    const { token } = await browser.get('/form')
    const other = browser.copy()
    other.clear()
    equal(await send(other, token), 403)
    await other.get('/form')
    equal(await send(other, token), 403)
  }),

  'the origin is still checked by fastify-sesame': always(async (browser) => {
    const { token } = await browser.get('/form')
    const headers = { 'x-csrf-token': token, 'sec-fetch-site': 'cross-site' }
    equal((await browser.post('/form', {}, headers)).code, 'SESSION_CSRF_ORIGIN')
  }),

  'a token from before a login is valid only if the secret stays': always(async (browser) => {
    const { token } = await browser.get('/form')
    await browser.post('/login')
    equal(await send(browser, token), 200)
    const other = (await browser.get('/form')).token
    await browser.post('/careful-login')
    equal(await send(browser, other), 403)
  }),

  async 'without csrf.decorate: false, registration fails'({ start, order }) {
    const message =
      order === 'before'
        ? /"csrf.decorate" is true, but must be false/
        : /generateCsrf' has already been added/
    await rejects(startWithCsrf(start, SETTINGS[0], {}), message)
  },

  async 'a check of a token of fastify-sesame says that there is none'({ start }) {
    const browser = await startWithCsrf(start, SETTINGS[0])
    const { status, message } = await browser.post('/ours')
    equal(status, 500)
    match(message, /use that package's app.csrfProtection/)
  }
}
