import crypto from 'node:crypto'
import type { OutgoingHttpHeaders } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import formbody from '@fastify/formbody'
import fastifyMultipart from '@fastify/multipart'
import type { FastifyReply } from 'fastify'
import t from 'tap'
import { csrfProtection, MemoryStore } from '../../plugin/index.js'
import { idOfToken } from '../../plugin/cookies/tokens.js'
import { Browser, makeApp, setCookieOf } from '../fixtures/app.js'
import {
  bodiesWith,
  HOST,
  makeCsrfApp,
  multipart,
  OWN,
  post,
  PROTECTIONS,
  verdictOf,
  visit,
  withBodies
} from '../fixtures/csrf.js'
import { makeRecord, spyStore } from '../fixtures/stores.js'

// These tests cover the token check, which runs after the origin check.

for (const protect of PROTECTIONS) {
  for (const attach of [true, 'keyValues'] as const) {
    void t.test(
      `D2: bodies of every content type are checked (protect: '${protect}', attachFieldsToBody: ${attach})`,
      async (t) => {
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
          t.equal(
            verdictOf(await post(browser, { 'content-type': type }, body)),
            'token',
            `${type} with a token of another session`
          )
        }
        for (const [type, body] of bodiesWith({ name: 'ada', _csrf: token })) {
          const response = await post(browser, { 'content-type': type }, body)
          t.equal(verdictOf(response), type === 'text/plain' ? 'token' : 'passes', `${type} with the field`)
        }
        t.equal(verdictOf(await post(browser)), 'token', 'no body, no token')
        t.equal(
          verdictOf(await post(browser, { 'x-csrf-token': token })),
          'passes',
          'no body, with the header'
        )
      }
    )
  }
}

void t.test('D2: the handler receives the body unchanged', async (t) => {
  const app = await withBodies(t, 'all', 'keyValues')
  app.post('/echo', async ({ body }) => body)
  const { browser, token } = await visit(app)
  for (const [type, payload] of bodiesWith({ name: 'ada', _csrf: token }).slice(1)) {
    const headers = { 'content-type': type }
    const response = await browser.request({ method: 'POST', url: '/echo', headers, payload })
    t.same(response.json(), { name: 'ada', _csrf: token }, type)
  }
})

void t.test(
  'D2: no token is accepted from a file, a repeated field or an empty multipart body',
  async (t) => {
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
  }
)

void t.test('a token is refused if the body schema removes the field that contains it', async (t) => {
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

void t.test('the token is read from the header or the body field that the options name', async (t) => {
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

void t.test('the token is also read from the headers that other libraries use', async (t) => {
  for (const [csrf, first] of [
    [{}, 'x-csrf-token'],
    [{ header: 'X-My-Token' }, 'x-my-token']
  ] as const) {
    const app = await makeCsrfApp(t, csrf)
    const { browser, token } = await visit(app)
    const names = [first, 'csrf-token', 'xsrf-token', 'x-xsrf-token'] as const
    for (const [at, name] of names.entries()) {
      t.equal(verdictOf(await post(browser, { [name]: token })), 'passes', name)
      const before = names[at - 1]
      if (before === undefined) continue
      t.equal(verdictOf(await post(browser, { [before]: token, [name]: 'wrong' })), 'passes', name)
      t.equal(verdictOf(await post(browser, { [before]: 'wrong', [name]: token })), 'token', name)
    }
    t.equal(verdictOf(await post(browser, { 'xsrf-token': 'wrong' }, { _csrf: token })), 'token')
    t.equal(verdictOf(await post(browser, { 'x-token': token })), 'token', 'a header that is not listed')
  }
})

void t.test('the token field of the body is ignored if the request has the token header', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  const { browser, token } = await visit(app)
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': 'wrong' }, { _csrf: token })), 'token')
  t.equal(verdictOf(await post(browser, { 'x-csrf-token': token }, { _csrf: 'wrong' })), 'passes')
})

void t.test('the token field of the body is read even if the request has no Content-Type', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
    done(null, { _csrf: body })
  })
  const { browser, token } = await visit(app)
  t.equal(verdictOf(await post(browser, {}, token)), 'passes')
  t.equal(verdictOf(await post(browser, {}, 'wrong')), 'token')
})

