import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { fastifyCookie } from '@fastify/cookie'
import fc from 'fast-check'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { createCookies, type Cookies } from '../../plugin/http/cookie.js'
import { MemoryStore, type SessionOptions } from '../../plugin/index.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { createTokens } from '../../plugin/cookies/tokens.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { polluted } from '../fixtures/pollution.js'
import { spyStore } from '../fixtures/stores.js'

const tokens = createTokens([Buffer.from(SECRET)], 32)

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const store = spyStore()
  const app = addRoutes(await makeApp(t, { store, cleanupInterval: 0, ...options }))
  return { app, store, browser: new Browser(app) }
}

function readerOf(options: Partial<SessionOptions> = {}): (header: string) => string[] {
  return cookiesOf(options).session.read
}

function cookiesOf(options: Partial<SessionOptions> = {}): Cookies {
  const resolved = resolveOptions({ secret: SECRET, ...options }, () => new MemoryStore())
  return createCookies(resolved, fastifyCookie.serialize)
}

const HEADERS: Record<string, string[]> = {
  '': [],
  'session_id=a': ['a'],
  'session_id=': [''],
  session_id: [],
  'x=1; session_id=a; y=2': ['a'],
  'x=1;session_id=a;y=2': ['a'],
  'x=1;   session_id=a': ['a'],
  'x=1;\tsession_id=a': ['a'],
  '  session_id=a  ': ['a'],
  'session_id=a\t ; y=2': ['a'],
  ';session_id=a;': ['a'],
  ';;; session_id=a': ['a'],
  'session_id=a; session_id=b; session_id=': ['a', 'b', ''],
  'session_id=a=b==': ['a=b=='],
  'session_id=session_id=a': ['session_id=a'],
  'session_id="a"': ['"a"'],
  'session_id=%61': ['%61'],
  'session_id=a, session_id=b': ['a, session_id=b'],
  'session_id=a\u00a0': ['a\u00a0'],
  'session_id=a\u000b': ['a\u000b'],
  'session_id =a': [],
  'session_id\t=a': [],
  'SESSION_ID=a': [],
  'xsession_id=a': [],
  'x session_id=a': [],
  'x.session_id=a; __Host-session_id=b': [],
  'session_idx=a': [],
  'session_id.x=a': [],
  '=session_id=a': [],
  'x=session_id=a': [],
  'x="; session_id=a"': ['a"'],
  'x=,session_id=a': [],
  '%73ession_id=a': [],
  'x=1\u00a0session_id=a': [],
  '\u00a0session_id=a': []
}

void t.test(
  'the values of all session cookies are read in order, and other cookies are ignored',
  async (t) => {
    const read = readerOf()
    for (const [header, values] of Object.entries(HEADERS))
      t.same(read(header), values, JSON.stringify(header))
  }
)

void t.test('the session cookie and the visitor cookie are told apart in one header', async (t) => {
  const { session, visitor } = cookiesOf({ cookieName: '__Host-id' })
  t.same([session.name, visitor.name], ['__Host-id', '__Host-id_visitor'])
  const header = '__Host-id_visitor=a; __Host-id=b; __Host-id_visitor=c'
  t.same([session.read(header), visitor.read(header)], [['b'], ['a', 'c']])
  const present: [header: string, session: boolean, visitor: boolean][] = [
    ['', false, false],
    ['__Host-id=', true, false],
    ['__Host-id_visitor=', false, true],
    ['x=__Host-id=; __Host-id_=', false, false],
    [header, true, true]
  ]
  for (const [header, ...found] of present)
    t.same([session.isIn(header), visitor.isIn(header)], found, JSON.stringify(header))
})

