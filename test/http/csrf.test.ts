import { Writable } from 'node:stream'
import formbody from '@fastify/formbody'
import multipart from '@fastify/multipart'
import t from 'tap'
import { MemoryStore } from '../../plugin/index.js'
import { idOfToken } from '../../plugin/cookies/tokens.js'
import { addRoutes, Browser, makeApp, setCookieOf } from '../fixtures/app.js'
import { HOST, makeCsrfApp, OWN, post, postRaw, PROTECTIONS, verdictOf, visit } from '../fixtures/csrf.js'
import { listen } from '../fixtures/diagnostics.js'
import { failingStore, makeRecord, spyStore } from '../fixtures/stores.js'

const REFUSED = {
  statusCode: 403,
  code: 'SESSION_CSRF_TOKEN',
  error: 'Forbidden',
  message: 'Invalid CSRF token'
}
const CROSS_SITE = {
  statusCode: 403,
  code: 'SESSION_CSRF_ORIGIN',
  error: 'Forbidden',
  message: 'Cross-site request refused'
}

void t.test('a refusal says which door, and nothing more', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    const { browser } = await visit(app)
    const token = await post(browser)
    t.equal(token.statusCode, 403)
    t.same(token.json(), REFUSED)
    t.same((await post(browser, { 'x-csrf-token': 'wrong' })).json(), REFUSED, 'wrong is as missing')
    t.same((await post(browser, { origin: 'http://evil.test' })).json(), CROSS_SITE)
  }
})

void t.test('the own origin is what a browser writes for the host that it asked', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all', token: false }, { trustProxy: true })
  const send = async (scheme: string, host: string, origin: string) =>
    verdictOf(await post(new Browser(app), { 'x-forwarded-proto': scheme, host, origin }))
  for (const [scheme, host, origin] of [
    ['http', 'app.test', 'http://app.test'],
    ['http', 'app.test:80', 'http://app.test'],
    ['https', 'app.test:443', 'https://app.test'],
    ['HTTPS', 'app.test', 'https://app.test'],
    ['http', 'app.test:8080', 'http://app.test:8080'],
    ['https', 'app.test:80', 'https://app.test:80'],
    ['http', 'APP.Test', 'http://app.test'],
    ['http', 'app.test.', 'http://app.test.'],
    ['http', '[::1]:3000', 'http://[::1]:3000'],
    ['https', '[2001:DB8:0::1]', 'https://[2001:db8::1]'],
    ['http', '127.0.0.1:3000', 'http://127.0.0.1:3000'],
    ['http', 'xn--bcher-kva.test', 'http://xn--bcher-kva.test']
  ] as const) {
    t.equal(await send(scheme, host, origin), 'passes', `${scheme}, ${host}, ${origin}`)
  }
  for (const [scheme, host, origin] of [
    ['http', 'app.test', 'https://app.test'],
    ['https', 'app.test', 'http://app.test'],
    ['http', 'app.test', 'http://app.test:80'],
    ['http', 'app.test', 'http://app.test:8080'],
    ['http', 'app.test:8080', 'http://app.test'],
    ['http', 'app.test', 'HTTP://APP.TEST'],
    ['http', 'app.test', 'http://app.test.'],
    ['http', 'app.test', 'http://app.test/'],
    ['http', 'app.test', 'http://user@app.test'],
    ['http', 'app.test', 'http://app.test@evil.test'],
    ['http', 'app.test', 'http://app.test.evil.test'],
    ['http', 'app.test', 'http://app.test, http://evil.test'],
    ['http', 'app.test', 'http://evil.test http://app.test'],
    ['http', 'app.test', 'app.test'],
    ['http', 'app.test', 'null'],
    ['http', 'app.test', ''],
    ['http', '', 'http://app.test'],
    ['http', '', 'http://'],
    ['http', '', ''],
    ['http', '', 'undefined'],
    ['http', 'evil.test@app.test', 'http://app.test'],
    ['http', 'app.test/evil', 'http://app.test'],
    ['http', 'app.test\\evil', 'http://app.test'],
    ['http', 'app.test?evil', 'http://app.test'],
    ['http', 'app.test#evil', 'http://app.test'],
    ['http', 'app\t.test', 'http://app.test'],
    ['http', 'app.test:99999', 'http://app.test'],
    ['http', 'app.test:99999', 'undefined'],
    ['http', '[::1', 'http://[::1]'],
    ['http', 'b\u00fccher.test', 'http://b\u00fccher.test'],
    ['xhttp', 'app.test', 'http://app.test'],
    ['xhttp', 'app.test', 'null'],
    ['h2', 'app.test', 'null']
  ] as const) {
    t.equal(await send(scheme, host, origin), 'origin', `${scheme}, ${host}, ${origin}`)
  }
})

