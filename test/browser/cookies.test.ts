import type { FastifyInstance } from 'fastify'
import type { InjectOptions } from 'light-my-request'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { SessionOptions } from '../../plugin/index.js'
import { makeAttacker } from './fixtures/attacker.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import { makeBareApp } from './fixtures/bare-app.js'
import { naiveSessions } from './fixtures/naive.js'
import { leave, nameOn } from './fixtures/page-actions.js'
import { serve, type Seen } from './fixtures/server.js'

// Tests which cookies Chromium keeps and sends, and which cookies a sibling host can add (cookie tossing).

const chromium = useChromium(t)

// RFC 6265bis section 5.7 lets the browser decide which plain HTTP hosts are allowed to set a Secure cookie. Chromium
// allows this for loopback addresses and for host names such as `localhost`.
const KEPT: readonly [host: string, secure: true | 'auto', cookieName: string, isKept: boolean][] = [
  ['127.0.0.1', true, 'session_id', true],
  ['localhost', true, 'session_id', true],
  ['app.localhost', true, '__Host-session', true],
  ['app.test', true, 'session_id', false],
  ['app.test', 'auto', 'session_id', true]
]

function isSent(name: string, { headers }: Seen): boolean {
  return headers.cookie?.startsWith(`${name}=`) ?? false
}

void t.test(
  "Chromium keeps a Secure cookie from a loopback host, but other plain HTTP hosts need secure: 'auto'",
  { skip },
  async (t) => {
    const page = await chromium.window()
    for (const [host, secure, cookieName, isKept] of KEPT) {
      const server = await serve(t, await makeBareApp(t, { cookie: { secure }, cookieName }))
      await page.goto(`${server.at(host)}/login`)
      server.forget()
      await page.reload()
      const visitor = await server.saw('GET', '/login')
      const name = `${cookieName} on ${host}, secure: ${String(secure)}`
      t.equal(isSent(`${cookieName}_visitor`, visitor), isKept, `the visitor cookie of ${name}`)
      await page.goto(`${server.at(host)}/enter`)
      t.equal(isSent(cookieName, await server.saw('GET', '/profile')), isKept, name)
    }
  }
)

type MakeApp = (t: Test) => Promise<FastifyInstance>
const plain: MakeApp = (t) => makeBareApp(t, {})
const hostOnly: MakeApp = (t) => makeBareApp(t, { cookieName: '__Host-session' })
const naive: MakeApp = (t) => makeBareApp(t, {}, { sessions: naiveSessions() })

/** Returns the value of the cookie in the reply to a request. A naive server accepts any value. */
async function cookieOf(app: FastifyInstance, request: InjectOptions): Promise<string> {
  const { cookies } = await app.inject(request)
  return cookies[0]?.value ?? 'chosen'
}

interface Toss {
  readonly name: string
  readonly make: MakeApp
  /** Returns the value of the cookie that the sibling host sets for the application (the tossed cookie). */
  value(app: FastifyInstance): Promise<string>
  /** The path of the tossed cookie. A cookie with a longer path is sent before the user's own cookie. */
  readonly path: '/profile' | '/'
  /** The name that the user sees on the profile page after a login. */
  readonly user: string
  /** The name that the attacker sees on the profile page after sending the tossed cookie. */
  readonly attacker: string
}

const invalid = { value: async () => 'invalid', path: '/profile' } as const
const known = { value: (app: FastifyInstance) => cookieOf(app, { url: '/basket' }), path: '/' } as const
const own = {
  value: (app: FastifyInstance) =>
    cookieOf(app, { method: 'POST', url: '/login', payload: { username: 'grace', password: 'hopper' } }),
  path: '/profile'
} as const

const TOSSES: readonly Toss[] = [
  { name: 'an invalid cookie is skipped', make: plain, ...invalid, user: 'Ada Lovelace', attacker: 'nobody' },
  {
    name: 'an invalid cookie hides the user’s session from a naive server',
    make: naive,
    ...invalid,
    user: 'nobody',
    attacker: 'nobody'
  },
  {
    name: 'a login replaces the session that the attacker knows',
    make: plain,
    ...known,
    user: 'Ada Lovelace',
    attacker: 'nobody'
  },
  {
    name: 'a naive server adopts the id that the attacker chose',
    make: naive,
    ...known,
    user: 'Ada Lovelace',
    attacker: 'Ada Lovelace'
  },
  {
    name: 'a __Host- cookie name keeps the attacker’s session out',
    make: hostOnly,
    ...own,
    user: 'Ada Lovelace',
    attacker: 'Grace Hopper'
  },
  {
    // The server cannot tell which of two valid sessions belongs to the user.
    name: 'any other cookie name lets the attacker’s session in',
    make: plain,
    ...own,
    user: 'Grace Hopper',
    attacker: 'Grace Hopper'
  }
]

for (const toss of TOSSES) {
  void t.test(`cookie tossing by a sibling host: ${toss.name}`, { skip }, async (t) => {
    const { app, at, forget, saw } = await serve(t, await toss.make(t))
    const [url, evil] = [at('app.localhost'), (await makeAttacker(t)).at('evil.app.localhost')]
    const name = toss.make === hostOnly ? '__Host-session' : 'session_id'
    const tossed = `${name}=${await toss.value(app)}`
    const page = await chromium.window()
    const cookie = `${tossed}; Domain=app.localhost; Path=${toss.path}; Secure`
    await page.goto(`${evil}/toss?cookie=${encodeURIComponent(cookie)}`)
    await page.goto(`${url}/enter`)
    forget()
    await page.goto(`${url}/profile`)
    t.equal(await nameOn(page), toss.user)
    const { headers } = await saw('GET', '/profile')
    t.equal(
      headers.cookie?.startsWith(`${tossed}; `) ?? false,
      toss.make !== hostOnly,
      'the tossed cookie comes first'
    )
    const { body } = await app.inject({ url: '/profile', headers: { cookie: tossed } })
    t.equal(/name="name" value="([^"]*)"/.exec(body)?.[1] ?? 'nobody', toss.attacker)
  })
}

