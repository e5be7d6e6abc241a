import { createHmac } from 'node:crypto'
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import { MemoryStore, type SessionOptions } from '../../plugin/index.js'
import { createTokens, idOfToken } from '../../plugin/cookies/tokens.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { makeRecord, spyStore } from '../fixtures/stores.js'

// Checks that this library does not have vulnerabilities that were published for other libraries. The tests of session
// lifetimes, races and CSRF are in test/session and test/http.

const tokens = createTokens([Buffer.from(SECRET)], 32)

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const store = spyStore()
  const app = addRoutes(await makeApp(t, { store, cleanupInterval: 0, ...options }))
  app.post('/change', { preHandler: app.csrfProtection }, async () => 'changed')
  app.get('/form', async (_request, reply) => reply.generateCsrf())
  return { app, store, browser: new Browser(app) }
}

void t.test(
  'CVE-2021-29624, CVE-2023-27495: cookie tossing does not make the attacker’s CSRF token valid',
  async (t) => {
    const { app, browser } = await setUp(t)
    const attacker = new Browser(app)
    await attacker.get('/set?name=eve')
    const token = (await attacker.get('/form')).body
    await browser.get('/set?name=ada')
    const own = (await browser.get('/form')).body
    const post = (cookie: string, token: string, headers = {}) =>
      app.inject({ method: 'POST', url: '/change', headers: { cookie, 'x-csrf-token': token, ...headers } })
    const [behind, inFront] = [
      `${browser.cookie}; ${attacker.cookie}`,
      `${attacker.cookie}; ${browser.cookie}`
    ]
    t.equal((await post(behind, token)).statusCode, 403)
    t.equal(
      (await post(inFront, own)).statusCode,
      403,
      'the victim’s page cannot act in the attacker’s session'
    )
    for (const site of ['same-site', 'cross-site']) {
      t.equal((await post(inFront, token, { 'sec-fetch-site': site })).statusCode, 403)
    }
    t.equal((await post(browser.cookie, own)).statusCode, 200)
  }
)

void t.test('CVE-2026-107275: registration refuses an invalid duration', async (t) => {
  for (const option of ['maxAge', 'idleTimeout', 'cleanupInterval', 'storeTimeout']) {
    for (const wrong of [
      '1h30m',
      '60',
      NaN,
      Infinity,
      -1,
      null,
      ...(option === 'cleanupInterval' ? [] : [0])
    ]) {
      await t.rejects(makeApp(t, { [option]: wrong }), { option, message: `is ${inspect(wrong)}, ` })
    }
  }
})

void t.test(
  'CVE-2019-16782, CVE-2019-25025: the key of a record in the store is not the token in the cookie',
  async (t) => {
    const { store, browser } = await setUp(t)
    await browser.get('/set?name=ada')
    const [[, id]] = store.take() as [[string, string]]
    const [token] = (browser.cookies.get('session_id') as string).split('.') as [string]
    t.equal(id, idOfToken(token))
    t.not(id, token)
  }
)

void t.test('CVE-2026-39324: a token with a wrong or missing signature is refused', async (t) => {
  const { store, browser } = await setUp(t)
  await browser.get('/set?name=ada')
  const [token] = (browser.cookies.get('session_id') as string).split('.') as [string]
  store.take()
  for (const value of [
    token,
    `${token}.`,
    `.${token}`,
    `${token}.${token}`,
    Buffer.from('{"name":"eve"}').toString('base64')
  ]) {
    browser.cookies.set('session_id', value)
    t.same((await browser.get('/read')).json(), { name: null })
  }
  t.same(store.take(), [])
})

void t.test(
  'CVE-2013-0263: the time to refuse a signature does not reveal how much of it is correct',
  async (t) => {
    const value = tokens.sign(tokens.mint())
    const flip = (at: number) => value.slice(0, at) + (value[at] === 'A' ? 'B' : 'A') + value.slice(at + 1)
    const [early, late] = [flip(65), flip(value.length - 1)]
    const time = (text: string): number => {
      const start = process.hrtime.bigint()
      for (let round = 0; round < 500; round++)
        if (tokens.verify(text) !== undefined) t.fail('a wrong signature verified')
      return Number(process.hrtime.bigint() - start)
    }
    const pairs = Array.from({ length: 41 }, () => time(early) / time(late)).sort((a, b) => a - b)
    // This test detects only differences of at least a factor of two. test/security/timing.test.ts also detects smaller
    // differences.
    const median = pairs[20] as number
    t.ok(median > 0.5 && median < 2, `median ratio ${median.toFixed(3)}`)
  }
)