void t.test('over a socket: names in any case, a repeated Origin, no Host', async (t) => {
  const server = { trustProxy: false, http: { requireHostHeader: false } }
  const app = await makeCsrfApp(t, { protect: 'all' }, server)
  const { browser, token } = await visit(app)
  const send = async (headers: Record<string, string | string[]>, more = {}) =>
    verdictOf(
      await postRaw(app, {
        path: '/target',
        headers: { Cookie: browser.cookie, 'X-CSRF-TOKEN': token, ...headers },
        ...more
      })
    )
  t.equal(await send({ HOST, ORIGIN: OWN }), 'passes')
  t.equal(await send({ HOST, 'X-Note': 'origin', Origin: OWN }), 'passes', 'a value is no name')
  t.equal(await send({ HOST, oRiGiN: 'http://evil.test' }), 'origin')
  t.equal(await send({ HOST, 'SEC-FETCH-SITE': 'cross-site' }), 'origin')
  t.equal(await send({ HOST, Origin: [OWN, 'http://evil.test'] }), 'origin')
  t.equal(await send({ HOST, Origin: ['http://evil.test', OWN] }), 'origin')
  t.equal(await send({ HOST, Origin: ['http://app', '.test'] }), 'origin', 'two halves are no whole')
  t.equal(await send({ HOST, 'Sec-Fetch-Site': ['same-origin', 'cross-site'] }), 'origin')
  t.equal(await send({ HOST, 'Sec-Fetch-Site': ['same-', 'origin'] }), 'origin')
  t.equal(await send({ HOST, Origin: OWN, 'X-CSRF-TOKEN': [token, token] }), 'token')
  t.equal(await send({ Origin: OWN }, { setHost: false }), 'origin', 'without a Host there is no own origin')
  t.equal(await send({}, { setHost: false }), 'passes')
})

void t.test('a schema that drops headers does not hide where a request comes from', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeApp(t, { csrf: { protect } })
    const properties = { host: { type: 'string' }, 'x-csrf-token': { type: 'string' } }
    const headers = { type: 'object', properties, additionalProperties: false }
    app.get('/token', async (_request, reply) => reply.generateCsrf())
    app.post('/target', { schema: { headers }, preHandler: app.csrfProtection }, async () => 'target')
    const { browser, token } = await visit(app)
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
    for (const foreign of [{ origin: 'http://evil.test' }, { 'sec-fetch-site': 'cross-site' }]) {
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token, ...foreign })), 'origin')
    }
  }
})

void t.test('a body schema must name the field, or it is gone before the check', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  const text = { type: 'string' }
  for (const [url, properties] of [
    ['/named', { name: text, _csrf: text }],
    ['/unnamed', { name: text }]
  ] as const) {
    const schema = { body: { type: 'object', properties, additionalProperties: false } }
    app.post(url, { schema }, async () => 'saved')
  }
  const { browser, token } = await visit(app)
  const send = async (url: string) =>
    verdictOf(await browser.request({ method: 'POST', url, payload: { name: 'ada', _csrf: token } }))
  t.equal(await send('/named'), 'passes')
  t.equal(await send('/unnamed'), 'token')
})

void t.test('the header and the field have the names that the options say', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all', header: 'X-My-Token', field: 'my_token' })
  await app.register(formbody)
  const { browser, token } = await visit(app)
  const form = (name: string) =>
    post(browser, { 'content-type': 'application/x-www-form-urlencoded' }, `${name}=${token}`)
  t.equal(verdictOf(await post(browser, { 'x-my-token': token })), 'passes')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'token')
  t.equal(verdictOf(await form('my_token')), 'passes')
  t.equal(verdictOf(await form('_csrf')), 'token')
})

void t.test('the header is the one that counts where a body has a field too', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  const { browser, token } = await visit(app)
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': 'wrong' }, { _csrf: token })), 'token')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token }, { _csrf: 'wrong' })), 'passes')
})

void t.test('the field of a body without a Content-Type is checked like any other', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
    done(null, { _csrf: body })
  })
  const { browser, token } = await visit(app)
  t.equal(verdictOf(await post(browser, {}, token)), 'passes')
  t.equal(verdictOf(await post(browser, {}, 'wrong')), 'token')
})

