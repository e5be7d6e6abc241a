import formbody from '@fastify/formbody'
import fastifyMultipart from '@fastify/multipart'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { CsrfReason } from '../../plugin/diagnostics.js'
import { csrfProtection } from '../../plugin/index.js'
import { addRoutes, Browser, makeApp, setCookieOf } from '../fixtures/app.js'
import {
  bodiesWith,
  HOST,
  makeCsrfApp,
  METHODS,
  multipart,
  post,
  postRaw,
  PROTECTIONS,
  verdictOf,
  visit,
  withBodies
} from '../fixtures/csrf.js'
import { listen } from '../fixtures/diagnostics.js'
import { failingStore, spyStore } from '../fixtures/stores.js'

const SITES = {
  absent: undefined,
  'same-origin': 'same-origin',
  'same-site': 'same-site',
  'cross-site': 'cross-site',
  none: 'none',
  empty: '',
  'upper case': 'Same-Origin',
  unknown: 'x',
  two: 'same-origin, cross-site'
}
const ORIGINS = {
  absent: undefined,
  own: 'https://app.test',
  'own, another port': 'https://app.test:8443',
  'own as http': 'http://app.test',
  null: 'null',
  evil: 'https://evil.test',
  malformed: 'https://app.test/',
  trusted: 'https://trusted.test'
}
const TOKENS = ['none', 'valid', 'of another session', 'from before login', 'malformed'] as const

interface Row {
  readonly site: keyof typeof SITES
  readonly origin: keyof typeof ORIGINS
  readonly method: (typeof METHODS)[number]
  readonly token: (typeof TOKENS)[number]
}

const ROWS: readonly Row[] = (Object.keys(SITES) as Row['site'][]).flatMap((site) =>
  (Object.keys(ORIGINS) as Row['origin'][]).flatMap((origin) =>
    METHODS.flatMap((method) => TOKENS.map((token) => ({ site, origin, method, token })))
  )
)

/**
 * Returns the result that the CSRF checks must give for one combination of headers, method and token. Does not use the
 * code under test.
 */
function expected({ site, origin, method, token }: Row, needsToken: boolean): string {
  if (method === 'GET' || method === 'HEAD' || method === 'OPTIONS') return 'passes'
  const isAllowed = {
    'same-origin': true,
    none: true,
    absent: origin === 'absent' || origin === 'own' || origin === 'trusted',
    'same-site': origin === 'trusted',
    'cross-site': origin === 'trusted',
    empty: origin === 'trusted',
    'upper case': origin === 'trusted',
    unknown: origin === 'trusted',
    two: origin === 'trusted'
  }[site]
  if (!isAllowed) return 'origin'
  return needsToken && token !== 'valid' ? 'token' : 'passes'
}

function headersOf(row: Row, tokens: Record<Row['token'], string | undefined>, cookie: string) {
  const headers = {
    host: HOST,
    'x-forwarded-proto': 'https',
    cookie,
    'sec-fetch-site': SITES[row.site],
    origin: ORIGINS[row.origin],
    'x-csrf-token': tokens[row.token]
  }
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
}

async function tokensOf(app: FastifyInstance) {
  const { browser, token: early } = await visit(app)
  const other = await visit(app)
  await browser.get('/login')
  const { payload: valid } = await browser.get('/token')
  const tokens = {
    none: undefined,
    valid,
    'of another session': other.token,
    'from before login': early,
    malformed: `${valid.slice(0, -1)}!`
  }
  return { tokens, cookie: browser.cookie }
}

for (const protect of PROTECTIONS) {
  for (const token of [true, false]) {
    void t.test(
      `D1: every combination of origin headers, method and token gets the expected result (protect: '${protect}', token: ${String(token)})`,
      async (t) => {
        const trustedOrigins = [ORIGINS.trusted]
        const app = await makeCsrfApp(t, { protect, token, trustedOrigins }, { trustProxy: true })
        const { tokens, cookie } = await tokensOf(app)
        const wrong: unknown[] = []
        for (const row of ROWS) {
          const headers = headersOf(row, tokens, cookie)
          const verdict = verdictOf(await app.inject({ method: row.method, url: '/target', headers }))
          if (verdict !== expected(row, token)) wrong.push({ ...row, verdict })
        }
        t.equal(ROWS.length, 9 * 8 * 8 * 5)
        t.same(wrong, [])
      }
    )
  }
}

