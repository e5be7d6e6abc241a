import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { makeAttacker } from './fixtures/attacker.js'
import { startChromium, withoutChromium as skip, type Chromium } from './fixtures/chromium.js'
import { makeHouse } from './fixtures/house.js'
import { naiveDoorman } from './fixtures/naive.js'
import { nameOn } from './fixtures/person.js'
import { serve } from './fixtures/server.js'

// Which cookies Chromium keeps and sends, and what a sibling host can toss among them.

t.setTimeout(280_000)
let chromium: Chromium
t.before(async () => {
  if (skip === false) chromium = await startChromium(t)
})

// RFC 6265bis section 5.7 leaves it to the browser which plain HTTP it trusts with a Secure cookie: Chromium trusts
// loopback, by address and by name.
const KEPT: readonly [host: string, secure: true | 'auto', cookieName: string, isKept: boolean][] = [
  ['127.0.0.1', true, 'session_id', true],
  ['localhost', true, 'session_id', true],
  ['app.localhost', true, '__Host-session', true],
  ['app.test', true, 'session_id', false],
  ['app.test', 'auto', 'session_id', true]
]

void t.test(
  'a Secure cookie is kept on loopback, and on other plain HTTP only with auto',
  { skip },
  async (t) => {
    const page = await chromium.window()
    for (const [host, secure, cookieName, isKept] of KEPT) {
      const server = await serve(t, await makeHouse(t, { cookie: { secure }, cookieName }))
      await page.goto(`${server.at(host)}/login`)
      server.forget()
      await page.reload()
      const { headers } = await server.saw('GET', '/login')
      const isSent = headers.cookie?.startsWith(`${cookieName}=`) ?? false
      t.equal(isSent, isKept, `${cookieName} on ${host}, secure: ${String(secure)}`)
    }
  }
)

type MakeApp = (t: Test) => Promise<FastifyInstance>
const plain: MakeApp = (t) => makeHouse(t, {})
const hostOnly: MakeApp = (t) => makeHouse(t, { cookieName: '__Host-session' })
const naive: MakeApp = (t) => makeHouse(t, {}, { doorman: naiveDoorman() })

/** A cookie that the application gives to whoever asks, with or without a login; its value. */
async function cookieOf(app: FastifyInstance, payload?: object): Promise<string> {
  const method = payload === undefined ? 'GET' : 'POST'
  const { cookies } = await app.inject({ method, url: '/login', ...(payload !== undefined && { payload }) })
  return cookies[0]?.value ?? 'chosen'
}

interface Toss {
  readonly name: string
  readonly make: MakeApp
  /** What the attacker tosses, on a path that puts it in front of the user's own cookie, or before there is one. */
  value(app: FastifyInstance): Promise<string>
  readonly path: '/profile' | '/'
  /** Whose profile the user sees then, after a login. */
  readonly user: string
  /** Whose profile the attacker sees then, with the cookie that it tossed. */
  readonly attacker: string
}

const rubbish = { value: async () => 'rubbish', path: '/profile' } as const
const known = { value: (app: FastifyInstance) => cookieOf(app), path: '/' } as const
const own = {
  value: (app: FastifyInstance) => cookieOf(app, { username: 'grace', password: 'hopper' }),
  path: '/profile'
} as const

const TOSSES: readonly Toss[] = [
  { name: 'rubbish is passed over', make: plain, ...rubbish, user: 'Ada Lovelace', attacker: 'nobody' },
  { name: 'rubbish hides a naive cookie', make: naive, ...rubbish, user: 'nobody', attacker: 'nobody' },
  {
    name: 'a known session is left at the login',
    make: plain,
    ...known,
    user: 'Ada Lovelace',
    attacker: 'nobody'
  },
  {
    name: 'a known id becomes a naive session',
    make: naive,
    ...known,
    user: 'Ada Lovelace',
    attacker: 'Ada Lovelace'
  },
  {
    name: 'the name __Host- keeps the session of the attacker out',
    make: hostOnly,
    ...own,
    user: 'Ada Lovelace',
    attacker: 'Grace Hopper'
  },
  {
    // The server cannot tell which of two good sessions is the user's.
    name: 'another name lets the session of the attacker in',
    make: plain,
    ...own,
    user: 'Grace Hopper',
    attacker: 'Grace Hopper'
  }
]

for (const toss of TOSSES) {
  void t.test(`tossed by a sibling host: ${toss.name}`, { skip }, async (t) => {
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
    t.equal(headers.cookie?.startsWith(`${tossed}; `) ?? false, toss.make !== hostOnly, 'it comes first')
    const { body } = await app.inject({ url: '/profile', headers: { cookie: tossed } })
    t.equal(/name="name" value="([^"]*)"/.exec(body)?.[1] ?? 'nobody', toss.attacker)
  })
}