void t.test('a multipart field that says null is a wrong token, never a 500', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  await app.register(multipart, { attachFieldsToBody: 'keyValues' })
  const { browser } = await visit(app)
  const field = 'Content-Disposition: form-data; name="_csrf"\r\nContent-Type: application/json\r\n\r\nnull'
  const headers = { 'content-type': 'multipart/form-data; boundary=x' }
  t.equal(verdictOf(await post(browser, headers, `--x\r\n${field}\r\n--x--\r\n`)), 'token')
})

void t.test('generateCsrf makes the session on first use, and writes it once', async (t) => {
  const store = spyStore()
  const app = await makeApp(t, { store, csrf: { protect: 'all' } })
  app.get('/form', async (_request, reply) => [reply.generateCsrf(), reply.generateCsrf()])
  app.post('/target', async () => 'target')
  const browser = new Browser(app)
  const first = await browser.get('/form')
  t.match(setCookieOf(first), /^session_id=/)
  t.equal(first.headers['vary'], 'Cookie')
  t.same(store.takeNames(), ['create'])
  const [one, two] = first.json<[string, string]>()
  t.not(one, two)
  const again = await browser.get('/form')
  t.equal(setCookieOf(again), undefined)
  t.equal(again.headers['vary'], 'Cookie')
  t.same(store.takeNames(), ['get'])
  for (const token of [one, two, ...again.json<[string, string]>()]) {
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
  }
  t.same(store.takeNames(), ['get', 'get', 'get', 'get'], 'a check reads and never writes')
})

void t.test('an anonymous post is refused without a session, a cookie or a call of the store', async (t) => {
  const store = spyStore()
  const app = await makeApp(t, { store, csrf: { protect: 'all' } })
  app.post('/target', async () => 'target')
  for (const headers of [{}, { 'x-csrf-token': 'A'.repeat(86) }, { origin: 'http://evil.test' }]) {
    const response = await post(new Browser(app), headers)
    t.equal(response.statusCode, 403)
    t.equal(setCookieOf(response), undefined)
  }
  t.same(store.take(), [])
})

void t.test('a cross-site request is refused before its body is read', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' }, { bodyLimit: 10_000 })
  let parsed = 0
  app.addContentTypeParser('application/x-huge', { parseAs: 'buffer' }, (_request, _body, done) => {
    parsed++
    done(null, null)
  })
  const { browser, token } = await visit(app)
  const huge = (headers: Record<string, string>, size: number) =>
    post(browser, { 'content-type': 'application/x-huge', ...headers }, 'a'.repeat(size))
  t.equal(verdictOf(await huge({ origin: 'http://evil.test', 'x-csrf-token': token }, 100)), 'origin')
  t.equal(verdictOf(await huge({ origin: 'http://evil.test' }, 5_000_000)), 'origin', 'not even 413')
  t.equal(parsed, 0)
  t.equal(verdictOf(await huge({ 'x-csrf-token': token }, 100)), 'passes')
  t.equal(parsed, 1)
})

void t.test('without global protection only the routes that ask for it are checked', async (t) => {
  const app = await makeCsrfApp(t)
  app.post('/open', async () => 'open')
  const headers = { origin: 'http://evil.test', 'sec-fetch-site': 'cross-site' }
  t.equal((await app.inject({ method: 'POST', url: '/open', headers })).statusCode, 200)
  t.equal(verdictOf(await app.inject({ method: 'POST', url: '/target', headers })), 'origin')
})

void t.test('a path that is no route is refused or not found, never a 500', async (t) => {
  for (const own of [false, true]) {
    const app = await makeApp(t, { csrf: { protect: 'all' } })
    if (own) app.setNotFoundHandler(async (_request, reply) => reply.code(404).send('nothing here'))
    app.get('/token', async (_request, reply) => reply.generateCsrf())
    const { browser, token } = await visit(app)
    const send = async (headers: Record<string, string>, method: 'GET' | 'POST' = 'POST') =>
      (await browser.request({ method, url: '/nowhere', headers })).statusCode
    t.equal(await send({}, 'GET'), 404)
    t.equal(await send({}), 403)
    t.equal(await send({ 'x-csrf-token': 'wrong' }), 403)
    t.equal(await send({ origin: 'http://evil.test' }), 403)
    t.equal(await send({ 'x-csrf-token': token }), 404)
  }
})