void t.test(
  'both cookies have the same attributes, and the caller decides whether each one is persistent',
  async (t) => {
    const { start } = stopClock(t)
    const cookie = { path: '/app', domain: 'a.test', sameSite: 'none', partitioned: true } as const
    const cookies = cookiesOf({ cookie })
    const { app } = await setUp(t)
    app.get('/write', async (_request, reply) => {
      cookies.session.write(reply, 's', start + 9000, false)
      cookies.visitor.write(reply, 'v', start + 9000, true)
      cookies.visitor.clear(reply)
      return 'written'
    })
    const attributes = 'Domain=a.test; Path=/app; HttpOnly; Secure; Partitioned; SameSite=None'
    t.same((await app.inject('/write')).headers['set-cookie'], [
      `session_id=s; ${attributes}`,
      `session_id_visitor=v; Max-Age=9; ${attributes}`,
      `session_id_visitor=; Max-Age=0; ${attributes}`
    ])
  }
)

void t.test('with SameSite=Strict, the visitor cookie is Lax', async (t) => {
  const { app } = await setUp(t, { cookie: { sameSite: 'strict' } })
  app.get('/flash', async ({ session }) => session.setFlash('notice', 'Hello'))
  const attributes = 'Path=/; HttpOnly; Secure; SameSite='
  t.match(setCookieOf(await app.inject('/flash')), new RegExp(`^session_id_visitor=.*; ${attributes}Lax$`))
  t.match(setCookieOf(await app.inject('/set?name=ada')), new RegExp(`^session_id=.*; ${attributes}Strict$`))
})

void t.test(
  'the cookie name is matched literally, even if it contains special regex characters',
  async (t) => {
    t.same(readerOf({ cookieName: 'a.*+^$|b' })('axxb=1; a.*+^$|b=2'), ['2'])
    t.same(readerOf({ cookieName: "!#$%&'*+-.^_`|~" })("x=1; !#$%&'*+-.^_`|~=2"), ['2'])
    t.same(readerOf({ cookieName: '__proto__' })('x=1; __proto__=2'), ['2'])
  }
)

void t.test(
  'the plugin and @fastify/cookie both find the session cookie among any other cookies',
  async (t) => {
    await Fastify().register(fastifyCookie)
    const name = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}$/)
    const neighbours = fc.dictionary(name, fc.string({ unit: 'grapheme' }), { maxKeys: 4 })
    fc.assert(
      fc.property(name, neighbours, fc.nat({ max: 4 }), (cookieName, others, place) => {
        const value = tokens.sign(tokens.mint())
        const pairs = Object.entries(others).filter(([other]) => other !== cookieName)
        pairs.splice(place, 0, [cookieName, value])
        const header = pairs.map(([key, text]) => fastifyCookie.serialize(key, text)).join('; ')
        t.same(readerOf({ cookieName })(header), [value])
        t.equal(fastifyCookie.parse(header)[cookieName], value)
      }),
      { seed: 1 }
    )
  }
)

void t.test(
  'all session cookies, but at most four visitor cookies, are read from a huge header',
  async (t) => {
    const { session, visitor } = cookiesOf()
    const half = 500_000
    for (const [header, count] of [
      [' '.repeat(2 * half) + 'session_id=a', 1],
      ['session_id=' + ' '.repeat(2 * half) + 'x', 1],
      [('session_id=' + ' '.repeat(100) + 'x').repeat(half / 100), 1],
      ['session_id='.repeat(half / 10), 1],
      ['session_id=;'.repeat(half / 10), half / 10],
      [';'.repeat(2 * half), 0]
    ] as const) {
      t.equal(session.read(header).length, count)
      const visitors = visitor.read(header.replaceAll('session_id', 'session_id_visitor'))
      t.equal(visitors.length, Math.min(count, 4))
    }
  }
)

