import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import formbody from '@fastify/formbody'
import fastifyMultipart from '@fastify/multipart'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { SessionOptionError } from '../../plugin/index.js'
import { Browser, makeApp } from '../fixtures/app.js'
import {
  HOST,
  makeCsrfApp,
  METHODS,
  multipart,
  OWN,
  post,
  postRaw,
  PROTECTIONS,
  type Protect,
  verdictOf,
  visit
} from '../fixtures/csrf.js'

// Section D of the security cases: a change that another site asks for is refused.

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

/** What the design says of a row, in its own order and from the row's words alone. */
function expected({ site, origin, method, token }: Row, needsToken: boolean): string {
  if (method === 'GET' || method === 'HEAD' || method === 'OPTIONS') return 'passes'
  const isFromHere = {
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
  if (!isFromHere) return 'origin'
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
    void t.test(`D1: the whole table, protect: '${protect}', token: ${String(token)}`, async (t) => {
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
    })
  }
}

/** Apps that take every kind of body, each another way to read multipart. */
async function withBodies(t: Test, protect: Protect, attachFieldsToBody: true | 'keyValues') {
  const app = await makeCsrfApp(t, { protect })
  await app.register(formbody)
  await app.register(fastifyMultipart, { attachFieldsToBody })
  return app
}

function bodiesWith(fields: Record<string, string>) {
  const entries = Object.entries(fields)
  return [
    ['text/plain', new URLSearchParams(entries).toString()],
    ['application/x-www-form-urlencoded', new URLSearchParams(entries).toString()],
    ['application/json', JSON.stringify(fields)],
    [multipart(entries).headers['content-type'], multipart(entries).payload]
  ] as const
}

for (const protect of PROTECTIONS) {
  for (const attach of [true, 'keyValues'] as const) {
    void t.test(`D2: bodies of every kind are checked, protect: '${protect}', ${attach}`, async (t) => {
      const app = await withBodies(t, protect, attach)
      const { browser, token } = await visit(app)
      const other = await visit(app)
      for (const [type, body] of bodiesWith({ name: 'ada' })) {
        const headers = { 'content-type': type }
        t.equal(verdictOf(await post(browser, headers, body)), 'token', `${type} without a token`)
        const byHeader = await post(browser, { ...headers, 'x-csrf-token': token }, body)
        t.equal(verdictOf(byHeader), 'passes', `${type} with the header`)
      }
      for (const [type, body] of bodiesWith({ name: 'ada', _csrf: other.token })) {
        t.equal(verdictOf(await post(browser, { 'content-type': type }, body)), 'token', `${type}, another's`)
      }
      for (const [type, body] of bodiesWith({ name: 'ada', _csrf: token })) {
        const response = await post(browser, { 'content-type': type }, body)
        t.equal(verdictOf(response), type === 'text/plain' ? 'token' : 'passes', `${type} with the field`)
      }
      t.equal(verdictOf(await post(browser)), 'token', 'no body')
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes', 'no body, the header')
    })
  }
}

void t.test('D2: the handler gets the body as it came', async (t) => {
  const app = await withBodies(t, 'all', 'keyValues')
  app.post('/echo', async ({ body }) => body)
  const { browser, token } = await visit(app)
  for (const [type, payload] of bodiesWith({ name: 'ada', _csrf: token }).slice(1)) {
    const headers = { 'content-type': type }
    const response = await browser.request({ method: 'POST', url: '/echo', headers, payload })
    t.same(response.json(), { name: 'ada', _csrf: token }, type)
  }
})

void t.test('D2: a file, a repeated field or an empty multipart body carries no token', async (t) => {
  for (const attach of [true, 'keyValues'] as const) {
    const app = await withBodies(t, 'all', attach)
    const { browser, token } = await visit(app)
    for (const fields of [
      [['_csrf', Buffer.from(token)]],
      [
        ['_csrf', token],
        ['_csrf', token]
      ],
      []
    ] as const) {
      const { headers, payload } = multipart(fields)
      t.equal(verdictOf(await post(browser, headers, payload)), 'token')
    }
  }
})