void t.test(
  'a route without a session has no valid token, whether it is asked to check or not',
  async (t) => {
    for (const protect of PROTECTIONS) {
      for (const token of [true, false]) {
        const app = await makeCsrfApp(t, { protect, token })
        const preHandler = app.csrfProtection
        app.post('/off', { config: { session: false }, preHandler }, async () => 'off')
        app.post('/exempt', { config: { session: false, csrf: false }, preHandler }, async () => 'off')
        const visitor = await visit(app)
        const send = async (url: string, headers = {}) =>
          verdictOf(
            await visitor.browser.request({ method: 'POST', url, headers: { host: HOST, ...headers } })
          )
        const withToken = { 'x-csrf-token': visitor.token }
        t.equal(await send('/off'), token ? 'token' : 'passes')
        t.equal(await send('/off', withToken), token ? 'token' : 'passes')
        t.equal(await send('/off', { ...withToken, origin: 'http://evil.test' }), 'origin')
        t.equal(await send('/exempt', { ...withToken, origin: 'http://evil.test' }), 'passes')
      }
    }
  }
)

void t.test('a readonly route checks a token, and hands one out where there is a secret', async (t) => {
  const store = spyStore()
  const app = await makeApp(t, { store, csrf: { protect: 'all' } })
  const config = { session: 'readonly' } as const
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.get('/readonly', { config }, async (_request, reply) => reply.generateCsrf())
  app.post('/target', { config }, async () => 'target')
  const stranger = await app.inject('/readonly')
  t.equal(stranger.statusCode, 500)
  t.match(stranger.json(), { code: 'SESSION_READONLY' })
  const { browser, token } = await visit(app)
  store.take()
  const { payload: another } = await browser.get('/readonly')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': another })), 'passes')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': 'wrong' })), 'token')
  t.same(store.takeNames(), ['get', 'get', 'get', 'get'])
})

void t.test('generateCsrf on a route without a session says so', async (t) => {
  const app = await makeApp(t)
  app.get('/off', { config: { session: false } }, async (_request, reply) => reply.generateCsrf())
  t.match((await app.inject('/off')).json(), { statusCode: 500, code: 'SESSION_OFF' })
})

void t.test('while the store fails nobody has a valid token', async (t) => {
  let broken = false
  const store = failingStore(() => broken)
  const app = await makeApp(t, { store, onStoreError: 'anonymous', csrf: { protect: 'all' } })
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.post('/target', async () => 'target')
  const { browser, token } = await visit(app)
  broken = true
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'token')
  const { statusCode, payload } = await browser.get('/token')
  t.equal(statusCode, 200)
  broken = false
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': payload })), 'token')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
})

/** Puts `$csrf` as it may come out of a damaged store behind a browser's cookie. */
async function damage(browser: Browser, store: MemoryStore, text: string): Promise<void> {
  const id = idOfToken((browser.cookies.get('session_id') as string).split('.')[0] as string)
  store.destroy(id)
  store.create(id, makeRecord({ data: { $csrf: text } }))
}

void t.test('a secret that is none is refused, and made anew by the next token', async (t) => {
  const store = new MemoryStore()
  const app = await makeApp(t, { store, csrf: { protect: 'all' } })
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.post('/target', async () => 'target')
  for (const text of ['5', 'null', '{', '""', '"AAAA"', '["a"]', `"${'A'.repeat(44)}"`, '{"length":32}']) {
    const { browser, token } = await visit(app)
    await damage(browser, store, text)
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'token', text)
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': 'A'.repeat(86) })), 'token', text)
    const { payload } = await browser.get('/token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': payload })), 'passes', text)
  }
})

void t.test(
  'clear() and regenerate() drop the secret, which no key of the application reaches',
  async (t) => {
    const app = await makeCsrfApp(t)
    app.get('/peek', async ({ session }) => ({
      keys: session.keys(),
      value: session.get('$csrf') ?? null,
      has: session.has('$csrf')
    }))
    app.get('/clear', async ({ session }) => {
      session.clear()
      return 'cleared'
    })
    for (const url of ['/clear', '/login']) {
      const { browser, token } = await visit(app)
      t.same((await browser.get('/peek')).json(), { keys: [], value: null, has: false })
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
      await browser.get(url)
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'token', url)
    }
  }
)

