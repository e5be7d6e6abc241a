import crypto, { createHash, createHmac, createSecretKey, randomUUID } from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { inspect } from 'node:util'
import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { cookieValueLength, createTokens, idOfToken } from '../../plugin/cookies/tokens.js'
import { MemoryStore, type SessionOptions } from '../../plugin/index.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { collectGarbage } from '../fixtures/garbage.js'
import { spyStore, wrap } from '../fixtures/stores.js'

const KEY = Buffer.from(SECRET)
const OTHER = Buffer.from('another secret, also long enough')
const tokens = createTokens([KEY], 32)

void t.test(
  'A1: 100,000 tokens all differ, encode idLength bytes in hex, and come from the CSPRNG',
  async (t) => {
    const original = crypto.randomFillSync
    let drawn = ''
    crypto.randomFillSync = ((buffer: Buffer) => {
      original(buffer)
      drawn += buffer.toString('hex')
      return buffer
    }) as typeof crypto.randomFillSync
    syncBuiltinESMExports()
    t.teardown(() => {
      crypto.randomFillSync = original
      syncBuiltinESMExports()
    })
    for (const idLength of [16, 32]) {
      drawn = ''
      const { mint } = createTokens([Buffer.from(SECRET)], idLength)
      const minted = Array.from({ length: 100_000 }, () => mint())
      t.equal(new Set(minted).size, 100_000)
      t.equal(minted.join(''), drawn.slice(0, 100_000 * idLength * 2), 'in the order of the random bytes')
      t.ok(minted.every((token) => token.length === idLength * 2))
    }
  }
)

void t.test(
  'a token is idLength random bytes in lower-case hex, even after the pool of random bytes is refilled',
  async (t) => {
    for (const idLength of [16, 32, 33, 64]) {
      const { mint } = createTokens([KEY], idLength)
      const minted = Array.from({ length: 300 }, () => mint())
      t.ok(minted.every((token) => new RegExp(`^[0-9a-f]{${idLength * 2}}$`).test(token)))
      t.equal(new Set(minted).size, 300)
    }
  }
)

void t.test('mint() can return a token whose id begins with the given hex digits', async (t) => {
  const token = tokens.mint('a1')
  t.match(token, /^[0-9a-f]{64}$/)
  t.match(idOfToken(token), /^a1/)
  t.not(tokens.mint('a1'), token)
})

void t.test(
  'the cookie’s value consists of the token and its HMAC-SHA256, and the id is the token’s SHA-256 hash',
  async (t) => {
    const token = tokens.mint()
    t.equal(tokens.sign(token), `${token}.${createHmac('sha256', KEY).update(token).digest('base64url')}`)
    t.equal(idOfToken(token), createHash('sha256').update(token).digest('hex'))
  }
)

void t.test('a Buffer and a KeyObject with the same bytes give the same signature', async (t) => {
  const token = tokens.mint()
  t.equal(createTokens([createSecretKey(KEY)], 32).sign(token), tokens.sign(token))
})

void t.test(
  'verify() returns the token and the id of a signed cookie value, for every idLength',
  async (t) => {
    for (const idLength of [16, 32, 64]) {
      const { mint, sign, verify } = createTokens([KEY], idLength)
      const token = mint()
      const value = sign(token)
      t.equal(value.length, cookieValueLength(idLength))
      for (let visit = 0; visit < 2; visit++)
        t.same(verify(value), { value, token, id: idOfToken(token), stale: false })
    }
  }
)

void t.test('verify() returns the entry that issue() cached for the same cookie', async (t) => {
  const { mint, sign, issue, verify } = createTokens([KEY], 32)
  const token = mint()
  const value = sign(token)
  t.equal(issue(token, 'as issued'), value)
  t.same(verify(Buffer.from(value).toString()), { value, token, id: 'as issued', stale: false })
})

void t.test(
  'the first secret signs cookies, every secret verifies them, and a cookie from an older secret is marked as stale',
  async (t) => {
    const [older, both] = [createTokens([OTHER], 32), createTokens([KEY, OTHER], 32)]
    const token = both.mint()
    t.equal(both.sign(token), tokens.sign(token))
    t.match(both.verify(tokens.sign(token)), { token, stale: false })
    t.match(both.verify(older.sign(token)), { token, stale: true })
    t.equal(tokens.verify(older.sign(token)), undefined)
  }
)