void t.test(
  'CVE-2024-26144, CVE-2012-2671, CVE-2022-24894: a response that sets the session cookie is never publicly cacheable',
  async (t) => {
    const { app, browser } = await setUp(t)
    app.get('/asset', async ({ session }, reply) => {
      session.update('views', (views) => Number(views ?? 0) + 1)
      return reply
        .headers({ 'cache-control': 'public, max-age=31536000, immutable', etag: '"1"' })
        .send('asset')
    })
    const { headers } = await browser.get('/asset')
    t.match(headers['set-cookie'], /^session_id=/)
    t.equal(headers['cache-control'], 'no-store')
    t.equal(headers.vary, 'Cookie')
  }
)

void t.test(
  'CVE-2015-5143, CVE-2015-5963: unknown ids and anonymous logouts create no records',
  async (t) => {
    const memory = new MemoryStore()
    const { app } = await setUp(t, { store: memory })
    for (let round = 0; round < 100; round++) {
      const cookie = `session_id=${tokens.sign(tokens.mint())}`
      for (const url of ['/read', '/logout']) {
        const response = await app.inject({ url, headers: { cookie } })
        t.equal(response.statusCode, 200)
        t.equal(setCookieOf(response), undefined)
      }
    }
    t.equal(memory.size, 0)
  }
)

void t.test('CVE-2015-3982: an empty cookie never finds a session', async (t) => {
  const memory = new MemoryStore()
  memory.create('', makeRecord())
  memory.create(idOfToken(''), makeRecord())
  const { app } = await setUp(t, { store: memory })
  const signed = `.${createHmac('sha256', SECRET).update('').digest('base64url')}`
  for (const value of ['', '.', signed, '""', ' ']) {
    const response = await app.inject({ url: '/read', headers: { cookie: `session_id=${value}` } })
    t.same(response.json(), { name: null }, value)
  }
})

void t.test('CVE-2016-7401: no session cookie is read from a malformed Cookie header', async (t) => {
  const { app, store, browser } = await setUp(t)
  await browser.get('/set?name=ada')
  const value = browser.cookies.get('session_id') as string
  store.take()
  for (const cookie of [
    `x=[session_id=${value}`,
    `x=1]session_id=${value}`,
    `x="1; y="session_id=${value}"`,
    `x session_id=${value}`,
    `x,session_id=${value}`,
    `x=1, session_id=${value}`,
    `=session_id=${value}`,
    `session_id =${value}`,
    `session_id="${value}"`,
    `SESSION_ID=${value}`,
    `$Version=1, session_id=${value}; $Path=/`,
    `session_id[]=${value}`,
    `session_id`,
    '=;=;=',
    ';'.repeat(10_000)
  ]) {
    const response = await app.inject({ url: '/read', headers: { cookie } })
    t.same(response.json(), { name: null }, cookie.slice(0, 60))
    t.equal(setCookieOf(response), undefined)
  }
  t.same(store.take(), [])
})

void t.test(
  'CVE-2023-30861, CVE-2026-27205: the Vary header is sent even if a request only checks a key with has()',
  async (t) => {
    const clock = stopClock(t)
    const { app, store, browser } = await setUp(t, { idleTimeout: 100 })
    app.get('/has', async ({ session }) => ({ has: session.has('name') }))
    await browser.get('/set?name=ada')
    clock.move(20_000)
    store.take()
    const touched = await browser.get('/has')
    t.same(store.takeNames(), ['get', 'update'])
    t.match(touched.headers, { vary: 'Cookie', 'cache-control': 'no-store', 'set-cookie': /^session_id=/ })
    const untouched = await browser.get('/has')
    t.same(store.takeNames(), ['get'])
    t.match(untouched.headers, { vary: 'Cookie' })
    t.equal(setCookieOf(untouched), undefined)
    t.match((await app.inject('/has')).headers, { vary: 'Cookie' })
  }
)

void t.test('CVE-2023-20866: a logged session contains nothing that can be used as a cookie', async (t) => {
  const lines: string[] = []
  const logger = { level: 'trace', stream: { write: (line: string) => void lines.push(line) } }
  const app = addRoutes(await makeApp(t, {}, { logger }))
  app.get('/log', async ({ session, log }) => {
    log.info({ id: session.id, session }, 'seen')
    return 'logged'
  })
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  await browser.get('/log')
  const [token] = (browser.cookies.get('session_id') as string).split('.') as [string]
  const log = lines.join('')
  t.ok(log.includes(idOfToken(token)))
  t.notOk(log.includes(token))
  for (const [id] of log.matchAll(/[0-9a-f]{64}/g)) {
    const response = await app.inject({ url: '/read', headers: { cookie: `session_id=${id}` } })
    t.same(response.json(), { name: null })
  }
})