void t.test('a refusal is published with its reason, without the query and the token', async (t) => {
  const refused = listen(t, 'csrf-refused')
  const app = await makeCsrfApp(t)
  const { browser, token } = await visit(app)
  const send = (headers: Record<string, string>) =>
    browser.request({
      method: 'POST',
      url: `/target?_csrf=${token}&a=b?c`,
      headers: { host: HOST, ...headers }
    })
  await send({ 'x-csrf-token': token })
  await send({})
  await send({ 'x-csrf-token': 'wrong' })
  await send({ origin: 'http://evil.test' })
  await send({ 'sec-fetch-site': 'cross-site' })
  const reasons = ['token-missing', 'token-wrong', 'origin', 'sec-fetch-site']
  t.same(
    refused,
    reasons.map((reason) => ({ reason, method: 'POST', url: '/target' }))
  )
})

void t.test('no token is in any line of the log', async (t) => {
  let log = ''
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      log += chunk.toString()
      done()
    }
  })
  const app = await makeCsrfApp(t, { protect: 'all' }, { logger: { level: 'trace', stream } })
  const { browser, token } = await visit(app)
  const other = await visit(app)
  await post(browser, { 'x-csrf-token': token })
  await post(browser, { 'x-csrf-token': token, origin: 'http://evil.test' })
  await post(browser, { 'x-csrf-token': other.token })
  for (const _csrf of [token, other.token, [token]]) await post(browser, {}, { _csrf })
  t.match(log, /SESSION_CSRF_TOKEN/)
  t.match(log, /SESSION_CSRF_ORIGIN/)
  t.notOk([token, other.token, browser.cookie].some((text) => log.includes(text)))
})

void t.test('the two doors of one app are no doors of another', async (t) => {
  const [one, two] = [await makeCsrfApp(t), await makeCsrfApp(t)]
  const { browser, token } = await visit(one)
  const stranger = new Browser(two)
  stranger.cookies.set('session_id', browser.cookies.get('session_id') as string)
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
  t.equal(verdictOf(await post(stranger, { 'x-csrf-token': token })), 'token')
})

void t.test('csrfProtection is the preHandler of a hook, a list and a typed route too', async (t) => {
  const app = addRoutes(await makeApp(t))
  app.post<{ Body: { name: string }; Params: { id: string } }>(
    '/typed/:id',
    { preHandler: app.csrfProtection },
    async ({ params }) => params.id
  )
  app.post('/listed', { preHandler: [app.csrfProtection] }, async () => 'listed')
  await app.register(
    async (child) => {
      child.addHook('preHandler', child.csrfProtection)
      child.post('/inside', async () => 'inside')
    },
    { prefix: '/child' }
  )
  for (const url of ['/typed/5', '/listed', '/child/inside']) {
    t.equal(verdictOf(await app.inject({ method: 'POST', url })), 'token', url)
  }
})

void t.test('a cross-site request is refused before the store is asked', async (t) => {
  const store = spyStore()
  const app = await makeApp(t, { store, csrf: { protect: 'all' } })
  app.setErrorHandler(async (error, { session }, reply) => {
    session.setFlash('error', 'refused')
    return reply.code(403).send(error)
  })
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.post('/target', async () => 'target')
  const { browser, token } = await visit(app)
  store.take()
  const response = await post(browser, { origin: 'http://evil.test', 'x-csrf-token': token })
  t.equal(verdictOf(response), 'origin')
  t.equal(setCookieOf(response), undefined)
  t.same(store.take(), [])
})

void t.test(
  'a WebSocket that a page of another origin opens is refused, a token is not asked for',
  async (t) => {
    for (const protect of PROTECTIONS) {
      const app = await makeCsrfApp(t, { protect })
      const preHandler = protect === 'all' ? [] : [app.csrfProtection]
      app.get('/exempt', { preHandler, config: { csrf: false } }, async () => 'exempt')
      const { browser } = await visit(app)
      const shake = async (headers: Record<string, string>, url = '/target') =>
        verdictOf(
          await browser.request({
            url,
            headers: { host: HOST, upgrade: 'websocket', connection: 'upgrade', ...headers }
          })
        )
      t.equal(await shake({ origin: OWN }), 'passes')
      t.equal(await shake({ origin: OWN, 'sec-fetch-site': 'same-origin' }), 'passes')
      t.equal(await shake({}), 'passes', 'no browser')
      t.equal(await shake({ origin: 'http://evil.test' }), 'origin')
      t.equal(await shake({ origin: 'http://blog.app.test', 'sec-fetch-site': 'same-site' }), 'origin')
      t.equal(await shake({ origin: 'null' }), 'origin')
      t.equal(await shake({ origin: 'http://evil.test' }, '/exempt'), 'passes')
    }
  }
)
