import type { FastifyInstance } from 'fastify'
import type { ConsoleMessage, Page } from 'playwright-core'
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
async function visit(t: Test, options?: { hasOwnUsers: boolean }): Promise<{ page: Page; origin: string }> {
  const { at } = await serve(t, await makeExample(t, options))
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
    t.same(
      [pathOf(phone), await messages(phone)],
      ['/login', ['You were signed out from another device: Chrome on Linux, 127.0.0.1.']]
    )
    await page.reload()
    t.same([pathOf(page), await messages(page)], ['/devices', []])
  }
)

void t.test('a visitor fills a cart, signs in for 30 days and still has the cart', { skip }, async (t) => {
  const { page, origin } = await visit(t)
  await page.goto(`${origin}/shop`)
  await press(page, 'Add to cart: Halva')
  await page.getByLabel('Quantity: Halva', { exact: true }).fill('3')
  await press(page, 'Change quantity: Halva')
  await page.goto(`${origin}/login`)
  await page.getByLabel('Username').fill('ada')
  await page.getByLabel('Password').fill('lovelace')
  await page.getByLabel('Keep me signed in').check()
  await press(page, 'Sign in')
  t.equal(pathOf(page), '/dashboard')
  const [cookie] = await page.context().cookies()
  const days = ((cookie?.expires ?? 0) - Date.now() / 1000) / 86_400
  t.ok(days > 6.9 && days < 7.1, `the cookie lasts for ${days} days without a request`)
  await press(page, 'Shop 3 in the cart', 'link')
  t.equal(await page.getByLabel('Quantity: Halva', { exact: true }).inputValue(), '3')
  await press(page, 'Remove: Halva')
  t.equal(await page.getByText('Your cart is empty.').count(), 1)
})

void t.test('a change of the password signs another browser out and tells it why', { skip }, async (t) => {
  const { page, origin } = await visit(t, { hasOwnUsers: true })
  const other = await chromium.newProfile(t)
  for (const browser of [page, other]) await signIn(browser, origin)
  await page.goto(`${origin}/profile`)
  await press(page, 'Change your password', 'link')
  await page.getByLabel('Current password').fill('lovelac')
  await page.getByLabel('New password', { exact: true }).fill('the analytical engine')
  await page.getByLabel('New password again').fill('the analytical engine')
  await press(page, 'Change the password')
  t.equal(await page.evaluate('document.activeElement.id'), 'current', 'the wrong field has the focus')
  await page.getByLabel('Current password').fill('lovelace')
  await page.getByLabel('New password', { exact: true }).fill('the analytical engine')
  await page.getByLabel('New password again').fill('the analytical engine')
  await press(page, 'Change the password')
  t.equal(pathOf(page), '/profile')

  await press(other, 'Devices', 'link')
  t.same(
    [pathOf(other), await messages(other)],
    ['/login', ['Your password was changed on another device: Chrome on Linux, 127.0.0.1.']]
  )
  await signIn(other, origin, 'ada', 'the analytical engine')
  t.equal(pathOf(other), '/devices')
})

const PAGES = ['/shop', '/dashboard', '/profile', '/password', '/confirm', '/devices', '/admin', '/nothing']

void t.test('on a phone, the header is one row and no page scrolls sideways', { skip }, async (t) => {
  const { page: desktop, origin } = await visit(t)
  await signIn(desktop, origin)
  const phone = await chromium.newProfile(t, { viewport: { width: 360, height: 700 } })
  for (const path of ['/login', ...PAGES]) {
    if (path === '/shop') await signIn(phone, origin)
    await phone.goto(origin + path)
    if (path === '/shop') await press(phone, 'Add to cart: Sesame rings')
    t.equal(await phone.evaluate('document.documentElement.scrollWidth'), 360, path)
    const { height } = (await phone.locator('header').boundingBox()) as { height: number }
    t.ok(height < 80, `the header of ${path} is ${height} pixels high`)
  }
  await phone.getByRole('button', { name: 'Menu' }).click()
  await press(phone, 'Admin', 'link')
  t.equal(pathOf(phone), '/admin')
})

/** Returns the name of the focused element, and whether a focus ring is visible around it. */
function focused(page: Page): Promise<[string, boolean]> {
  return page.evaluate(`(() => {
    const { id, name, textContent } = document.activeElement
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement)
    return [id || name || textContent.trim(), outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2]
  })()`)
}

void t.test('a user can sign in and end a session with the keyboard alone', { skip }, async (t) => {
  const { page, origin } = await visit(t)
  await signIn(await chromium.newProfile(t), origin)
  await page.goto(`${origin}/devices`)
  t.same(await focused(page), ['username', true])
  await page.keyboard.type('ada')
  await page.keyboard.press('Tab')
  t.same(await focused(page), ['password', true])
  await page.keyboard.type('lovelace')
  await page.keyboard.press('Tab')
  t.same(await focused(page), ['remember', true])
  await page.keyboard.press('Space')
  const loaded = page.waitForEvent('load')
  await page.keyboard.press('Enter')
  await loaded
  t.equal(pathOf(page), '/devices')
  await page.keyboard.press('Tab')
  t.same(await focused(page), ['Skip to the content', true])
  await page.keyboard.press('Enter')
  await page.keyboard.press('Tab')
  t.same(await focused(page), ['end-1', true])
  const ended = page.waitForEvent('load')
  await page.keyboard.press('Enter')
  await ended
  t.same(await messages(page), ['The session was ended.'])
})

void t.test(
  'no page violates the policy for scripts and styles, which blocks inline ones',
  { skip },
  async (t) => {
    const { page, origin } = await visit(t)
    const blocked: string[] = []
    const listener = (message: ConsoleMessage) => {
      if (message.text().includes('Content Security Policy')) blocked.push(message.text())
    }
    page.on('console', listener)
    t.teardown(() => page.off('console', listener))
    await signIn(page, origin)
    for (const path of PAGES) await page.goto(origin + path)
    t.same(blocked, [])
    const violation = page.waitForEvent('console')
    await page.evaluate(
      "document.body.append(Object.assign(document.createElement('script'), { text: 'x = 1' }))"
    )
    await violation
    t.match(blocked, [/inline script/])
  }
)

void t.test('times are in the time zone of the user, and in UTC without scripts', { skip }, async (t) => {
  const { origin } = await visit(t)
  const zone = { timezoneId: 'Asia/Kathmandu', locale: 'de-DE' }
  const timeOn = async (options: typeof zone & { javaScriptEnabled?: boolean }) => {
    const page = await chromium.newProfile(t, options)
    await signIn(page, origin)
    const time = page.locator('time').first()
    return { text: await time.textContent(), date: new Date((await time.getAttribute('datetime')) as string) }
  }
  const local = await timeOn(zone)
  const style = { dateStyle: 'medium', timeStyle: 'short' } as const
  t.equal(local.text, local.date.toLocaleString('de-DE', { ...style, timeZone: 'Asia/Kathmandu' }))
  const utc = await timeOn({ ...zone, javaScriptEnabled: false })
  t.equal(utc.text, `${utc.date.toLocaleString('en-GB', { ...style, timeZone: 'UTC' })} UTC`)
})

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
