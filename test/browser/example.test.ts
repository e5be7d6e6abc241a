import type { FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { SessionOptions } from '../../plugin/index.js'
import { makeAccountApp } from './fixtures/account-app.js'
import { sesame } from './fixtures/account-libraries.js'
import { makeAttacker } from './fixtures/attacker.js'
import { makeBareApp } from './fixtures/bare-app.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import { loadExample, type MakeExample } from './fixtures/example.js'
import { naiveSessions } from './fixtures/naive.js'
import { nameOn, press, signIn } from './fixtures/page-actions.js'
import { serve } from './fixtures/server.js'

// Tests the example application in a real browser.

const chromium = useChromium(t)
let makeExample: MakeExample
t.before(async () => {
  if (skip === false) makeExample = await loadExample(t)
})

/** Starts the example application. Returns a browser window and the application's origin. */
async function visit(t: Test): Promise<{ page: Page; origin: string }> {
  const { at } = await serve(t, await makeExample(t))
  return { page: await chromium.window(), origin: at('127.0.0.1') }
}

/** Returns the flash messages that a page shows. */
function messages(page: Page): Promise<string[]> {
  return page.locator('.flash').allTextContents()
}

const pathOf = (page: Page): string => new URL(page.url()).pathname

void t.test(
  'a user can sign in, change the profile and sign out, and sees each message only once',
  { skip },
  async (t) => {
    const { page, origin } = await visit(t)
    await page.goto(origin)
    t.equal(pathOf(page), '/login')
    await signIn(page, origin, 'ada', 'wrong')
    t.same([pathOf(page), await messages(page)], ['/login', ['Wrong username or password.']])
    await page.reload()
    t.same(await messages(page), [])

    const [before] = await page.context().cookies()
    await signIn(page, origin)
    t.same([pathOf(page), await messages(page)], ['/dashboard', ['Welcome back!']])
    const [after, ...others] = await page.context().cookies()
    t.match(after, { name: 'sid', domain: '127.0.0.1', path: '/', httpOnly: true, sameSite: 'Lax' })
    t.same([others, await page.evaluate('document.cookie')], [[], ''], 'scripts cannot read the cookie')
    t.not(after?.value, before?.value, 'the login changes the cookie')
    t.equal(await page.locator('main > p:not(.flash)').textContent(), 'Hello, Ada Lovelace.')
    await page.reload()
    t.same(await messages(page), [])

    await press(page, 'Profile', 'link')
    await page.getByLabel('Display name').fill('Countess <b>Ada</b>')
    await press(page, 'Save')
    t.same([pathOf(page), await messages(page)], ['/profile', ['Your profile was saved.']])
    await page.reload()
    t.same(await messages(page), [], 'a reload does not send the form again')
    await press(page, 'Dashboard', 'link')
    t.equal(await page.locator('main > p').textContent(), 'Hello, Countess <b>Ada</b>.')

    await press(page, 'Log out')
    t.same([pathOf(page), await messages(page)], ['/login', ['You are logged out.']])
    await page.goto(`${origin}/profile`)
    t.same([pathOf(page), await messages(page)], ['/login', ['Please sign in to continue.']])
  }
)

void t.test(
  'a user can see and end the session of a second device, and that device must then sign in again',
  { skip },
  async (t) => {
    const { page, origin } = await visit(t)
    const phone = await chromium.newProfile(t, {
      userAgent: 'Mozilla/5.0 (Android 15; Mobile; rv:140.0) Firefox/140.0'
    })
    await signIn(page, origin)
    await signIn(phone, origin)
    await page.goto(`${origin}/devices`)
    t.same((await page.locator('.devices strong').allTextContents()).sort(), [
      'Chrome on Linux',
      'Firefox on Android'
    ])
    t.match(await page.locator('.devices li', { hasText: 'This device' }).textContent(), 'Chrome on Linux')

    await press(page, 'End session Firefox on Android')
    t.same(await messages(page), ['The session was ended.'])
    t.same(await page.locator('.devices strong').allTextContents(), ['Chrome on Linux'])
    await press(phone, 'Profile', 'link')
    t.same([pathOf(phone), await messages(phone)], ['/login', ['You were signed out from another device: Chrome on Linux, 127.0.0.1.']])
    await page.reload()
    t.same([pathOf(page), await messages(page)], ['/devices', []])
  }
)

/** Returns an app that lets the browser cache its guarded page, because it has no CSRF token. */
async function makeCachedApp(t: Test, options: Partial<SessionOptions>): Promise<FastifyInstance> {
  const library = { ...sesame(options), tokenFor: () => '', checkToken: async () => {} }
  const { app } = await makeAccountApp(t, library)
  app.addHook('preHandler', async ({ url }, reply) => {
    if (url === '/profile') reply.header('cache-control', 'private, max-age=600')
  })
  return app
}

/** Whether the user's page is shown after the back button, after its address, and after a way back from another site. */
type Kept = readonly [back: boolean, address: boolean, elsewhere: boolean]
const NEVER: Kept = [false, false, false]

const APPS: readonly { when: string; name: string; kept: Kept; make: MakeExample }[] = [
  { when: 'no longer', name: 'pages of the example', kept: NEVER, make: (t) => makeExample(t) },
  { when: 'no longer', name: 'pages behind requireAuth()', kept: NEVER, make: (t) => makeBareApp(t, {}) },
  {
    when: 'no longer',
    name: 'pages behind requireAuth(), with clearSiteData',
    kept: NEVER,
    make: (t) => makeBareApp(t, { clearSiteData: true })
  },
  {
    // The library adds `Vary: Cookie`, and this header alone makes Chromium request the page again after the logout,
    // unless the user goes back to it.
    when: 'still',
    name: 'pages that the application lets it cache',
    kept: [true, false, true],
    make: (t) => makeCachedApp(t, {})
  },
  {
    // Chromium clears its caches before it moves the page with the logout form into the back-forward cache.
    when: 'at most',
    name: 'the page with the logout form, with clearSiteData and pages that the application lets it cache',
    kept: [true, false, false],
    make: (t) => makeCachedApp(t, { clearSiteData: true })
  },
  {
    when: 'still',
    name: 'cacheable pages without the library',
    kept: [true, true, true],
    make: (t) => makeBareApp(t, {}, { isCached: true, sessions: naiveSessions() })
  }
]

/** Waits until the page is loaded. This also works for pages from the back-forward cache, which fire no load event. */
async function waitForLoad(page: Page): Promise<void> {
  await page.evaluate(
    "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))"
  )
}

for (const { when, name, kept, make } of APPS) {
  void t.test(`after a logout the browser ${when} shows ${name}`, { skip }, async (t) => {
    const url = (await serve(t, await make(t))).at('127.0.0.1')
    const [back, address, elsewhere] = kept.map((isKept) => (isKept ? 'Ada Lovelace' : 'nobody'))
    const evil = (await makeAttacker(t)).at('localhost')
    const page = await chromium.window()
    await signIn(page, url)
    await page.goto(`${url}/profile`)
    await press(page, 'Log out')
    await page.goBack({ waitUntil: 'commit' })
    await waitForLoad(page)
    t.equal(await nameOn(page), back, 'after the back button')
    await page.goto(`${url}/profile`)
    t.equal(await nameOn(page), address, 'after opening its address')

    await signIn(page, url)
    await page.goto(`${url}/profile`)
    await page.goto(evil)
    const tab = await page.context().newPage()
    await tab.goto(`${url}/profile`)
    await press(tab, 'Log out')
    await tab.close()
    const gone = page.waitForEvent('framenavigated')
    // history.back() runs in a timer, because evaluate() does not return if its script leaves the page.
    await page.evaluate('void setTimeout(() => history.back())')
    await gone
    await waitForLoad(page)
    t.equal(await nameOn(page), elsewhere, 'after going back from another site')
  })
}
