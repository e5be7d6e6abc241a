import { fastifyCookie } from '@fastify/cookie'
import fc from 'fast-check'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { createCookie } from '../../plugin/http/cookie.js'
import sessions, { MemoryStore, type SessionOptions } from '../../plugin/index.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { createTokens } from '../../plugin/cookies/tokens.js'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'

function readerOf(options: Partial<SessionOptions> = {}): (header: string) => string[] {
  return createCookie(
    resolveOptions({ secret: SECRET, ...options }, () => new MemoryStore()),
    String
  ).read
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

void t.test('the values of all cookies of our name are read, in order, and of no other', async (t) => {
  const read = readerOf()
  for (const [header, values] of Object.entries(HEADERS)) t.same(read(header), values, JSON.stringify(header))
})

void t.test('a name is text, whatever it would mean in a pattern', async (t) => {
  t.same(readerOf({ cookieName: 'a.*+^$|b' })('axxb=1; a.*+^$|b=2'), ['2'])
  t.same(readerOf({ cookieName: "!#$%&'*+-.^_`|~" })("x=1; !#$%&'*+-.^_`|~=2"), ['2'])
  t.same(readerOf({ cookieName: '__proto__' })('x=1; __proto__=2'), ['2'])
})

void t.test(
  'whatever the name and the neighbours are, what is serialised is found, as others parse it',
  async (t) => {
    await Fastify().register(fastifyCookie)
    const tokens = createTokens([Buffer.from(SECRET)], 32)
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
  'a header that is all spaces, semicolons or our name gives what is there, and four values at most',
  async (t) => {
    const read = readerOf()
    const half = 500_000
    for (const [header, count] of [
      [' '.repeat(2 * half) + 'session_id=a', 1],
      ['session_id=' + ' '.repeat(2 * half) + 'x', 1],
      [('session_id=' + ' '.repeat(100) + 'x').repeat(half / 100), 1],
      ['session_id='.repeat(half / 10), 1],
      ['session_id=;'.repeat(half / 10), 4],
      [';'.repeat(2 * half), 0]
    ] as const) {
      t.equal(read(header).length, count)
    }
  }
)

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const app = addRoutes(await makeApp(t, { cleanupInterval: 0, ...options }))
  return { app, browser: new Browser(app) }
}

void t.test('Vary names Cookie once, beside what the handler put there', async (t) => {
  const { app } = await setUp(t)
  app.get('/vary', async ({ session, query }, reply) => {
    const { vary } = query as { vary?: string | string[] }
    if (vary !== undefined) reply.header('vary', vary)
    return session.get('name') ?? null
  })
  const cases: [query: string, vary: string][] = [
    ['', 'Cookie'],
    ['?vary=Accept', 'Accept, Cookie'],
    ['?vary=Accept,%20Origin', 'Accept, Origin, Cookie'],
    ['?vary=Accept&vary=Origin', 'Accept, Origin, Cookie'],
    ['?vary=cookie', 'cookie'],
    ['?vary=Accept,COOKIE', 'Accept,COOKIE'],
    ['?vary=Cookie2', 'Cookie2, Cookie'],
    ['?vary=*', '*']
  ]
  for (const [query, vary] of cases) {
    t.equal((await app.inject(`/vary${query}`)).headers.vary, vary, query)
  }
})

void t.test(
  'the cookies of the handler stay beside ours, whichever plugin is registered first',
  async (t) => {
    for (const isFirst of [true, false]) {
      const app = Fastify()
      t.teardown(() => app.close())
      if (isFirst) await app.register(fastifyCookie)
      await app.register(sessions, { secret: SECRET })
      if (!isFirst) await app.register(fastifyCookie)
      app.get('/both', async ({ cookies, session }, reply) => {
        reply.setCookie('color', 'red').header('set-cookie', 'plain=1')
        session.set('name', 'ada')
        return cookies
      })
      const response = await app.inject({ url: '/both', headers: { cookie: 'size=2' } })
      t.same(response.cookies.map(({ name }) => name).sort(), ['color', 'plain', 'session_id'])
      t.same(response.json(), { size: '2' })
    }
  }
)

void t.test('a serializeCookie of the application’s own is left to it', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorate('serializeCookie', (name: string) => name)
  await app.register(sessions, { secret: SECRET })
  addRoutes(app)
  t.match(
    setCookieOf(await app.inject('/set?name=ada')),
    /^session_id=\w{64}\..*; HttpOnly; Secure; SameSite=Lax$/
  )
  t.equal(app.serializeCookie('own', ''), 'own')
})

void t.test('an application that does not register @fastify/cookie has none of its decorators', async (t) => {
  const { app } = await setUp(t)
  t.notOk(app.hasDecorator('serializeCookie'))
  t.notOk(app.hasReplyDecorator('setCookie'))
})

void t.test('a cookie without Max-Age is still cleared with one', async (t) => {
  const { browser } = await setUp(t, { cookie: { persistent: false } })
  await browser.get('/set?name=ada')
  const cleared = 'session_id=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax'
  t.equal(setCookieOf(await browser.get('/logout')), cleared)
})

void t.test('Max-Age is rounded down, and never below 0', async (t) => {
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