void t.test('a multipart token field with the value null is refused as a wrong token', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  await app.register(fastifyMultipart, { attachFieldsToBody: 'keyValues' })
  const { browser } = await visit(app)
  const field = 'Content-Disposition: form-data; name="_csrf"\r\nContent-Type: application/json\r\n\r\nnull'
  const headers = { 'content-type': 'multipart/form-data; boundary=x' }
  t.equal(verdictOf(await post(browser, headers, `--x\r\n${field}\r\n--x--\r\n`)), 'token')
})

void t.test(
  'D4/CVE-2023-29020, CVE-2022-24895, CVE-2018-11406: a CSRF token does not survive a login or a logout',
  async (t) => {
    const app = await makeCsrfApp(t)
    const { browser, token: before } = await visit(app)
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': before })), 'passes')
    await browser.get('/login')
    t.equal(
      verdictOf(await post(browser, { 'x-csrf-token': before })),
      'token',
      'the new session has no secret yet'
    )
    const { payload: during } = await browser.get('/token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': before })), 'token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': during })), 'passes')
    await browser.get('/logout')
    t.equal(
      verdictOf(await post(browser, { 'x-csrf-token': during })),
      'token',
      'the secret ended with the session'
    )
    const { payload: after } = await browser.get('/token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': during })), 'token')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': after })), 'passes')
  }
)

void t.test(
  'D4/CVE-2021-29624, CVE-2023-27495: an attacker’s token does not work in the session of the victim',
  async (t) => {
    const app = await makeCsrfApp(t, { protect: 'all' })
    const victim = await visit(app)
    const attacker = await visit(app)
    t.equal(verdictOf(await post(victim.browser, { 'x-csrf-token': attacker.token })), 'token')
    const forgedCookies = [`_csrf=${attacker.token}`, `csrf=${attacker.token}`, `$csrf=${attacker.token}`]
    for (const forged of forgedCookies) {
      const cookie = `${forged}; ${victim.browser.cookie}`
      const headers = { cookie, 'x-csrf-token': attacker.token }
      t.equal(
        verdictOf(await post(victim.browser, headers)),
        'token',
        'a CSRF cookie does not make a token valid'
      )
    }
    const tossed = `${attacker.browser.cookie}; ${victim.browser.cookie}`
    const sibling = { origin: 'http://blog.app.test', 'x-csrf-token': attacker.token, cookie: tossed }
    t.equal(verdictOf(await post(victim.browser, sibling)), 'origin', 'a sibling host is a different origin')
    const modern = { ...sibling, origin: OWN, 'sec-fetch-site': 'same-site' }
    t.equal(verdictOf(await post(victim.browser, modern)), 'origin')
  }
)

void t.test(
  'D4/CVE-2021-29624: a planted session cookie and the attacker’s token cannot change the victim’s session',
  async (t) => {
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
  }
)

