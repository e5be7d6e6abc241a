import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import sessions, { csrfProtection, guarded, type SessionOptions } from '../../plugin/index.js'
import { Browser, makeApp, SECRET } from '../fixtures/app.js'

const WANT = /"csrf\.decorate" is false, but must be true, because this route checks a CSRF token/

/** A package that has the names of @fastify/csrf-protection. It accepts one fixed token. */
const other = fp(async (app: FastifyInstance) => {
  app.decorateReply('generateCsrf', () => 'a token of the other package')
  app.decorate('csrfProtection', (request, reply, done) => {
    if (request.headers['x-csrf-token'] === 'a token of the other package') done()
    else reply.code(403).send({ by: 'the other package' })
  })
})

async function makeAppWithBoth(t: Test, csrf: SessionOptions['csrf'], isFirst = false) {
  const app = Fastify()
  t.teardown(() => app.close())
  if (isFirst) await app.register(other)
  await app.register(sessions, { secret: SECRET, cleanupInterval: 0, csrf })
  if (!isFirst) await app.register(other)
  return app
}

function addForm(app: FastifyInstance): Browser {
  app.get('/form', async (_request, reply) => reply.generateCsrf())
  app.post('/form', { preHandler: app.csrfProtection }, async () => 'sent')
  return new Browser(app)
}

const post = (browser: Browser, url: string, headers: Record<string, string> = {}) =>
  browser.request({ method: 'POST', url, headers })

for (const isFirst of [true, false]) {
  const order = isFirst ? 'before' : 'after'

  void t.test(`csrf.decorate: false leaves the names to a package registered ${order}`, async (t) => {
    const browser = addForm(await makeAppWithBoth(t, { decorate: false }, isFirst))
    const { body: token, headers } = await browser.get('/form')
    t.equal(token, 'a token of the other package')
    t.equal(headers['set-cookie'], undefined, 'the plugin makes no secret')
    t.equal((await post(browser, '/form', { 'x-csrf-token': token })).body, 'sent')
    t.same((await post(browser, '/form')).json(), { by: 'the other package' })
  })
}

void t.test('without csrf.decorate: false, a package registered before is an option error', async (t) => {
  const problem = /"csrf\.decorate" is true, but must be false, because another plugin has already added/
  await t.rejects(makeAppWithBoth(t, {}, true), { code: 'SESSION_OPTION_INVALID', message: problem })
  for (const name of ['csrfProtection', 'generateCsrf']) {
    const app = Fastify()
    if (name === 'csrfProtection') app.decorate(name, csrfProtection)
    else app.decorateReply(name, () => 'x')
    await t.rejects(async () => app.register(sessions, { secret: SECRET }), { message: problem }, name)
  }
})

void t.test('with csrf.decorate: false, the origin is still checked on every route', async (t) => {
  const browser = addForm(await makeAppWithBoth(t, { decorate: false }))
  const headers = { 'x-csrf-token': 'a token of the other package', 'sec-fetch-site': 'cross-site' }
  const reply = await post(browser, '/form', headers)
  t.equal(reply.json<{ code: string }>().code, 'SESSION_CSRF_ORIGIN')
})

void t.test(
  'with csrf.decorate: false, a check of a token of this library fails, and says why',
  async (t) => {
    const app = await makeApp(t, { csrf: { decorate: false } })
    app.post('/imported', { preHandler: csrfProtection }, async () => 'sent')
    app.post(
      '/guarded',
      guarded(async () => 'sent', { csrf: true })
    )
    app.post('/verified', async (request) => request.verifyCsrf('x'))
    app.post('/exempt', { preHandler: csrfProtection, config: { csrf: false } }, async () => 'sent')
    app.get('/safe', { preHandler: csrfProtection }, async () => 'read')
    const browser = new Browser(app)
    for (const url of ['/imported', '/guarded', '/verified']) {
      const reply = await post(browser, url, { 'x-csrf-token': 'x' })
      t.equal(reply.statusCode, 500)
      t.match(
        reply.json<{ code: string; message: string }>(),
        { code: 'SESSION_OPTION_INVALID', message: WANT },
        url
      )
    }
    t.equal((await post(browser, '/exempt')).body, 'sent')
    t.equal((await browser.get('/safe')).body, 'read')
  }
)

void t.test('with csrf.decorate and csrf.token: false, csrfProtection checks only the origin', async (t) => {
  for (const protect of ['origin', 'all', 'routes'] as const) {
    const app = await makeApp(t, { csrf: { decorate: false, token: false, protect } })
    app.post('/', { preHandler: csrfProtection }, async () => 'sent')
    const browser = new Browser(app)
    t.equal((await post(browser, '/')).body, 'sent')
    t.equal((await post(browser, '/', { 'sec-fetch-site': 'cross-site' })).statusCode, 403)
  }
})

void t.test("csrf.decorate: false with csrf.protect: 'all' is an option error", async (t) => {
  const message = /"csrf\.protect" is 'all', but must be 'origin' or 'routes', because .* no CSRF tokens/
  await t.rejects(makeApp(t, { csrf: { decorate: false, protect: 'all' } }), { message })
})
