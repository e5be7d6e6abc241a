import t, { type Test } from 'tap'
import type { Session, SessionOptions } from '../../plugin/index.js'
import { Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { makeVisits, type Work } from '../fixtures/visits.js'

const OLD_SECRET = 'the secret that was used before, 32 bytes'
const HOUR = 3_600_000
const DAY = 86_400_000

const setNote = (session: Session): void => session.setFlash('note', 'hello')
const peek = (session: Session): unknown => session.peekFlash('note')
const printToken: Work<string> = (_session, _request, reply) => reply.generateCsrf()

/** Makes a server. Several servers of one test share a clock. */
async function serve(t: Test, options: Partial<SessionOptions> = {}) {
  const visits = await makeVisits(t, options)
  const { app, attempt } = visits
  const name = `${options.cookieName ?? 'session_id'}_visitor`
  app.post('/guarded', { preHandler: app.csrfProtection }, async () => 'passed')

  /** Makes a visitor cookie with a flash message and a CSRF secret. */
  async function make() {
    const client = new Browser(app)
    const { result: token } = await attempt((session, request, reply) => {
      setNote(session)
      return printToken(session, request, reply)
    }, client)
    return { value: client.cookies.get(name) as string, token: token as string }
  }

  /** Sends a `Cookie` header, and returns what the server makes of it: the message, and whether the token is valid. */
  async function ask(cookie: string, token: string) {
    const { result, response, cookies } = await attempt(peek, new Browser(app), 'open', {
      headers: { cookie }
    })
    const headers = { cookie, 'x-csrf-token': token, 'sec-fetch-site': 'same-origin' }
    const { statusCode } = await app.inject({ method: 'POST', url: '/guarded', headers })
    return { message: result, status: [response.statusCode, statusCode], cookies }
  }
  return { ...visits, name, make, ask }
}

const COUNTS = { message: 'hello', status: [200, 200], cookies: [] }
const NOTHING = { message: undefined, status: [200, 403], cookies: [] }

void t.test('F6: nothing of a tampered or truncated visitor cookie counts', async (t) => {
  stopClock(t)
  const { name, make, ask, store } = await serve(t)
  const { value, token } = await make()
  t.same(await ask(`${name}=${value}`, token), COUNTS)
  const changed = (at: number) => value.slice(0, at) + (value[at] === 'A' ? 'B' : 'A') + value.slice(at + 1)
  const wrong = [
    '',
    'x',
    '='.repeat(10),
    'A'.repeat(value.length),
    'A'.repeat(5000),
    value.slice(1),
    `A${value}`,
    `${value}A`,
    `${value}AAAA`,
    `${value}=`,
    `${value}.x`,
    `"${value}"`,
    value.toLowerCase(),
    value + value,
    ...Array.from(value, (_, at) => value.slice(0, at)),
    ...Array.from(value.slice(0, -1), (_, at) => changed(at))
  ]
  for (const cookie of wrong) t.same(await ask(`${name}=${cookie}`, token), NOTHING, cookie)
  t.same(store.take(), [])
})

void t.test('F6: a visitor cookie counts only under its own name', async (t) => {
  stopClock(t)
  const { make, ask } = await serve(t)
  const other = await serve(t, { cookieName: 'other' })
  const { value, token } = await make()
  for (const name of ['session_id', 'session_id_visitor2', 'xsession_id_visitor', 'SESSION_ID_VISITOR'])
    t.same(await ask(`${name}=${value}`, token), NOTHING, name)
  const elsewhere = await other.ask(`other_visitor=${value}`, token)
  t.same(elsewhere, NOTHING, 'another application with the same secret')
  t.same(await ask(`session_id_visitor=${(await other.make()).value}`, token), NOTHING)
})

void t.test(
  'a visitor cookie is not a session cookie, and a session cookie is not a visitor cookie',
  async (t) => {
    stopClock(t)
    const { make, ask, visit, browser } = await serve(t)
    const { value, token } = await make()
    await visit((session) => session.set('cart', 1))
    const session = browser.cookies.get('session_id') as string
    t.same(await ask(`session_id=${value}`, token), NOTHING)
    t.same(await ask(`session_id_visitor=${session}`, token), NOTHING)
  }
)

void t.test(
  'F6: of two visitor cookies, an invalid one that comes first does not hide the valid one',
  async (t) => {
    stopClock(t)
    const { name, make, ask } = await serve(t)
    const { value, token } = await make()
    for (const tossed of ['', 'x', value.slice(1)]) {
      t.same(await ask(`${name}=${tossed}; ${name}=${value}`, token), COUNTS)
      t.same(await ask(`${name}=${value}; ${name}=${tossed}`, token), COUNTS)
    }
  }
)

void t.test('a visitor cookie of any secret in the list counts, and of a removed one does not', async (t) => {
  stopClock(t)
  const old = await serve(t, { secret: OLD_SECRET })
  const both = await serve(t, { secret: [SECRET, OLD_SECRET] })
  const fresh = await serve(t, { secret: SECRET })
  const { value, token } = await old.make()
  const cookie = `${old.name}=${value}`
  t.same(await both.ask(cookie, token), COUNTS)
  t.same(await fresh.ask(cookie, token), NOTHING)
  const client = new Browser(both.app)
  client.cookies.set(old.name, value)
  await both.visit((session) => session.setFlash('other', 1), client)
  const sealed = `${old.name}=${client.cookies.get(old.name)}`
  t.same(await fresh.ask(sealed, token), COUNTS, 'it is sealed again with the newest secret')
  t.same(await old.ask(sealed, token), NOTHING)
})

void t.test(
  'F6: nothing of a visitor cookie that is older than maxAge counts, even if it still comes',
  async (t) => {
    const clock = stopClock(t)
    const { name, make, ask } = await serve(t, { maxAge: 1800 })
    const { value, token } = await make()
    clock.move(1_800_000 - 1)
    t.same(await ask(`${name}=${value}`, token), COUNTS)
    clock.move(1)
    t.same(await ask(`${name}=${value}`, token), NOTHING)
  }
)

void t.test(
  'a flash message in a visitor cookie is dropped after an hour, and the token lives on',
  async (t) => {
    const clock = stopClock(t)
    const { name, make, ask } = await serve(t)
    const { value, token } = await make()
    clock.move(HOUR - 1)
    t.same(await ask(`${name}=${value}`, token), COUNTS)
    clock.move(1)
    t.same(await ask(`${name}=${value}`, token), { ...COUNTS, message: undefined })
    clock.move(DAY - HOUR - 1)
    t.same(await ask(`${name}=${value}`, token), { ...COUNTS, message: undefined })
    clock.move(1)
    t.same(await ask(`${name}=${value}`, token), NOTHING)
  }
)

void t.test(
  'a token that is printed after a tenth of maxAge seals the cookie again; nothing else does',
  async (t) => {
    const clock = stopClock(t)
    const { name, visit, browser, ask } = await serve(t, { maxAge: 1000 })
    const { result: first } = await visit(printToken)
    const value = browser.cookies.get(name)
    clock.move(99_999)
    t.same((await visit(printToken)).cookies, [], 'before a tenth')
    clock.move(1)
    const others: Work<unknown>[] = [peek, (session) => session.getFlash('note'), (session) => session.id]
    for (const work of others) t.same((await visit(work)).cookies, [])
    t.equal(browser.cookies.get(name), value)
    const { result: second, cookies } = await visit(printToken)
    t.match(cookies, [/^session_id_visitor=\*; Max-Age=1000; /])
    clock.move(999_999)
    const cookie = `${name}=${browser.cookies.get(name)}`
    t.same((await ask(cookie, first)).status, [200, 200], 'the secret is the same')
    t.same((await ask(cookie, second)).status, [200, 200])
    clock.move(1)
    t.same(await ask(cookie, second), NOTHING)
  }
)

void t.test('a visitor cookie hides its content, and no two are alike', async (t) => {
  stopClock(t)
  const { make } = await serve(t)
  const values = await Promise.all(Array.from({ length: 100 }, async () => (await make()).value))
  t.equal(new Set(values).size, 100)
  // The salt comes first. If two cookies had the same, they would have the same key and nonce.
  t.equal(new Set(values.map((value) => value.slice(0, 16))).size, 100)
  for (const value of values) {
    t.match(value, /^[A-Za-z0-9_-]+$/)
    t.notMatch(Buffer.from(value, 'base64url').toString('latin1'), /hello|note|flash|csrf/)
  }
})

const PLAIN = 'Path=/; HttpOnly; Secure; SameSite=Lax'
const ATTRIBUTES: [options: Partial<SessionOptions>, name: string, attributes: string, maxAge?: null][] = [
  [{}, 'session_id_visitor', PLAIN],
  [{ cookieName: 'sid' }, 'sid_visitor', PLAIN],
  [{ cookieName: '__Host-sid' }, '__Host-sid_visitor', PLAIN],
  [
    { cookieName: '__Secure-sid', cookie: { domain: 'app.test' } },
    '__Secure-sid_visitor',
    `Domain=app.test; ${PLAIN}`
  ],
  [{ cookie: { path: '/app' } }, 'session_id_visitor', 'Path=/app; HttpOnly; Secure; SameSite=Lax'],
  [
    { cookie: { partitioned: true, sameSite: 'none' } },
    'session_id_visitor',
    'Path=/; HttpOnly; Secure; Partitioned; SameSite=None'
  ],
  [{ cookie: { httpOnly: false } }, 'session_id_visitor', 'Path=/; Secure; SameSite=Lax'],
  [{ cookie: { secure: 'auto' } }, 'session_id_visitor', 'Path=/; HttpOnly; SameSite=Lax'],
  [{ cookie: { secure: false } }, 'session_id_visitor', 'Path=/; HttpOnly; SameSite=Lax'],
  [{ cookie: { persistent: false } }, 'session_id_visitor', PLAIN, null]
]

const sorted = (cookie: string | undefined): string[] => (cookie ?? '').split('; ').sort()

for (const [options, name, attributes, maxAge] of ATTRIBUTES) {
  void t.test(
    `the visitor cookie has the session cookie’s attributes: ${JSON.stringify(options)}`,
    async (t) => {
      stopClock(t)
      const { visit, make, ask } = await serve(t, options)
      const age = maxAge === null ? [] : ['Max-Age=86400']
      const set = await visit(setNote)
      t.same(set.cookies.map(sorted), [[`${name}=*`, ...age, ...attributes.split('; ')].sort()])
      const used = await visit((session) => session.getFlash('note'))
      t.equal(used.result, 'hello')
      t.same(used.cookies.map(sorted), [[`${name}=`, 'Max-Age=0', ...attributes.split('; ')].sort()])
      const { value, token } = await make()
      t.same((await ask(`${name}=${value}`, token)).status, [200, 200])
      const { cookies } = await visit((session) => session.set('cart', 1))
      t.same(
        sorted(cookies[0]).map((text) => text.replace(name.replace('_visitor', ''), name)),
        sorted(set.cookies[0]),
        'the session cookie has the same'
      )
    }
  )
}

void t.test("secure: 'auto' makes the visitor cookie Secure over HTTPS", async (t) => {
  const app = await makeApp(t, { cookie: { secure: 'auto' } }, { trustProxy: true })
  app.get('/flash', async ({ session }) => {
    setNote(session)
    return 'done'
  })
  for (const protocol of ['http', 'https']) {
    const response = await app.inject({ url: '/flash', headers: { 'x-forwarded-proto': protocol } })
    t.equal(sorted(setCookieOf(response)).includes('Secure'), protocol === 'https')
  }
})

/** Returns how many bytes the name and value of the browser's visitor cookie have. */
function bytesOf(browser: Browser): number {
  const [[name, value] = ['', '']] = browser.cookies
  return Buffer.byteLength(name) + Buffer.byteLength(value)
}

for (const [kind, character] of [
  ['ASCII', 'x'],
  ['three-byte', '€'],
  ['escaped', '"'],
  ['four-byte', '😀']
] as const) {
  void t.test(`a message of ${kind} characters that fits makes a cookie of at most 4096 bytes`, async (t) => {
    stopClock(t)
    const { app, attempt, visit } = await serve(t)
    let longest = 0
    for (let length = 1; length < 4000; length = Math.ceil(length * 1.1)) {
      const browser = new Browser(app)
      const { response, calls } = await attempt(
        (session) => session.setFlash('note', character.repeat(length)),
        browser
      )
      t.same(calls, [])
      if (response.statusCode !== 200) {
        t.match(response.json(), { code: 'SESSION_VALUE_INVALID' })
        t.equal(browser.cookies.size, 0)
        continue
      }
      longest = length
      t.ok(bytesOf(browser) <= 4096)
      t.equal((await visit(peek, browser)).result, character.repeat(length))
      // A page can print a form in any case.
      await visit(printToken, browser)
      t.ok(bytesOf(browser) <= 4096, `with a token: ${bytesOf(browser)}`)
      t.equal((await visit(peek, browser)).result, character.repeat(length))
    }
    t.ok(longest >= 500, `${longest} characters fit`)
  })
}

void t.test('a long cookie name leaves less room, and the limit holds', async (t) => {
  stopClock(t)
  const { app, attempt } = await serve(t, { cookieName: 'n'.repeat(2500) })
  const browser = new Browser(app)
  t.equal(
    (await attempt((session) => session.setFlash('note', 'x'.repeat(600)), browser)).response.statusCode,
    200
  )
  t.ok(bytesOf(browser) <= 4096)
  const refused = await attempt((session) => session.setFlash('note', 'x'.repeat(1200)), browser)
  t.match(refused.response.json(), { code: 'SESSION_VALUE_INVALID' })
})

void t.test('a message that does not fit throws SESSION_VALUE_INVALID, and nothing is lost', async (t) => {
  stopClock(t)
  const { visit, ask, name, browser } = await serve(t)
  const { result: token } = await visit(printToken)
  await visit(setNote)
  const { result, calls } = await visit((session) => {
    const error = { name: 'SessionValueError', code: 'SESSION_VALUE_INVALID', key: 'long' }
    t.throws(() => session.setFlash('long', 'x'.repeat(4096)), error)
    session.setFlash('short', 'fits')
    return [session.peekFlash('long'), session.peekFlash('note')]
  })
  t.same([result, calls], [[undefined, 'hello'], []])
  const after = await visit((session) => ['note', 'short', 'long'].map((key) => session.peekFlash(key)))
  t.same([after.result, after.calls], [['hello', 'fits', undefined], []])
  t.same((await ask(`${name}=${browser.cookies.get(name)}`, token)).status, [200, 200])
})

void t.test('many short messages together do not outgrow the cookie', async (t) => {
  stopClock(t)
  const { app, attempt } = await serve(t)
  const browser = new Browser(app)
  let refused = 0
  for (let count = 0; count < 100; count++) {
    const { response, calls } = await attempt(
      (session) => session.setFlash(`note${count}`, 'x'.repeat(50)),
      browser
    )
    t.same(calls, [])
    if (response.statusCode !== 200) refused++
    if (bytesOf(browser) > 4096) t.fail(`${bytesOf(browser)} bytes`)
  }
  t.ok(refused > 10 && refused < 90, String(refused))
})

void t.test(
  'a session of data takes a long message; without the data it does not become a session',
  async (t) => {
    stopClock(t)
    const { app, attempt, visit, memory } = await serve(t)
    const long = 'x'.repeat(10_000)
    const stored = await visit((session) => {
      session.set('cart', 1)
      session.setFlash('note', long)
    })
    t.same(stored.calls, ['create'])
    t.equal((await visit((session) => session.getFlash('note'))).result, long)
    const undone = await attempt((session) => {
      session.set('cart', 1)
      session.setFlash('note', long)
      session.remove('cart')
    }, new Browser(app))
    t.match(undone.response.json(), { code: 'SESSION_VALUE_INVALID' })
    t.same([undone.calls, undone.cookies, memory.size], [[], [], 1])
    const ended = await attempt((session) => {
      session.invalidate()
      t.throws(() => session.setFlash('note', long), { code: 'SESSION_VALUE_INVALID' })
    })
    t.same([ended.response.statusCode, memory.size], [200, 0], 'after an end the browser is a visitor')
  }
)