void t.test('D3: every method except GET, HEAD and OPTIONS is checked', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    const { browser, token } = await visit(app)
    for (const method of METHODS) {
      const send = (headers: Record<string, string>) =>
        browser.request({ method, url: '/target', headers: { host: HOST, ...headers } })
      const isSafe = ['GET', 'HEAD', 'OPTIONS'].includes(method)
      t.equal(verdictOf(await send({})), isSafe ? 'passes' : 'token', method)
      const foreign = await send({ origin: 'http://evil.test', 'sec-fetch-site': 'cross-site' })
      t.equal(verdictOf(foreign), isSafe ? 'passes' : 'origin', method)
      t.equal(verdictOf(await send({ 'x-csrf-token': token })), 'passes', method)
    }
  }
})

void t.test('D3: no header, field or query parameter exempts a request from the checks', async (t) => {
  const app = await withBodies(t, 'all', 'keyValues')
  const { browser } = await visit(app)
  for (const name of ['x-http-method-override', 'x-http-method', 'x-method-override']) {
    t.equal(verdictOf(await post(browser, { [name]: 'GET' })), 'token', name)
  }
  for (const [type, body] of bodiesWith({ _method: 'GET' })) {
    t.equal(verdictOf(await post(browser, { 'content-type': type }, body)), 'token', type)
  }
  const response = await browser.request({
    method: 'POST',
    url: '/target?_method=GET',
    headers: { host: HOST }
  })
  t.equal(verdictOf(response), 'token')
})

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

void t.test('the reply to a refused request says which check failed, and nothing more', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    const { browser } = await visit(app)
    const token = await post(browser)
    t.equal(token.statusCode, 403)
    t.same(token.json(), REFUSED)
    t.same(
      (await post(browser, { 'x-csrf-token': 'wrong' })).json(),
      REFUSED,
      'a wrong token is refused like a missing one'
    )
    t.same((await post(browser, { origin: 'http://evil.test' })).json(), CROSS_SITE)
  }
})