void t.test('D3: GET, HEAD and OPTIONS are never checked, every other method is', async (t) => {
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

void t.test('D3: no header, field or query turns a checked request into an unchecked one', async (t) => {
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

void t.test(
  'D4/CVE-2023-29020, CVE-2022-24895, CVE-2018-11406: a token dies with the login and the logout after it',
  async (t) => {
    const app = await makeCsrfApp(t)
    const { browser, token: before } = await visit(app)
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': before })), 'passes')
    await browser.get('/login')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': before })), 'token', 'no secret yet')
    const { payload: during } = await browser.get('/token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': before })), 'token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': during })), 'passes')
    await browser.get('/logout')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': during })), 'token', 'anonymous')
    const { payload: after } = await browser.get('/token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': during })), 'token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': after })), 'passes')
  }
)

void t.test(
  'D4/CVE-2021-29624, CVE-2023-27495: an attacker gains nothing from a token of their own',
  async (t) => {
    const app = await makeCsrfApp(t, { protect: 'all' })
    const victim = await visit(app)
    const attacker = await visit(app)
    t.equal(verdictOf(await post(victim.browser, { 'x-csrf-token': attacker.token })), 'token')
    const forgedCookies = [`_csrf=${attacker.token}`, `csrf=${attacker.token}`, `$csrf=${attacker.token}`]
    for (const forged of forgedCookies) {
      const cookie = `${forged}; ${victim.browser.cookie}`
      const headers = { cookie, 'x-csrf-token': attacker.token }
      t.equal(verdictOf(await post(victim.browser, headers)), 'token', 'no cookie vouches for a token')
    }
    const tossed = `${attacker.browser.cookie}; ${victim.browser.cookie}`
    const sibling = { origin: 'http://blog.app.test', 'x-csrf-token': attacker.token, cookie: tossed }
    t.equal(verdictOf(await post(victim.browser, sibling)), 'origin', 'a sibling host is another origin')
    const modern = { ...sibling, origin: OWN, 'sec-fetch-site': 'same-site' }
    t.equal(verdictOf(await post(victim.browser, modern)), 'origin')
  }
)

void t.test('D4/CVE-2021-29624: a tossed session is the only one its token can change', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  app.post('/rename', async ({ session }) => {
    session.set('name', 'changed')
    return 'renamed'
  })
  const victim = await visit(app)
  const attacker = await visit(app)
  for (const cookie of [
    `${attacker.browser.cookie}; ${victim.browser.cookie}`,
    `${victim.browser.cookie}; ${attacker.browser.cookie}`
  ]) {
    await app.inject({
      method: 'POST',
      url: '/rename',
      headers: { host: HOST, cookie, 'x-csrf-token': attacker.token }
    })
  }
  t.same((await victim.browser.get('/read')).json(), { name: null })
})

void t.test('D5: 10,000 tokens are all different and unmask to one secret', async (t) => {
  const app = await makeCsrfApp(t)
  app.get('/many', async (_request, reply) => Array.from({ length: 10_000 }, () => reply.generateCsrf()))
  const { browser, token } = await visit(app)
  const tokens = (await browser.get('/many')).json<string[]>()
  const unmask = (text: string) => {
    const bytes = Buffer.from(text, 'base64url')
    return Buffer.from(bytes.subarray(0, 32).map((pad, at) => pad ^ (bytes[32 + at] as number))).toString(
      'hex'
    )
  }
  t.equal(new Set(tokens).size, 10_000)
  t.equal(new Set(tokens.map((text) => text.slice(0, 43))).size, 10_000, 'the pads differ')
  t.equal(new Set(tokens.map((text) => text.slice(43))).size, 10_000, 'the masked secrets differ')
  t.same([...new Set([token, ...tokens].map(unmask))], [unmask(token)])
  t.ok(tokens.every((text) => /^[A-Za-z0-9_-]{86}$/.test(text)))
  for (const one of [token, tokens[0], tokens[9_999]]) {
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': one as string })), 'passes')
  }
})

void t.test('D6: what is no token is refused, never a 500', async (t) => {
  const app = await withBodies(t, 'all', true)
  const { browser, token } = await visit(app)
  const imitation = { type: 'field', fieldname: '_csrf', value: token }
  const values: unknown[] = [
    [token],
    [imitation],
    imitation,
    { value: token },
    { toString: token },
    { length: 86 },
    {},
    [],
    0,
    86,
    true,
    null,
    '',
    ' ',
    '😀',
    '😀'.repeat(43),
    'a'.repeat(65_536),
    token.slice(1),
    `${token}A`,
    `${token}\n`,
    ` ${token}`,
    `${token}=`,
    token.toLowerCase(),
    Buffer.from(token, 'base64url').toString('hex'),
    'A'.repeat(86)
  ]
  for (const _csrf of values) {
    const response = await post(browser, { 'content-type': 'application/json' }, JSON.stringify({ _csrf }))
    t.equal(verdictOf(response), 'token', JSON.stringify(_csrf).slice(0, 40))
  }
  for (const body of ['null', '[]', '"_csrf"', '0', `["_csrf", "${token}"]`, `{"csrf":"${token}"}`]) {
    t.equal(verdictOf(await post(browser, { 'content-type': 'application/json' }, body)), 'token', body)
  }
  for (const header of ['', ' ', token.slice(1), `${token}, ${token}`, 'null', 'a'.repeat(8192)]) {
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': header })), 'token', header.slice(0, 40))
  }
})