void t.test('a verified cookie stays in the cache even if many invalid cookies follow', async (t) => {
  const { mint, sign, verify } = createTokens([KEY], 32)
  const value = sign(mint())
  const first = verify(value)
  t.equal(verify(value), first, 'the same object')
  for (let n = 0; n < 20_001; n++) verify(`${String(n).padStart(64, '0')}${value.slice(64)}`)
  t.equal(verify(value), first)
})

void t.test('a cached cookie does not keep the whole Cookie header in memory', async (t) => {
  const used = (): number => {
    collectGarbage()
    return process.memoryUsage().heapUsed
  }
  const { mint, sign, verify } = createTokens([KEY], 32)
  const values = Array.from({ length: 2000 }, () => sign(mint()))
  /** Returns the value as a slice of a 16 KB string, as if it had been cut out of a long Cookie header. */
  const cut = (value: string): string => `${'x'.repeat(16_000)}${value}`.slice(-value.length)
  const before = used()
  for (let visit = 0; visit < 2; visit++) for (const value of values) verify(cut(value))
  t.ok(used() - before < 4_000_000, `${used() - before} bytes for 2,000 cookies`)
  t.equal(verify(values[0] as string), verify(values[0] as string), 'the value is cached')
})

void t.test('verify() refuses any string that is not a signed value, however similar it looks', async (t) => {
  const value = tokens.sign(tokens.mint())
  const places = fc.nat({ max: value.length - 1 })
  fc.assert(
    fc.property(places, fc.string({ unit: 'binary', maxLength: 3 }), (at, text) => {
      const changed = value.slice(0, at) + text + value.slice(at + 1)
      return changed === value || tokens.verify(changed) === undefined
    }),
    { seed: 1 }
  )
  fc.assert(
    fc.property(fc.string(), (text) => tokens.verify(text) === undefined),
    { seed: 1 }
  )
  t.ok(tokens.verify(value))
})

void t.test('verify() refuses a correctly signed string that is not a token', async (t) => {
  const token = tokens.mint()
  const value = tokens.sign(token)
  t.equal(tokens.verify(`${token}:${value.slice(65)}`), undefined, 'another separator')
  for (const text of [token.toUpperCase(), `g${token.slice(1)}`, `/${token.slice(1)}`, `\0${token.slice(1)}`])
    t.equal(tokens.verify(tokens.sign(text)), undefined, text)
  const alias = (at: number): string =>
    value.slice(0, at) + String.fromCharCode(value.charCodeAt(at) + 256) + value.slice(at + 1)
  for (const at of [0, 63, 65, 107])
    t.equal(tokens.verify(alias(at)), undefined, `another character with the same latin1 byte at ${at}`)
})

void t.test('A3: a signed value is refused if one character differs or if it is cut short', async (t) => {
  const value = tokens.sign(tokens.mint())
  for (let at = 0; at < value.length; at++) {
    const forged = value.slice(0, at) + (value[at] === 'a' ? 'b' : 'a') + value.slice(at + 1)
    t.equal(tokens.verify(forged), undefined, `differs at ${at}`)
  }
  for (let length = 0; length < value.length; length++)
    t.equal(tokens.verify(value.slice(0, length)), undefined)
})

void t.test('no secret, key or cookie is left in the memory pool that Node’s Buffers share', async (t) => {
  const secret = `only used in this test: ${randomUUID()}`
  const pools = new Set<ArrayBufferLike>()
  const note = () => pools.add(Buffer.from('x').buffer)
  note()
  const { secrets } = resolveOptions({ secret }, () => new MemoryStore())
  const { mint, issue, verify } = createTokens(secrets, 32)
  const token = mint()
  const value = issue(token, idOfToken(token))
  for (let visit = 0; visit < 2; visit++) verify(`${token}.${'a'.repeat(43)}`)
  t.ok(verify(value))
  note()
  const shared = Buffer.concat([...pools].map((pool) => Buffer.from(pool)))
  const key = Buffer.from(secret)
  const padded = (pad: number) => Buffer.from(key.map((byte) => byte ^ pad))
  for (const [name, bytes] of Object.entries({
    'the secret': key,
    'the inner key': padded(0x36),
    'the outer key': padded(0x5c),
    'the token': Buffer.from(token),
    'the cookie': Buffer.from(value)
  })) {
    t.equal(shared.indexOf(bytes), -1, name)
  }
})

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const store = spyStore()
  const app = addRoutes(await makeApp(t, { store, cleanupInterval: 0, ...options }))
  return { app, store, browser: new Browser(app) }
}

