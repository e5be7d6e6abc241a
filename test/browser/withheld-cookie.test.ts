import type { FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { csrfProtection, guarded, type CsrfOptions } from '../../plugin/index.js'
import { makeAccountApp } from './fixtures/account-app.js'
import { naive, sesame, type Library } from './fixtures/account-libraries.js'
import { makeAttacker } from './fixtures/attacker.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import { cookieOf, leave, messageOn, nameOn, press, userOn } from './fixtures/page-actions.js'
import { serve, type Server } from './fixtures/server.js'

// Tests requests to which the browser does not add the session cookie, because of SameSite. The user is signed in, but
// the application cannot know it. Its reply must not replace the cookie.

const chromium = useChromium(t)

interface Scene {
  readonly page: Page
  readonly server: Server
  readonly url: string
  readonly evil: string
  /** The session cookie of the signed-in user. */
  readonly cookie: string | undefined
}

/** Starts an application, to which `extend` can add routes, and signs the user in. */
async function setUp(
  t: Test,
  library: Library,
  extend: (app: FastifyInstance) => void = () => {}
): Promise<Scene> {
  const { app } = await makeAccountApp(t, library)
  extend(app)
  const server = await serve(t, app)
  const [url, evil] = [server.at('app.localhost'), (await makeAttacker(t)).at('evil.localhost')]
  const page = await chromium.window()
  await page.goto(`${url}/enter`)
  return { page, server, url, evil, cookie: await cookieOf(page, url) }
}

/** Posts a form of the attacker's page. Returns the status of the reply, and whether the request had the cookie. */
async function attack({ page, server, url, evil }: Scene, path: string) {
  if (page.url() !== `${evil}/`) await page.goto(evil)
  server.forget()
  await leave(page, `post('${url}${path}', { name: 'Eve' })`)
  const { headers, statusCode } = await server.saw('POST', path)
  return { statusCode, hasSession: /(^|; )session_id=/.test(headers.cookie ?? '') }
}

/** Follows a link on the attacker's page. */
async function followLink({ page, url, evil }: Scene, path: string): Promise<void> {
  if (page.url() !== `${evil}/`) await page.goto(evil)
  await leave(page, `follow('${url}${path}')`)
}

const pathOf = (page: Page): string => page.url().replace(/^http:\/\/[^/]+/, '')

/** Adds the routes of `makeAccountApp` with `guarded` in place of `requireAuth`. */
function addGuarded(app: FastifyInstance): void {
  const { preHandler, handler } = guarded(async ({ userId }) => userId)
  app.post('/guarded-first', { preHandler: [preHandler, csrfProtection] }, handler)
  app.post('/csrf-guarded', { preHandler: [csrfProtection, preHandler] }, handler)
}

/** The status of the reply to the attacker's form on each route. */
type Statuses = Readonly<Record<string, number>>
const REFUSED: Statuses = { '/guard-first': 403, '/csrf-first': 403 }
/** Only with `csrf.protect: 'routes'`, a guard can run before any check of the origin. It shows the login page. */
const GUARDED: Statuses = {
  '/guard-first': 303,
  '/csrf-first': 403,
  '/guarded-first': 303,
  '/csrf-guarded': 403
}

const FORMS: readonly ['lax' | 'strict' | 'none', CsrfOptions['protect'], Statuses][] = [
  ['lax', 'origin', REFUSED],
  ['lax', 'all', REFUSED],
  ['lax', 'routes', GUARDED],
  ['strict', 'routes', GUARDED],
  ['none', 'routes', REFUSED]
]

for (const [sameSite, protect, statuses] of FORMS) {
  const options = `SameSite=${sameSite}, csrf.protect: '${String(protect)}'`
  void t.test(
    `F1: a form on another site does not replace the user's session cookie (${options})`,
    { skip },
    async (t) => {
      const scene = await setUp(t, sesame({ cookie: { sameSite }, csrf: { protect } }), addGuarded)
      const { page, url, cookie } = scene
      for (const [path, statusCode] of Object.entries(statuses)) {
        t.same(await attack(scene, path), { statusCode, hasSession: sameSite === 'none' }, path)
        t.equal(await cookieOf(page, url), cookie, path)
      }
      await page.goto(`${url}/profile`)
      t.same([await userOn(page), await nameOn(page)], ['ada', 'Ada Lovelace'])
    }
  )
}

/** Applications whose reply to the attacker's form replaces the cookie. */
const LOSERS: readonly [name: string, path: string, Library, extend?: (app: FastifyInstance) => void][] = [
  ['a naive library, with the guard first,', '/guard-first', naive()],
  ['a naive library, with the CSRF check first,', '/csrf-first', naive()],
  [
    'data that the application sets for a visitor',
    '/basket',
    sesame({ csrf: { protect: 'routes' } }),
    (app) => app.post('/basket', async ({ session }) => session.set('basket', ['book']))
  ]
]

for (const [name, path, library, extend] of LOSERS) {
  void t.test(`F1: with ${name} a form on another site signs the user out`, { skip }, async (t) => {
    const scene = await setUp(t, library, extend)
    const { page, url, cookie } = scene
    t.match(await attack(scene, path), { hasSession: false })
    t.not(await cookieOf(page, url), cookie)
    await page.goto(`${url}/profile`)
    t.same([pathOf(page), await userOn(page)], ['/login', 'nobody'])
  })
}

const strict = (): Library => sesame({ cookie: { sameSite: 'strict' } })
const LINKS: readonly [name: string, user: string, () => Library][] = [
  ['leaves the user signed in', 'ada', strict],
  ['signs the user out of a naive application', 'nobody', () => naive('Strict')]
]

for (const [name, user, make] of LINKS) {
  void t.test(`F1: with SameSite=Strict a link on another site ${name}`, { skip }, async (t) => {
    const scene = await setUp(t, make())
    const { page, url, cookie } = scene
    const isKept = user === 'ada'
    await followLink(scene, '/profile')
    t.same([pathOf(page), await userOn(page)], ['/login', 'nobody'], 'the browser withholds the cookie')
    t.equal((await cookieOf(page, url)) === cookie, isKept)
    // The browser's own reload repeats a request as it was, including the site that it came from.
    await page.reload()
    t.same([pathOf(page), await userOn(page)], ['/login', 'nobody'], 'after the reload button')
    t.equal((await cookieOf(page, url)) === cookie, isKept)
    await leave(page, 'void setTimeout(() => location.reload())')
    t.same([pathOf(page), await userOn(page)], ['/login', user], 'after a reload by the page')
    await press(page, 'Profile', 'link')
    t.equal(await userOn(page), user, 'after a link of the page')
    t.equal((await cookieOf(page, url)) === cookie, isKept)
  })
}

void t.test(
  'F1: a form that was printed while SameSite=Strict withheld the cookie works, because its visitor token counts',
  { skip },
  async (t) => {
    const scene = await setUp(t, strict())
    const { page, url, cookie } = scene
    for (const button of ['Guard first', 'CSRF first']) {
      await followLink(scene, '/contact')
      t.equal(await userOn(page), 'nobody')
      await page.locator('input[name=name]').fill(`Countess (${button})`)
      await press(page, button)
      t.same([await userOn(page), await nameOn(page)], ['ada', `Countess (${button})`])
      t.equal(await cookieOf(page, url), cookie)
    }
    await followLink(scene, '/contact')
    await page.context().clearCookies({ name: 'session_id_visitor' })
    scene.server.forget()
    await press(page, 'Guard first')
    const { statusCode } = await scene.server.saw('POST', '/guard-first')
    t.equal(statusCode, 403, 'without the visitor cookie')
  }
)

void t.test(
  'with a naive library, a form that was printed while SameSite=Strict withheld the cookie asks for a login',
  { skip },
  async (t) => {
    const scene = await setUp(t, naive('Strict'))
    await followLink(scene, '/contact')
    await press(scene.page, 'Guard first')
    t.same([pathOf(scene.page), await userOn(scene.page)], ['/login', 'nobody'])
  }
)

void t.test(
  'a login with a form that was printed while SameSite=Strict withheld the cookie takes over the flash message',
  { skip },
  async (t) => {
    const scene = await setUp(t, strict())
    const { page, url, cookie } = scene
    await followLink(scene, '/invitation')
    t.equal(await userOn(page), 'nobody')
    t.ok(await cookieOf(page, url, 'session_id_visitor'))
    await press(page, 'Sign in')
    t.same([pathOf(page), await userOn(page), await messageOn(page)], ['/profile', 'ada', 'You were invited'])
    t.not(await cookieOf(page, url), cookie, 'the login has changed the id')
    t.equal(await cookieOf(page, url, 'session_id_visitor'), undefined)
  }
)

void t.test(
  'F1: with SameSite=Strict, a link on another site to a guarded page shows the prompt, and the login returns to the page',
  { skip },
  async (t) => {
    for (const isSignedIn of [true, false]) {
      const scene = await setUp(t, strict())
      const { page } = scene
      if (!isSignedIn) await page.context().clearCookies()
      await followLink(scene, '/profile?tab=2')
      t.equal(await messageOn(page), 'Please login to continue')
      await press(page, 'Sign in')
      t.same([pathOf(page), await userOn(page)], ['/profile?tab=2', 'ada'])
    }
  }
)