void t.test(
  'B5: a planted session cookie before or after the real one does not hide the live session',
  async (t) => {
    const { app, store, browser } = await setUp(t)
    await browser.get('/set?name=ada')
    const ours = browser.cookie
    const unknown = `session_id=${tokens.sign(tokens.mint())}`
    const tossed = ['session_id=', 'session_id=x', `${ours}x`, `session_id="${ours}"`, unknown]
    for (const other of tossed) {
      for (const cookie of [`${ours}; ${other}`, `${other}; ${ours}`, `${other};${ours};${other}`]) {
        const response = await app.inject({ url: '/read', headers: { cookie } })
        t.same(response.json(), { name: 'ada' }, cookie)
        t.equal(setCookieOf(response), undefined)
      }
    }
    store.take()
  }
)

void t.test('B5: a header full of forged session cookies does not hide the live session', async (t) => {
  const { app, browser } = await setUp(t)
  await browser.get('/set?name=ada')
  const forged = `session_id=${'a'.repeat(64)}.${'b'.repeat(43)}`
  const cookie = [...Array.from({ length: 100 }, () => forged), browser.cookie].join('; ')
  t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), { name: 'ada' })
})

void t.test(
  'B5: hundreds of session cookies cause at most one HMAC per secret each, and at most four store calls',
  async (t) => {
    const original = crypto.hash
    let count = 0
    crypto.hash = ((...args: Parameters<typeof original>) => {
      count++
      return original(...args)
    }) as typeof original
    syncBuiltinESMExports()
    t.teardown(() => {
      crypto.hash = original
      syncBuiltinESMExports()
    })
    const secret = [`new ${SECRET}`, SECRET]
    const { app, store } = await setUp(t, { secret })
    const forged = `${'a'.repeat(64)}.${'b'.repeat(43)}`
    const signed = tokens.sign(tokens.mint())
    for (const [value, calls, most] of [
      [forged, 0, 500 * 2 * secret.length],
      [signed, 4, 4 * (2 * secret.length + 1)]
    ] as const) {
      count = 0
      store.take()
      const cookie = Array.from({ length: 500 }, () => `session_id=${value}`).join('; ')
      const response = await app.inject({ url: '/read', headers: { cookie } })
      t.same(response.json(), { name: null })
      // An HMAC takes two hashes. A correctly signed cookie needs one more hash, for the session id.
      t.ok(count > 0 && count <= most, `${count} hashes`)
      t.equal(store.take().length, calls)
    }
  }
)

void t.test('B1: registration refuses settings that would make a browser reject the cookie', async (t) => {
  const dropped: [option: string, given: Partial<SessionOptions>][] = [
    ['maxAge', { maxAge: 34_560_001 }],
    ['cookie.secure', { cookie: { sameSite: 'none', secure: false } }],
    ['cookie.secure', { cookie: { sameSite: 'none', secure: 'auto' } }],
    ['cookie.secure', { cookie: { partitioned: true, secure: false } }],
    ['cookie.secure', { cookie: { partitioned: true, secure: 'auto' } }]
  ]
  for (const cookieName of ['__Host-id', '__host-id', '__HOST-id']) {
    dropped.push(
      ['cookie.domain', { cookieName, cookie: { domain: 'a.test' } }],
      ['cookie.domain', { cookieName, cookie: { domain: () => undefined } }],
      ['cookie.path', { cookieName, cookie: { path: '/app' } }],
      ['cookie.secure', { cookieName, cookie: { secure: false } }],
      ['cookie.secure', { cookieName, cookie: { secure: 'auto' } }]
    )
  }
  for (const cookieName of ['__Secure-id', '__secure-id', '__SECURE-id']) {
    dropped.push(['cookie.secure', { cookieName, cookie: { secure: false } }])
    dropped.push(['cookie.secure', { cookieName, cookie: { secure: 'auto' } }])
  }
  for (const [option, given] of dropped) {
    const expected = { code: 'SESSION_OPTION_INVALID', option, message: `"${option}" is ` }
    await t.rejects(makeApp(t, given), expected, JSON.stringify(given))
  }
})