void t.test('D6: a body that pollutes prototypes, or inherits a token, brings none', async (t) => {
  const app = await withBodies(t, 'all', true)
  app.addContentTypeParser('application/heir', { parseAs: 'string' }, (_request, text, done) =>
    done(null, Object.create({ _csrf: text }))
  )
  const { browser, token } = await visit(app)
  const { headers, payload } = multipart([['__proto__', token]])
  t.ok((await post(browser, headers, payload)).statusCode < 500)
  const polluting = `{"__proto__":{"_csrf":"${token}"},"constructor":{"prototype":{"_csrf":"${token}"}}}`
  t.equal((await post(browser, { 'content-type': 'application/json' }, polluting)).statusCode, 400)
  t.equal(verdictOf(await post(browser, { 'content-type': 'application/heir' }, token)), 'token')
})

void t.test('D6: a file is no token, whatever the application makes of it', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  await app.register(fastifyMultipart, {
    attachFieldsToBody: true,
    async onFile(part) {
      Object.assign(part, { value: (await part.toBuffer()).toString() })
    }
  })
  const { browser, token } = await visit(app)
  const { headers, payload } = multipart([['_csrf', Buffer.from(token)]])
  t.equal(verdictOf(await post(browser, headers, payload)), 'token')
})

void t.test('D7/GHSA-49wp-qq6x-g2rf: a token in the URL is no token', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    const { browser, token } = await visit(app)
    for (const name of ['_csrf', 'x-csrf-token', 'csrf']) {
      const response = await browser.request({
        method: 'POST',
        url: `/target?${name}=${token}`,
        headers: { host: HOST, origin: OWN }
      })
      t.equal(verdictOf(response), 'token', name)
    }
  }
})

void t.test('D8: an anonymous login is checked, so that nobody is signed in as the attacker', async (t) => {
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
})

void t.test(
  'D9/CVE-2025-24358, CVE-2025-47909: a trusted origin is that origin, to the letter',
  async (t) => {
    const app = await makeCsrfApp(t, { protect: 'all', trustedOrigins: ['https://a.test'] })
    const { browser, token } = await visit(app)
    const send = (origin: string, more = {}) => post(browser, { origin, 'x-csrf-token': token, ...more })
    t.equal(verdictOf(await send('https://a.test')), 'passes')
    t.equal(verdictOf(await send('https://a.test', { 'sec-fetch-site': 'cross-site' })), 'passes')
    for (const origin of [
      'http://a.test',
      'https://a.test:444',
      'https://a.test:443',
      'https://a.test.evil',
      'https://evil.a.test',
      'https://evila.test',
      'https://a.test/',
      'https://a.test.',
      'https://A.test',
      'https://user@a.test',
      'https://a.test@evil.test',
      'https://a.test, https://evil.test',
      'https://evil.test#https://a.test',
      '//a.test',
      'a.test',
      'null',
      ''
    ]) {
      t.equal(verdictOf(await send(origin)), 'origin', origin)
      t.equal(verdictOf(await send(origin, { 'sec-fetch-site': 'cross-site' })), 'origin', origin)
    }
  }
)

void t.test('D9: a trusted origin that is none is refused at registration', async (t) => {
  for (const origin of [
    'https://a.test/',
    'https://a.test:443',
    'HTTPS://a.test',
    'https://user@a.test',
    'https://bücher.test',
    'ftp://a.test',
    'a.test',
    'null',
    '*',
    'https://*.a.test',
    ''
  ]) {
    const csrf = { trustedOrigins: ['https://fine.test', origin] }
    await t.rejects(makeApp(t, { csrf }), { message: /"csrf\.trustedOrigins"/ }, origin)
  }
  const csrf = { trustedOrigins: 'https://a.test' as unknown as string[] }
  await t.rejects(makeApp(t, { csrf }), SessionOptionError, 'a text is no list')
})