void t.test('an anonymous POST is refused without setting a cookie or calling the store', async (t) => {
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

void t.test('csrf.protect decides what is checked on routes without csrfProtection', async (t) => {
  const foreign = { origin: 'http://evil.test', 'sec-fetch-site': 'cross-site' }
  for (const [protect, fromElsewhere, withoutToken] of [
    [undefined, 'origin', 'passes'],
    ['origin', 'origin', 'passes'],
    ['all', 'origin', 'token'],
    ['routes', 'passes', 'passes']
  ] as const) {
    const app = await makeCsrfApp(t, { protect })
    app.post('/open', async () => 'open')
    app.setNotFoundHandler(async () => 'nothing here')
    const { browser, token } = await visit(app)
    const send = async (url: string, headers: Record<string, string>) =>
      verdictOf(await browser.request({ method: 'POST', url, headers }))
    for (const url of ['/open', '/nowhere']) {
      t.equal(await send(url, { ...foreign, 'x-csrf-token': token }), fromElsewhere, `${protect}, ${url}`)
      t.equal(await send(url, {}), withoutToken, `${protect}, ${url}`)
      t.equal(await send(url, { 'x-csrf-token': token }), 'passes', `${protect}, ${url}`)
    }
    t.equal(await send('/target', { ...foreign, 'x-csrf-token': token }), 'origin', 'with csrfProtection')
    t.equal(await send('/target', {}), 'token', 'with csrfProtection')
  }
})

void t.test(
  'D8: a login without a session is checked, so nobody can be signed in to the account of an attacker',
  async (t) => {
    const app = await makeCsrfApp(t, { protect: 'all' })
    const login = (browser: Browser, headers: Record<string, string>) =>
      browser.request({ method: 'POST', url: '/login', headers: { host: HOST, ...headers } })
    const stranger = new Browser(app)
    const attacker = await visit(app)
    t.equal(verdictOf(await login(stranger, {})), 'token')
    t.equal(verdictOf(await login(stranger, { origin: 'http://evil.test' })), 'origin')
    t.equal(verdictOf(await login(stranger, { 'x-csrf-token': attacker.token })), 'token')
    t.equal(stranger.cookie, '')
    const { browser, token } = await visit(app)
    t.equal(verdictOf(await login(browser, { 'x-csrf-token': token })), 'passes')
  }
)

/** Creates an app in which only `POST /hook` is exempt from the CSRF checks. The route `/*` handles all other paths. */
async function withExemption(t: Test, routerOptions: object): Promise<FastifyInstance> {
  const app = await makeApp(t, { csrf: { protect: 'all' } }, { routerOptions })
  app.post('/hook', { config: { csrf: false } }, async () => 'hook')
  app.put('/hook', async () => 'put')
  app.post('/hook/:id', async () => 'child')
  app.post('/other', async () => 'other')
  app.all('/*', async () => 'rest')
  await app.register(async (child) => void child.post('/hook', async () => 'prefixed'), { prefix: '/v1' })
  return app
}

const VARIANTS = [
  '/hook',
  '/hook?a=1',
  '/hook;a=1',
  '/hook/',
  '//hook',
  '/HOOK',
  '/Hook/',
  '/h%6Fok',
  '/h%6fok',
  '/%2Fhook',
  '/hook%2F',
  '/hook%3Fa',
  '/hook%00',
  '/hook%20',
  '/hook/1',
  '/hook/../other',
  '/./hook',
  '/hooks',
  '/hoo',
  '/v1/hook',
  '/v1/../hook',
  '/other',
  '/other?x=/hook',
  '/nowhere'
]

void t.test(
  'D11/CVE-2025-47910: an exemption applies to its own route only, not to similar paths',
  async (t) => {
    for (const [routerOptions, exempt] of [
      [{}, ['/hook', '/hook?a=1', '/h%6Fok', '/h%6fok']],
      [{ ignoreTrailingSlash: true }, ['/hook', '/hook?a=1', '/hook/', '/h%6Fok', '/h%6fok']],
      [{ caseSensitive: false }, ['/hook', '/hook?a=1', '/HOOK', '/h%6Fok', '/h%6fok']],
      [{ ignoreDuplicateSlashes: true }, ['/hook', '/hook?a=1', '//hook', '/h%6Fok', '/h%6fok']],
      [{ useSemicolonDelimiter: true }, ['/hook', '/hook?a=1', '/hook;a=1', '/h%6Fok', '/h%6fok']]
    ] as const) {
      const app = await withExemption(t, routerOptions)
      const passed: string[] = []
      for (const url of VARIANTS) {
        const response = await postRaw(app, { path: url })
        if (response.statusCode === 200) {
          t.equal(response.payload, 'hook', `${url} is answered by the exempt route`)
          passed.push(url)
        } else t.equal(verdictOf(response), 'token', url)
      }
      t.same(passed, exempt, JSON.stringify(routerOptions))
      for (const method of ['PUT', 'PATCH', 'DELETE'] as const) {
        t.equal(verdictOf(await app.inject({ method, url: '/hook' })), 'token', `${method} is not exempt`)
      }
    }
  }
)

void t.test('D11: `csrf: false` exempts a route from all CSRF checks, and no other value does', async (t) => {
  const app = await makeApp(t, { csrf: { protect: 'all' } })
  app.post('/exempt', { config: { csrf: false } }, async () => 'exempt')
  app.post('/listed', { config: { csrf: false }, preHandler: app.csrfProtection }, async () => 'exempt')
  app.post('/checked', { config: { csrf: undefined } as object }, async () => 'checked')
  const headers = { origin: 'http://evil.test', 'sec-fetch-site': 'cross-site', 'x-csrf-token': 'x' }
  for (const url of ['/exempt', '/listed']) {
    t.equal((await app.inject({ method: 'POST', url, headers })).payload, 'exempt')
  }
  t.equal(verdictOf(await app.inject({ method: 'POST', url: '/checked' })), 'token')
  const other = await makeApp(t)
  for (const csrf of [null, 0, '', true, 'false', 'off']) {
    t.throws(() => other.post('/checked', { config: { csrf } as object }, async () => 'checked'), {
      message: /"config\.csrf"/
    })
  }
})

void t.test("D11: a route with csrf 'origin' checks the origin of its requests, and no token", async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    const config = { csrf: 'origin' } as const
    app.post('/listed', { config, preHandler: csrfProtection }, async () => 'listed')
    app.post('/unlisted', { config }, async () => 'unlisted')
    app.get('/chat', { config }, async () => 'chat')
    for (const url of ['/listed', '/unlisted']) {
      const send = async (headers: Record<string, string>) =>
        verdictOf(await app.inject({ method: 'POST', url, headers: { host: HOST, ...headers } }))
      t.equal(await send({}), 'passes', `${protect}, ${url}`)
      t.equal(await send({ 'x-csrf-token': 'wrong' }), 'passes', `${protect}, ${url}`)
      t.equal(await send({ origin: 'http://evil.test' }), 'origin', `${protect}, ${url}`)
      t.equal(await send({ 'sec-fetch-site': 'cross-site' }), 'origin', `${protect}, ${url}`)
    }
    const headers = { host: HOST, upgrade: 'websocket', origin: 'http://evil.test' }
    t.equal(verdictOf(await app.inject({ url: '/chat', headers })), 'origin', 'a WebSocket handshake')
  }
})