void t.test('D5: 10,000 tokens of one session are all different, but encode the same secret', async (t) => {
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

void t.test('D6: a malformed token is refused with 403 and never causes a 500', async (t) => {
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

void t.test('D6: no token is accepted from a polluted prototype or an inherited property', async (t) => {
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

void t.test(
  'D6: a file is not accepted as a token, even if the application turns it into a string',
  async (t) => {
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
  }
)

void t.test('verifyCsrf() accepts a token of the session and throws for anything else', async (t) => {
  const store = spyStore()
  const app = await makeCsrfApp(t, { token: false })
  app.post('/own', async (request) => request.verifyCsrf((request.body as { token: unknown }).token) ?? 'own')
  const readonly = await makeApp(t, { store })
  readonly.get('/token', async (_request, reply) => reply.generateCsrf())
  readonly.post('/own', { config: { session: 'readonly', csrf: 'origin' } }, async (request) => {
    request.verifyCsrf((request.body as { token: unknown }).token)
    return 'own'
  })
  for (const one of [app, readonly]) {
    const { browser, token } = await visit(one)
    const other = await visit(one)
    store.take()
    const send = async (token: unknown, client = browser) =>
      verdictOf(await client.request({ method: 'POST', url: '/own', payload: { token } }))
    t.equal(await send(token), 'passes')
    for (const wrong of [undefined, null, '', 5, [token], { token }, `${token}A`, other.token]) {
      t.equal(await send(wrong), 'token', JSON.stringify(wrong))
    }
    t.equal(await send(token, new Browser(one)), 'token', 'a request without a session')
    t.notOk(
      store.takeNames().some((name) => name !== 'get'),
      'a check never writes the session'
    )
  }
})

void t.test('verifyCsrf() checks the token of a multipart body that the handler streams', async (t) => {
  const app = await makeCsrfApp(t)
  await app.register(fastifyMultipart)
  app.post('/upload', { config: { csrf: 'origin' }, preHandler: csrfProtection }, async (request) => {
    const upload = await request.file()
    const field = upload?.fields['_csrf']
    request.verifyCsrf(field !== undefined && 'value' in field ? field.value : undefined)
    return (await upload?.toBuffer())?.toString()
  })
  const { browser, token } = await visit(app)
  const send = (fields: Parameters<typeof multipart>[0], more = {}) => {
    const { headers, payload } = multipart([...fields, ['file', Buffer.from('content')]])
    return browser.request({ method: 'POST', url: '/upload', headers: { ...headers, ...more }, payload })
  }
  t.equal((await send([['_csrf', token]])).payload, 'content')
  t.equal(verdictOf(await send([['_csrf', 'wrong']])), 'token')
  t.equal(verdictOf(await send([])), 'token')
  t.equal(verdictOf(await send([['_csrf', token]], { origin: 'http://evil.test' })), 'origin')
})

void t.test('verifyCsrf() throws SESSION_OFF on a route with session: false', async (t) => {
  const app = await makeApp(t)
  app.post('/off', { config: { session: false } }, async (request) => request.verifyCsrf('token'))
  t.match((await app.inject({ method: 'POST', url: '/off' })).json(), {
    statusCode: 500,
    code: 'SESSION_OFF'
  })
})

void t.test('D7/GHSA-49wp-qq6x-g2rf: a token in the URL is refused', async (t) => {
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

void t.test(
  'CVE-2013-0263: the whole token is compared in constant time, in a single comparison',
  async (t) => {
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
  }
)

void t.test(
  'the first call to generateCsrf() in a session writes its secret, and later calls write nothing',
  async (t) => {
    const store = spyStore()
    const app = await makeApp(t, { store, csrf: { protect: 'all' } })
    app.get('/form', async (_request, reply) => [reply.generateCsrf(), reply.generateCsrf()])
    app.post('/target', async () => 'target')
    app.get('/begin', async ({ session }) => session.set('name', 'ada') ?? 'begun')
    const browser = new Browser(app)
    await browser.get('/begin')
    store.take()
    const first = await browser.get('/form')
    t.equal(first.headers['vary'], 'Cookie')
    t.same(store.takeNames(), ['get', 'update'])
    const [one, two] = first.json<[string, string]>()
    t.not(one, two)
    const again = await browser.get('/form')
    t.equal(setCookieOf(again), undefined)
    t.equal(again.headers['vary'], 'Cookie')
    t.same(store.takeNames(), ['get'])
    for (const token of [one, two, ...again.json<[string, string]>()]) {
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
    }
    t.same(store.takeNames(), ['get', 'get', 'get', 'get'], 'a check reads the session and never writes it')
  }
)

void t.test('a reply that prints a CSRF token is not cached, whatever the handler says', async (t) => {
  const app = await makeApp(t)
  app.addHook(
    'onRequest',
    async (_request, reply) => void reply.header('cache-control', 'public, max-age=60')
  )
  const cache = (reply: FastifyReply) => reply.header('cache-control', 'public, max-age=300')
  app.get('/before', async (_request, reply) => cache(reply).send(reply.generateCsrf()))
  app.get('/after', async (_request, reply) => {
    const token = reply.generateCsrf()
    return cache(reply).send(token)
  })
  app.get('/saved', async ({ session }, reply) => {
    const token = reply.generateCsrf()
    await session.save()
    return cache(reply).send(token)
  })
  app.get('/readonly', { config: { session: 'readonly' } }, async (_request, reply) =>
    cache(reply).send(reply.generateCsrf())
  )
  app.get('/hijacked', async ({ session }, reply) => {
    const token = reply.generateCsrf()
    await session.save()
    reply.hijack()
    reply.raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders).end(token)
  })
  app.get('/failed', async (_request, reply) => {
    const token = reply.generateCsrf()
    return cache(reply).code(500).send(token)
  })
  app.get('/plain', async (_request, reply) => cache(reply).send('no token'))
  const browser = new Browser(app)
  await browser.get('/before')
  for (const url of ['/before', '/after', '/saved', '/readonly', '/hijacked', '/failed']) {
    const { headers, payload } = await browser.get(url)
    t.match(payload, /^[\w-]{86}$/, url)
    t.equal(headers['set-cookie'], undefined, 'the session and its CSRF secret exist already')
    t.equal(headers['cache-control'], 'no-store', url)
  }
  t.equal((await browser.get('/plain')).headers['cache-control'], 'public, max-age=300')
})

void t.test('generateCsrf() throws SESSION_OFF on a route with session: false', async (t) => {
  const app = await makeApp(t)
  app.get('/off', { config: { session: false } }, async (_request, reply) => reply.generateCsrf())
  t.match((await app.inject('/off')).json(), { statusCode: 500, code: 'SESSION_OFF' })
})

void t.test(
  'a readonly route checks tokens, but generates them only if the session already has a CSRF secret',
  async (t) => {
    const store = spyStore()
    const app = await makeApp(t, { store, csrf: { protect: 'all' } })
    const config = { session: 'readonly' } as const
    app.get('/token', async (_request, reply) => reply.generateCsrf())
    app.get('/readonly', { config }, async (_request, reply) => reply.generateCsrf())
    app.post('/target', { config }, async () => 'target')
    app.get('/begin', async ({ session }) => session.set('name', 'ada') ?? 'begun')
    const browser = new Browser(app)
    await browser.get('/begin')
    const without = await browser.get('/readonly')
    t.equal(without.statusCode, 500)
    t.match(without.json(), { code: 'SESSION_READONLY' })
    const { payload: token } = await browser.get('/token')
    store.take()
    const { payload: another } = await browser.get('/readonly')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'passes')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': another })), 'passes')
    t.equal(verdictOf(await post(browser, { 'x-csrf-token': 'wrong' })), 'token')
    t.same(store.takeNames(), ['get', 'get', 'get', 'get'])
  }
)

/** Replaces the browser's stored session with a damaged one, whose CSRF secret (`$csrf`) is `text`. */
async function damage(browser: Browser, store: MemoryStore, text: string): Promise<void> {
  const id = idOfToken((browser.cookies.get('session_id') as string).split('.')[0] as string)
  store.destroy(id)
  store.create(id, makeRecord({ data: { $csrf: text } }))
}

void t.test(
  'every token is refused if the stored secret is malformed, until generateCsrf() replaces the secret',
  async (t) => {
    const store = new MemoryStore()
    const app = await makeApp(t, { store, csrf: { protect: 'all' } })
    app.get('/begin', async ({ session }) => session.set('name', 'ada') ?? 'begun')
    app.get('/token', async (_request, reply) => reply.generateCsrf())
    app.post('/target', async () => 'target')
    for (const text of ['5', 'null', '{', '""', '"AAAA"', '["a"]', `"${'A'.repeat(44)}"`, '{"length":32}']) {
      const browser = new Browser(app)
      await browser.get('/begin')
      const { payload: token } = await browser.get('/token')
      await damage(browser, store, text)
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': token })), 'token', text)
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': 'A'.repeat(86) })), 'token', text)
      const { payload } = await browser.get('/token')
      t.equal(verdictOf(await post(browser, { 'x-csrf-token': payload })), 'passes', text)
    }
  }
)

void t.test(
  'clear() and regenerate() remove the CSRF secret, and no session method returns it',
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