void t.test('D10: forwarded headers name the own origin only with trustProxy', async (t) => {
  const forwarded = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'front.test' }
  for (const trustProxy of [true, false, '10.0.0.1', '127.0.0.1']) {
    const app = await makeCsrfApp(t, { protect: 'all', token: false }, { trustProxy })
    const isTrusted = trustProxy === true || trustProxy === '127.0.0.1'
    const send = async (origin: string, headers: Record<string, string> = forwarded) =>
      verdictOf(await post(new Browser(app), { origin, ...headers }))
    t.equal(await send('https://front.test'), isTrusted ? 'passes' : 'origin')
    t.equal(await send(OWN), isTrusted ? 'origin' : 'passes')
    t.equal(await send('http://front.test'), 'origin')
    const list = { 'x-forwarded-proto': 'http, https', 'x-forwarded-host': 'evil.test, front.test' }
    t.equal(await send('https://front.test', list), isTrusted ? 'passes' : 'origin')
    t.equal(await send('http://evil.test', list), 'origin', 'the nearest proxy is the one that counts')
  }
})

void t.test('D10: no forwarded scheme makes `null` the own origin', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all', token: false }, { trustProxy: true })
  for (const scheme of ['h2', 'file', 'javascript', 'data', 'wss', '', ' ', 'https:']) {
    const headers = { 'x-forwarded-proto': scheme, origin: 'null' }
    t.equal(verdictOf(await post(new Browser(app), headers)), 'origin', scheme)
  }
})

/** POST /hook is exempt; whatever no other route takes ends in `*`. */
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

void t.test('D11/CVE-2025-47910: an exemption is the route that has it, and no other path', async (t) => {
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
      t.equal(verdictOf(await app.inject({ method, url: '/hook' })), 'token', `${method} is another route`)
    }
  }
})

void t.test('D11: an exempt route is exempt from both doors, and only `false` exempts', async (t) => {
  const app = await makeApp(t, { csrf: { protect: 'all' } })
  app.post('/exempt', { config: { csrf: false } }, async () => 'exempt')
  app.post('/listed', { config: { csrf: false }, preHandler: app.csrfProtection }, async () => 'exempt')
  const headers = { origin: 'http://evil.test', 'sec-fetch-site': 'cross-site', 'x-csrf-token': 'x' }
  for (const url of ['/exempt', '/listed']) {
    t.equal((await app.inject({ method: 'POST', url, headers })).payload, 'exempt')
  }
  for (const csrf of [undefined, null, 0, '', true]) {
    const url = `/checked-${String(csrf)}`
    const other = await makeApp(t, { csrf: { protect: 'all' } })
    other.post(url, { config: { csrf } as object }, async () => 'checked')
    t.equal(verdictOf(await other.inject({ method: 'POST', url })), 'token', String(csrf))
  }
})

void t.test('D12/CVE-2011-0696: X-Requested-With stands for nothing', async (t) => {
  for (const protect of PROTECTIONS) {
    const app = await makeCsrfApp(t, { protect })
    const { browser } = await visit(app)
    const script = { 'x-requested-with': 'XMLHttpRequest', 'content-type': 'application/json' }
    t.equal(verdictOf(await post(browser, script, '{}')), 'token')
    t.equal(verdictOf(await post(browser, { ...script, origin: 'http://evil.test' }, '{}')), 'origin')
    t.equal(verdictOf(await post(browser, { ...script, 'sec-fetch-site': 'cross-site' }, '{}')), 'origin')
  }
})

void t.test('CVE-2013-0263: a token is compared once, whole and in constant time', async (t) => {
  const { timingSafeEqual } = crypto
  const compared: number[] = []
  crypto.timingSafeEqual = (a, b) => {
    if (a.byteLength === 32) compared.push(a.byteLength, b.byteLength)
    return timingSafeEqual(a, b)
  }
  syncBuiltinESMExports()
  t.teardown(() => {
    crypto.timingSafeEqual = timingSafeEqual
    syncBuiltinESMExports()
  })
  const app = await makeCsrfApp(t)
  const { browser, token } = await visit(app)
  compared.length = 0
  for (const [text, verdict] of [
    [token, 'passes'],
    [`A${token.slice(1)}`, token.startsWith('A') ? 'passes' : 'token'],
    [`${token.slice(0, 80)}AAAAAA`, 'token']
  ] as const) {
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': text })), verdict)
  }
  t.same(compared, [32, 32, 32, 32, 32, 32])
})