void t.test('D12/CVE-2011-0696: X-Requested-With does not replace a token', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    const { browser } = await visit(app)
    const script = { 'x-requested-with': 'XMLHttpRequest', 'content-type': 'application/json' }
    t.equal(verdictOf(await post(browser, script, '{}')), 'token')
    t.equal(verdictOf(await post(browser, { ...script, origin: 'http://evil.test' }, '{}')), 'origin')
    t.equal(verdictOf(await post(browser, { ...script, 'sec-fetch-site': 'cross-site' }, '{}')), 'origin')
  }
})

void t.test('a request for an unknown path is answered with 403 or 404, never with 500', async (t) => {
  for (const isCustom of [false, true]) {
    const app = await makeApp(t, { csrf: { protect: 'all' } })
    if (isCustom) app.setNotFoundHandler(async (_request, reply) => reply.code(404).send('nothing here'))
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

void t.test('no token is valid on a route with session: false', async (t) => {
  for (const protect of PROTECTIONS) {
    for (const token of [true, false]) {
      const app = await makeCsrfApp(t, { protect, token })
      const preHandler = app.csrfProtection
      app.post('/off', { config: { session: false }, preHandler }, async () => 'off')
      app.post('/exempt', { config: { session: false, csrf: false }, preHandler }, async () => 'off')
      const visitor = await visit(app)
      const send = async (url: string, headers = {}) =>
        verdictOf(await visitor.browser.request({ method: 'POST', url, headers: { host: HOST, ...headers } }))
      const withToken = { 'x-csrf-token': visitor.token }
      t.equal(await send('/off'), token ? 'token' : 'passes')
      t.equal(await send('/off', withToken), token ? 'token' : 'passes')
      t.equal(await send('/off', { ...withToken, origin: 'http://evil.test' }), 'origin')
      t.equal(await send('/exempt', { ...withToken, origin: 'http://evil.test' }), 'passes')
    }
  }
})

void t.test('no token is valid while the store fails', async (t) => {
  let broken = false
  const store = failingStore(() => broken)
  const app = await makeApp(t, { store, onStoreError: 'anonymous', csrf: { protect: 'all' } })
  app.get('/begin', async ({ session }) => session.set('name', 'ada') ?? 'begun')
  app.get('/token', async (_request, reply) => reply.generateCsrf())
  app.post('/target', async () => 'target')
  const browser = new Browser(app)
  await browser.get('/begin')
  const { payload: token } = await browser.get('/token')
  broken = true
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'token')
  const { statusCode, payload } = await browser.get('/token')
  t.equal(statusCode, 200)
  broken = false
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': payload })), 'token')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
})

interface LogLine {
  readonly level: number
  readonly msg: string
  readonly reason?: string
}

/** Returns a logger, and a function that returns the lines it has written about refusals since the last call. */
function refusalLog() {
  let lines: LogLine[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) }
  const take = () => {
    const refusals = lines.filter(({ reason }) => reason !== undefined)
    lines = []
    return refusals
  }
  return { logger: { level: 'info', stream }, take }
}

/** For each reason, requests that are refused for it, and what the log says. */
const REASONS: Record<CsrfReason, readonly [says: RegExp, ...requests: Sent[]]> = {
  'token-missing': [
    /has no CSRF token\. Send the result of reply\.generateCsrf\(\)/,
    {},
    { payload: { name: 'ada' } },
    { payload: 'name=ada', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    { url: '/verified' }
  ],
  'token-wrong': [
    /is not valid in its session/,
    { headers: { 'x-csrf-token': 'wrong' } },
    { headers: { 'x-csrf-token': 'A'.repeat(86) } },
    { payload: { _csrf: 'wrong' } },
    { url: '/verified', payload: { token: 'wrong' } }
  ],
  'body-not-parsed': [
    /its body was not parsed into an object with fields/,
    { payload: 'name=ada', headers: { 'content-type': 'text/plain' } },
    { payload: '[]', headers: { 'content-type': 'application/json' } },
    { payload: 'null', headers: { 'content-type': 'application/json' } },
    { payload: 'bytes', headers: { 'content-type': 'application/octet-stream' } },
    { payload: 'bytes', headers: { 'content-type': 'application/x-stream' } },
    { payload: 'no content type' },
    { payload: 'chunked', headers: { 'transfer-encoding': 'chunked' } },
    multipart([['_csrf', 'A'.repeat(86)]])
  ],
  'sec-fetch-site': [
    /a page of another origin sent it.* config: \{ csrf: false \} .* csrf\.trustedOrigins/,
    { headers: { 'sec-fetch-site': 'cross-site', origin: 'http://evil.test' } },
    { headers: { 'sec-fetch-site': 'same-site' } },
    { headers: { 'sec-fetch-site': 'cross-site', origin: 'null' } }
  ],
  origin: [
    /Behind a proxy that terminates TLS, set Fastify's trustProxy/,
    { headers: { origin: 'http://evil.test' } },
    { headers: { origin: 'https://app.test' } },
    { headers: { origin: '' } }
  ],
  'origin-null': [/Referrer-Policy: no-referrer/, { headers: { origin: 'null' } }]
}

interface Sent {
  readonly url?: string
  readonly headers?: Record<string, string>
  readonly payload?: string | object
}

void t.test('the log and the channel say why a request was refused, and the reply does not', async (t) => {
  const { logger, take } = refusalLog()
  const app = await makeCsrfApp(t, {}, { logger })
  await app.register(formbody)
  await app.register(fastifyMultipart)
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body)
  )
  app.addContentTypeParser('application/x-stream', (_request, body, done) => done(null, body))
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body))
  app.post('/verified', { config: { csrf: 'origin' } }, async (request) =>
    request.verifyCsrf((request.body as { token?: string } | undefined)?.token)
  )
  app.setErrorHandler(async (error, _request, reply) => reply.code(403).send(error))
  const { browser } = await visit(app)
  const published = listen(t, 'csrf-refused')
  for (const [reason, [says, ...requests]] of Object.entries(REASONS)) {
    for (const { url = '/target', headers, payload } of requests) {
      const note = `${reason}: ${JSON.stringify({ url, headers, payload })}`
      const request = { method: 'POST', url: `${url}?a=b?c`, headers: { host: HOST, ...headers } } as const
      const response = await browser.request({ ...request, ...(payload !== undefined && { payload }) })
      t.same(
        response.json(),
        reason.includes('-site') || reason.includes('origin') ? CROSS_SITE : REFUSED,
        note
      )
      t.same(published.splice(0), [{ reason, method: 'POST', url }], note)
      const lines = take()
      t.equal(lines.length, 1, note)
      t.match(lines[0], { level: 30, reason, method: 'POST', url, msg: says }, note)
      t.match(lines[0], { msg: /^fastify-sesame: a request was refused: / })
    }
  }
})