/** Sends a request with this Cookie header. Returns the main parts of the response and the store calls. */
async function visit(app: FastifyInstance, store: ReturnType<typeof spyStore>, cookie: string) {
  store.take()
  const response = await app.inject({ url: '/read', headers: { cookie } })
  return {
    status: response.statusCode,
    body: response.body,
    calls: store.takeNames(),
    cookie: setCookieOf(response)
  }
}

const ANONYMOUS = { status: 200, body: '{"name":null}', calls: [] as string[], cookie: undefined }

void t.test(
  'A2: a signed token without a session is not adopted, and the new session has a different id',
  async (t) => {
    const { store, browser } = await setUp(t)
    const token = tokens.mint()
    browser.cookies.set('session_id', tokens.sign(token))
    const response = await browser.get('/set?name=ada')
    const [get, create] = store.take()
    t.same(get, ['get', idOfToken(token)])
    t.equal(create?.[0], 'create')
    t.not(create?.[1], idOfToken(token))
    t.notMatch(setCookieOf(response), token)
    t.equal(await store.get(idOfToken(token)), undefined)
  }
)

/** Returns other strings that encode the same bytes as the signature. */
function spellings(signature: string): string[] {
  const last = signature.slice(-1)
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const twins = [1, 2, 3].map(
    (bits) => signature.slice(0, -1) + (alphabet[alphabet.indexOf(last) ^ bits] ?? '')
  )
  const bytes = Buffer.from(signature, 'base64url')
  return [
    ...twins,
    `${signature}=`,
    bytes.toString('base64'),
    bytes.toString('hex'),
    bytes.toString('latin1')
  ]
}

function hostileValues(value: string): string[] {
  const [token, signature] = value.split('.') as [string, string]
  const other = tokens.sign(tokens.mint()).split('.')[1] as string
  const plain = [
    "'",
    "' OR 1=1--",
    '%00',
    '\u0000',
    '../',
    '../../etc/passwd',
    '__proto__',
    'constructor',
    ''
  ]
  const text = [
    'undefined',
    'null',
    '[object Object]',
    '{"id":1}',
    '.',
    '..',
    'é',
    '💣',
    '\u00ff'.repeat(108),
    '"'
  ]
  const parts = [
    token,
    signature,
    `${token}.`,
    `.${signature}`,
    `${token}${signature}`,
    `${token}..${signature}`
  ]
  const digits = [`${token.slice(1)}.${signature}`, `0${token}.${signature}`, `${token}0.${signature}`]
  const cased = [
    `${token.toUpperCase()}.${signature}`,
    value.toUpperCase(),
    `${token}.${signature.toLowerCase()}`
  ]
  const trailing = ['x', '=', '.', '\u00a0', '\u000b', '%20', ',', '"', '\u0000', `.${signature}`]
  const around = [`"${value}"`, `s:${value}`, value.replace('.', '%2E'), encodeURIComponent(`${value};`)]
  return [
    ...[...plain, ...text, ...parts, ...digits, ...cased, ...around],
    ...trailing.map((garbage) => value + garbage),
    ...spellings(signature).map((spelling) => `${token}.${spelling}`),
    ...[
      `${token}.${other}`,
      `${token}.${'A'.repeat(43)}`,
      `${token}.${'_'.repeat(43)}`,
      `${'0'.repeat(64)}.${signature}`
    ],
    ...['x'.repeat(1_000_000), value.repeat(9_000), `${'a'.repeat(64)}.${'b'.repeat(1_000_000)}`]
  ]
}

void t.test(
  'A3: hostile cookie values cause no store call and no error, and the reply sets no cookie',
  async (t) => {
    const { app, store, browser } = await setUp(t)
    await browser.get('/set?name=ada')
    const value = browser.cookies.get('session_id') as string
    for (const hostile of hostileValues(value)) {
      t.same(
        await visit(app, store, `session_id=${hostile}`),
        ANONYMOUS,
        JSON.stringify(hostile.slice(0, 120))
      )
    }
    t.match(await visit(app, store, `session_id=${value}`), { body: '{"name":"ada"}', calls: ['get'] })
  }
)