void t.test('B1: registration accepts settings with which browsers accept the cookie', async (t) => {
  for (const given of [
    { maxAge: 34_560_000 },
    { cookieName: '__Host-id' },
    { cookieName: '__Secure-id', cookie: { domain: 'a.test', path: '/app' } },
    { cookieName: '__Hostess', cookie: { secure: false } },
    { cookie: { sameSite: 'none', partitioned: true } }
  ] satisfies Partial<SessionOptions>[]) {
    const { browser } = await setUp(t, given)
    t.match(setCookieOf(await browser.get('/set?name=ada')), `${given.cookieName ?? 'session_id'}=`)
  }
})

void t.test(
  'B2: by default the cookie is Secure, HttpOnly and SameSite=Lax, with Path=/ and no Domain',
  async (t) => {
    stopClock(t)
    const { browser } = await setUp(t)
    const value =
      /^session_id=[0-9a-f]{64}\.[A-Za-z0-9_-]{43}; Max-Age=86400; Path=\/; HttpOnly; Secure; SameSite=Lax$/
    t.match(setCookieOf(await browser.get('/set?name=ada')), value)
  }
)

void t.test('B3: the cookie’s name and value together never exceed 4,096 bytes', async (t) => {
  for (const idLength of [16, 32, 64]) {
    const longest = 4096 - (2 * idLength + 1 + 43)
    const { browser } = await setUp(t, { idLength, cookieName: 'n'.repeat(longest) })
    const [pair = ''] = setCookieOf(await browser.get('/set?name=ada'))?.split(';') ?? []
    t.equal(Buffer.byteLength(pair), 4096 + 1, 'including the "=" between them')
    t.same((await browser.get('/read')).json(), { name: 'ada' })
    await t.rejects(makeApp(t, { idLength, cookieName: 'n'.repeat(longest + 1) }), {
      code: 'SESSION_OPTION_INVALID',
      option: 'cookieName'
    })
  }
})

void t.test(
  'B4: a response sets at most one session cookie, whatever the handler does to the session',
  async (t) => {
    const { app, browser } = await setUp(t)
    app.get('/all', async ({ session }, reply) => {
      session.regenerate()
      session.invalidate()
      session.set('name', 'eve')
      session.regenerate()
      await app.sessionManager.save(session, reply)
      await session.save()
      await app.sessionManager.save(session, reply)
      return 'all'
    })
    for (const url of ['/all', '/set?name=ada', '/all', '/login', '/all']) {
      const response = await browser.get(url)
      const ours = response.cookies.filter(({ name }) => name === 'session_id')
      t.ok(ours.length <= 1, url)
    }
    t.same((await browser.get('/read')).json(), { name: 'eve' })
  }
)

void t.test(
  'B4: a cookie is cleared with the same attributes that it was set with, and Max-Age=0',
  async (t) => {
    stopClock(t)
    const cookies: [SessionOptions['cookie'], string][] = [
      [{}, 'Path=/; HttpOnly; Secure; SameSite=Lax'],
      [
        { domain: 'a.test', path: '/app', sameSite: 'none', partitioned: true },
        'Domain=a.test; Path=/app; HttpOnly; Secure; Partitioned; SameSite=None'
      ],
      [{ secure: false, httpOnly: false, sameSite: 'strict' }, 'Path=/; SameSite=Strict'],
      [{ persistent: false }, 'Path=/; HttpOnly; Secure; SameSite=Lax']
    ]
    for (const [cookie, attributes] of cookies) {
      const { browser } = await setUp(t, { cookie })
      const set = setCookieOf(await browser.get('/set?name=ada'))
      t.equal(set?.replace(/^[^;]+(; Max-Age=86400)?; /, ''), attributes)
      t.equal(setCookieOf(await browser.get('/logout')), `session_id=; Max-Age=0; ${attributes}`)
    }
  }
)