void t.test('the log names the origins of a request that was refused for its origin', async (t) => {
  const { logger, take } = refusalLog()
  const app = await makeCsrfApp(t, {}, { logger })
  const headers = { host: HOST, origin: 'https://app.test' }
  await app.inject({ method: 'POST', url: '/target', headers })
  t.match(take(), [{ origin: 'https://app.test', own: 'http://app.test' }])
  await app.inject({ method: 'POST', url: '/target', headers: { host: HOST, 'sec-fetch-site': 'same-site' } })
  t.match(take(), [{ site: 'same-site', own: 'http://app.test' }])
})

void t.test('the log and the channel never contain a token', async (t) => {
  let log = ''
  const stream = {
    write(line: string) {
      log += line
    }
  }
  const published = listen(t, 'csrf-refused')
  const app = await makeCsrfApp(t, { protect: 'all' }, { logger: { level: 'trace', stream } })
  const { browser, token } = await visit(app)
  const other = await visit(app)
  await post(browser, { 'x-csrf-token': token })
  await post(browser, { 'x-csrf-token': token, origin: 'http://evil.test' })
  await post(browser, { 'x-csrf-token': token, 'sec-fetch-site': 'cross-site' })
  await post(browser, { 'x-csrf-token': other.token })
  await post(browser, { 'content-type': 'text/plain' }, `_csrf=${token}`)
  for (const _csrf of [token, other.token, [token]]) await post(browser, {}, { _csrf })
  t.match(log, /SESSION_CSRF_TOKEN/)
  t.match(log, /SESSION_CSRF_ORIGIN/)
  t.equal(published.length, 6)
  const seen = log + JSON.stringify(published)
  t.notOk([token, other.token, browser.cookie].some((text) => seen.includes(text)))
})

void t.test('a token from one app is not valid in another app', async (t) => {
  const [one, two] = [await makeCsrfApp(t), await makeCsrfApp(t)]
  const { browser, token } = await visit(one)
  const stranger = new Browser(two)
  stranger.cookies.set('session_id', browser.cookies.get('session_id') as string)
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
  t.equal(verdictOf(await post(stranger, { 'x-csrf-token': token })), 'token')
})

void t.test('csrfProtection works as a plugin hook, as a preHandler and in a preHandler list', async (t) => {
  const app = addRoutes(await makeApp(t))
  t.equal(app.csrfProtection, csrfProtection, 'the decorator is the imported function')
  app.post<{ Body: { name: string }; Params: { id: string } }>(
    '/typed/:id',
    { preHandler: csrfProtection },
    async ({ params }) => params.id
  )
  app.post('/listed', { preHandler: [csrfProtection] }, async () => 'listed')
  await app.register(
    async (child) => {
      child.addHook('preHandler', csrfProtection)
      child.post('/inside', async () => 'inside')
    },
    { prefix: '/child' }
  )
  for (const url of ['/typed/5', '/listed', '/child/inside']) {
    t.equal(verdictOf(await app.inject({ method: 'POST', url })), 'token', url)
  }
})