void t.test('A4: a token in the URL, the body or any header other than Cookie is ignored', async (t) => {
  const { app, store, browser } = await setUp(t)
  app.post('/read', async ({ session }) => ({ name: session.get('name') ?? null }))
  await browser.get('/set?name=ada')
  const value = browser.cookies.get('session_id') as string
  store.take()
  const responses = await Promise.all([
    app.inject(`/read?session_id=${value}`),
    app.inject(`/read;session_id=${value}`),
    app.inject({ method: 'POST', url: '/read', payload: { session_id: value } }),
    ...['authorization', 'session_id', 'x-session-id', 'cookie2', 'set-cookie', 'x-cookie'].map((name) =>
      app.inject({ url: '/read', headers: { [name]: `session_id=${value}` } })
    )
  ])
  for (const response of responses) {
    if (response.statusCode !== 404) t.same(response.json(), { name: null })
    t.equal(setCookieOf(response), undefined)
  }
  t.same(store.take(), [])
})

/**
 * Sends requests that cause logins, reads, errors, conflicts, refusals and a store failure. Returns the values of the
 * session cookies, and all output except the Set-Cookie headers.
 */
async function drive(t: Test) {
  const out: string[] = []
  let down = false
  const store = wrap(new MemoryStore(), (method, _args, next) => {
    if (down) throw new Error(`the store failed at ${method}`)
    return next()
  })
  const logger = { level: 'trace', stream: { write: (line: string) => void out.push(line) } }
  const app = addRoutes(await makeApp(t, { store, secret: ['n'.repeat(32), SECRET] }, { logger }))
  const browser = new Browser(app)
  const values = new Set<string>()
  const dump = (value: unknown) =>
    out.push(inspect(value, { depth: Infinity, showHidden: true, getters: true }))
  app.get('/dump', async ({ session, log }, reply) => {
    session.set('draft', { text: 'unsaved' })
    dump(session)
    dump(app.sessionManager)
    out.push(JSON.stringify(session), JSON.stringify(app.sessionManager), reply.generateCsrf())
    log.info({ session, id: session.id, manager: app.sessionManager }, 'a session')
    return { session, id: session.id, expiresAt: session.expiresAt }
  })
  app.get('/gone', async ({ session }) => {
    await app.sessionManager.revoke(session.id)
    session.set('name', 'lost')
  })
  app.get('/wrong', async ({ session }) => session.set('name', () => 'not JSON'))
  app.get('/own', async ({ session }) => session.set('$csrf', 'taken'))
  app.get('/after', async ({ session }) => {
    await session.save()
    session.set('name', 'late')
  })
  app.post('/change', { preHandler: app.csrfProtection }, async () => 'changed')
  app.addHook('onError', async (_request, _reply, error) => {
    dump(error)
    out.push(String(error.stack), JSON.stringify(error), JSON.stringify(error.cause))
  })
  async function visit(url: string, method: 'GET' | 'POST' = 'GET') {
    const { headers, body, cookies } = await browser.request({ method, url })
    for (const { name, value } of cookies) if (name === 'session_id' && value !== '') values.add(value)
    out.push(body, JSON.stringify({ ...headers, 'set-cookie': undefined }))
  }
  for (const url of [
    '/set?name=ada',
    '/login',
    '/dump',
    '/read',
    '/add',
    '/wrong',
    '/own',
    '/after',
    '/none'
  ]) {
    await visit(url)
  }
  await visit('/change', 'POST')
  await Promise.all(['/add', '/add', '/add', '/login', '/login', '/logout'].map((url) => visit(url)))
  for (const url of ['/login', '/gone', '/read', '/login', '/logout', '/set?name=ada']) await visit(url)
  down = true
  for (const url of ['/read', '/set?name=eve', '/login', '/logout']) await visit(url)
  return { out: out.join('\n'), values: [...values] }
}

void t.test(
  'A5: no body, header, log line, error or printed session contains a token or a secret',
  async (t) => {
    const { out, values } = await drive(t)
    t.ok(values.length >= 5, `${values.length} cookies were sent`)
    t.match(out, /unsaved|"level":50/, 'the output contains session data or an error')
    for (const value of values) {
      for (const part of [value, ...value.split('.')]) t.notOk(out.includes(part))
    }
    t.notOk(out.includes(SECRET) || out.includes('n'.repeat(32)), 'the output contains no secret')
    t.notMatch(out, /6e 6e 6e 6e 6e/, 'the output contains no bytes of a secret')
  }
)