void t.test('B6: a persistent cookie never outlives the session', async (t) => {
  const clock = stopClock(t)
  const { store, browser } = await setUp(t, { maxAge: 100, idleTimeout: 60 })
  for (const [moved, remaining] of [
    [0, 60],
    [30_500, 60],
    [30_500, 39]
  ] as const) {
    clock.move(moved)
    const response = await browser.get(`/set?name=${clock.start + moved}${remaining}`)
    t.match(setCookieOf(response), `Max-Age=${remaining};`)
    const last = store.take().at(-1)?.[2] as { expiresAt: number }
    t.ok(Date.now() + remaining * 1000 <= last.expiresAt)
  }
})

void t.test('Max-Age is rounded down to whole seconds and is never negative', async (t) => {
  stopClock(t)
  for (const [maxAge, seconds] of [
    [60, 60],
    [59.9, 59],
    [0.5, 0]
  ]) {
    const { browser } = await setUp(t, { maxAge: maxAge as number })
    t.match(setCookieOf(await browser.get('/set?name=ada')), `Max-Age=${String(seconds)};`)
  }
})

void t.test('a polluted Object.prototype does not change the attributes of the cookie', async (t) => {
  stopClock(t)
  const pollution: Record<string, unknown> = {
    domain: 'evil.test',
    expires: new Date(0),
    priority: 'high',
    maxAge: 1,
    partitioned: true,
    httpOnly: false,
    sameSite: 'none',
    encode: () => 'evil',
    persistent: false
  }
  for (const [name, value] of Object.entries(pollution)) {
    for (const persistent of [true, false]) {
      const before = await setUp(t, { cookie: { persistent } })
      await polluted(name, value, async () => {
        const after = await setUp(t, { cookie: { persistent } })
        for (const { browser } of [before, after]) {
          const [set, cleared] = [await browser.get('/set?name=ada'), await browser.get('/logout')].map(
            setCookieOf
          )
          const attributes = 'Path=/; HttpOnly; Secure; SameSite=Lax'
          t.equal(set?.replace(/^[^;]+; /, ''), `${persistent ? 'Max-Age=86400; ' : ''}${attributes}`, name)
          t.equal(cleared, `session_id=; Max-Age=0; ${attributes}`, name)
        }
      })
    }
  }
})

const OLD_SECRET = 'the old secret, with 32 bytes or more'
const NEW_SECRET = 'the new secret, with 32 bytes or more'

/** Creates two servers that share a store. Returns what a session that `first` created reads on each later visit. */
async function namesRead(t: Test, firstSecrets: string[], secondSecrets: string[]): Promise<unknown[]> {
  const store = new MemoryStore()
  const first = new Browser(addRoutes(await makeApp(t, { store, secret: firstSecrets })))
  const second = new Browser(addRoutes(await makeApp(t, { store, secret: secondSecrets })))
  await first.get('/set?name=ada')
  const names: unknown[] = []
  for (const [from, to] of [
    [first, second],
    [second, first],
    [first, second]
  ] as const) {
    for (const [name, value] of from.cookies) to.cookies.set(name, value)
    names.push((await to.get('/read')).json<{ name: unknown }>().name)
  }
  return names
}

void t.test(
  'in both phases of a new secret’s rollout, servers before and after the phase accept each other’s cookies',
  async (t) => {
    const phases = [
      [[OLD_SECRET], [OLD_SECRET, NEW_SECRET]],
      [
        [OLD_SECRET, NEW_SECRET],
        [NEW_SECRET, OLD_SECRET]
      ]
    ] as const
    for (const [before, after] of phases) {
      t.same(await namesRead(t, [...before], [...after]), ['ada', 'ada', 'ada'])
      t.same(await namesRead(t, [...after], [...before]), ['ada', 'ada', 'ada'])
    }
  }
)

void t.test(
  'a server that knows only the old secret ignores cookies that another server signs with the new one',
  async (t) => {
    const signing = [NEW_SECRET, OLD_SECRET]
    t.same(await namesRead(t, [OLD_SECRET], signing), ['ada', null, 'ada'])
    t.same(await namesRead(t, signing, [OLD_SECRET]), [null, 'ada', null])
  }
)