/** The visitor cookie and the CSRF token that the attacker gets from the application's login page. */
async function attackerOf(app: FastifyInstance): Promise<{ visitor: string; token: string }> {
  const { cookies, body } = await app.inject('/login')
  const [, token = ''] = /name="_csrf" value="([^"]+)"/.exec(body) ?? []
  return { visitor: `${cookies[0]?.name ?? ''}=${cookies[0]?.value ?? ''}`, token }
}

const TOSSED_VISITORS: readonly {
  name: string
  cookieName: string
  start: '/enter' | '/login'
  user: string
}[] = [
  {
    name: 'does not count beside a session',
    cookieName: 'session_id',
    start: '/enter',
    user: 'Ada Lovelace'
  },
  // The application itself trusts the sibling host, so only the token is left to stop the form.
  { name: 'counts without a session', cookieName: 'session_id', start: '/login', user: 'Grace Hopper' },
  { name: 'is refused with a __Host- name', cookieName: '__Host-session', start: '/login', user: 'nobody' }
]

for (const { name, cookieName, start, user } of TOSSED_VISITORS) {
  void t.test(
    `F6: the CSRF token of a visitor cookie that a trusted sibling host tosses ${name}`,
    { skip },
    async (t) => {
      const evil = (await makeAttacker(t)).at('evil.app.localhost')
      const csrf = { protect: 'all', trustedOrigins: [evil] } as const
      const server = await serve(t, await makeBareApp(t, { cookieName, csrf }))
      const url = server.at('app.localhost')
      const page = await chromium.window()
      await page.goto(url + start)
      const { visitor, token } = await attackerOf(server.app)
      const cookie = `${visitor}; Domain=app.localhost; Path=/login; Secure`
      await page.goto(`${evil}/toss?cookie=${encodeURIComponent(cookie)}`)
      await page.goto(evil)
      const login = JSON.stringify({ username: 'grace', password: 'hopper', _csrf: token })
      await leave(page, `post('${url}/login', ${login})`)
      const { headers, statusCode } = await server.saw('POST', '/login')
      t.equal(
        headers.cookie?.includes(`${visitor};`) ?? false,
        cookieName === 'session_id',
        'the cookie is sent'
      )
      t.equal(statusCode, user === 'Grace Hopper' ? 303 : 403)
      await page.goto(`${url}/profile`)
      t.equal(await nameOn(page), user)
    }
  )
}

const SETTINGS: readonly { name: string; options: Partial<SessionOptions>; needsAttributes: boolean }[] = [
  { name: 'a __Host- name', options: { cookieName: '__Host-session' }, needsAttributes: true },
  { name: 'a domain', options: { cookie: { domain: 'app.localhost' } }, needsAttributes: true },
  {
    name: 'partitioned cookies',
    options: { cookie: { partitioned: true, sameSite: 'none' } },
    needsAttributes: true
  },
  {
    name: 'cookies that are not persistent',
    options: { cookie: { persistent: false } },
    needsAttributes: false
  }
]

type Cookie = Awaited<ReturnType<ReturnType<Page['context']>['cookies']>>[number]

const withoutValue = (cookie: Cookie): Cookie => ({ ...cookie, name: '', value: '', expires: 0 })

for (const { name, options, needsAttributes } of SETTINGS) {
  void t.test(
    `the visitor cookie has the attributes of the session cookie, and is cleared with it (${name})`,
    { skip },
    async (t) => {
      const { cookieName = 'session_id' } = options
      const app = await makeBareApp(t, options)
      app.get('/end', async ({ session }) => session.invalidate())
      app.get('/careless', async (_request, reply) =>
        reply
          .header('set-cookie', [`${cookieName}=; Max-Age=0`, `${cookieName}_visitor=; Max-Age=0`])
          .send('')
      )
      const url = (await serve(t, app)).at('app.localhost')
      const page = await chromium.window()
      const cookies = () => page.context().cookies()
      const names = async () => (await cookies()).map(({ name }) => name).sort()
      await page.goto(`${url}/login`)
      const [visitor] = (await cookies()) as [Cookie]
      t.equal(visitor.name, `${cookieName}_visitor`)
      await page.goto(`${url}/enter`)
      t.same(await names(), [cookieName], 'a login clears the visitor cookie')
      const [session] = (await cookies()) as [Cookie]
      t.same(withoutValue(visitor), withoutValue(session))
      t.ok(Math.abs(visitor.expires - session.expires) < 60)

      // As a late reply to another tab would do it.
      await page.context().addCookies([visitor])
      await page.goto(`${url}/careless`)
      const both = [cookieName, `${cookieName}_visitor`]
      t.same(await names(), needsAttributes ? both : [], 'after a reply that clears them without attributes')
      await page.goto(`${url}/enter`)
      await page.context().addCookies([visitor])
      t.same(await names(), both)
      await page.goto(`${url}/end`)
      t.same(await names(), [], 'after the end of the session')
    }
  )
}