void t.test('A6: no store call contains a token or a cookie’s value', async (t) => {
  const { app, store, browser } = await setUp(t, { idleTimeout: 1000, secret: ['n'.repeat(32), SECRET] })
  app.get('/form', async ({ session }, reply) => {
    session.setFlash('note', 'hello')
    return reply.generateCsrf()
  })
  const values: string[] = []
  for (const url of [
    '/set?name=ada',
    '/login',
    '/form',
    '/add',
    '/add',
    '/login',
    '/read',
    '/logout',
    '/login'
  ]) {
    const { cookies } = await browser.get(url)
    values.push(...cookies.map(({ value }) => value).filter((value) => value !== ''))
  }
  const [token] = (values.at(-1) as string).split('.') as [string]
  browser.cookies.set('session_id', tokens.sign(token))
  await browser.get('/read')
  await app.sessionManager.list('ada')
  await app.sessionManager.revokeAll('ada')
  const calls = store.take()
  t.ok(values.length >= 4 && calls.length >= 15)
  const reached = JSON.stringify(calls)
  for (const value of values) {
    for (const part of [value, ...value.split('.')]) t.notOk(reached.includes(part))
  }
})

void t.test(
  'A6: an id from the store does not work as a cookie, even if it is correctly signed',
  async (t) => {
    const { app, store, browser } = await setUp(t)
    await browser.get('/set?name=ada')
    const [[, id]] = store.take() as [[string, string]]
    const [token, signature] = (browser.cookies.get('session_id') as string).split('.') as [string, string]
    const wrong = createTokens([Buffer.from('a wrong key of thirty-two bytes!')], 32)
    for (const value of [
      id,
      `${id}.`,
      `${id}.${id}`,
      id + id,
      wrong.sign(id),
      wrong.sign(token),
      `${id}.${signature}`
    ]) {
      t.same(await visit(app, store, `session_id=${value}`), ANONYMOUS, value)
    }
    // An attacker who knows the id and the secret still needs the token.
    t.same(await visit(app, store, `session_id=${tokens.sign(id)}`), { ...ANONYMOUS, calls: ['get'] })
  }
)

void t.test(
  'A7: a cookie signed with an older secret works, is re-issued only once, and fails when that secret is removed',
  async (t) => {
    const memory = new MemoryStore()
    const appWith = async (secret: string[]) => addRoutes(await makeApp(t, { store: memory, secret }))
    const [old, both, removed] = [SECRET, `new ${SECRET}`].flatMap((secret, index) =>
      index === 0 ? [[secret]] : [[secret, SECRET], [secret]]
    ) as [string[], string[], string[]]
    const browser = new Browser(await appWith(old))
    await browser.get('/set?name=ada')
    const { cookie } = browser
    const read = { url: '/read', headers: { cookie } }
    const rotated = await (await appWith(both)).inject(read)
    t.same(rotated.json(), { name: 'ada' })
    const reissued = rotated.cookies[0]?.value as string
    t.equal(reissued.split('.')[0], browser.cookies.get('session_id')?.split('.')[0], 'the same token')
    const again = await (
      await appWith(both)
    ).inject({ ...read, headers: { cookie: `session_id=${reissued}` } })
    t.same(again.json(), { name: 'ada' })
    t.equal(setCookieOf(again), undefined)
    t.same((await (await appWith(removed)).inject(read)).json(), { name: null })
    const after = await (
      await appWith(removed)
    ).inject({ ...read, headers: { cookie: `session_id=${reissued}` } })
    t.same(after.json(), { name: 'ada' })
  }
)

void t.test('A7: an unsigned token does not work', async (t) => {
  const { app, store, browser } = await setUp(t)
  await browser.get('/set?name=ada')
  const [token] = (browser.cookies.get('session_id') as string).split('.') as [string]
  for (const value of [token, `${token}.`, `${token}.none`, `${token}.${'A'.repeat(43)}`]) {
    t.same(await visit(app, store, `session_id=${value}`), ANONYMOUS)
  }
})
