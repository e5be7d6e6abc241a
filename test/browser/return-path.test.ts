import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { makeAccountApp } from './fixtures/account-app.js'
import { naive, sesame, type Library } from './fixtures/account-libraries.js'
import { makeAttacker } from './fixtures/attacker.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import { leave } from './fixtures/page-actions.js'
import { serve } from './fixtures/server.js'

// Tests where the browser is after a login, if an attacker's link has chosen the page to return to.

const chromium = useChromium(t)

/** A path that a signed-out user is made to ask for. `evil` stands for the attacker's host and port. */
interface Hostile {
  readonly name: string
  readonly path: string
  /** The URL to which the login returns, without the application's origin. Default: `/profile`, the fallback. */
  readonly returnsTo?: string
  /** True if a redirect to the path of this URL leads to the attacker's site. */
  readonly leads?: true
}

const LONG = 'x'.repeat(8192)
const PATHS: readonly Hostile[] = [
  { name: 'two slashes', path: '//evil/', leads: true },
  { name: 'a user name', path: '//app@evil/', leads: true },
  { name: 'a backslash', path: '/\\evil/', leads: true },
  { name: 'a tab', path: '/\t/evil/', leads: true },
  { name: 'newlines', path: '/\r\n/evil/', leads: true },
  { name: 'a dot segment', path: '/.//evil/', leads: true },
  { name: 'a parent segment', path: '/x/..//evil/', leads: true },
  { name: 'an encoded slash', path: '/%2F/evil/', returnsTo: '/%2F/evil/' },
  { name: 'an encoded backslash', path: '/%5Cevil/', returnsTo: '/%5Cevil/' },
  { name: 'an encoded tab', path: '/%09/evil/', returnsTo: '/%09/evil/' },
  {
    name: 'an encoded header',
    path: '/%0D%0ALocation:%20http://evil/',
    returnsTo: '/%0D%0ALocation:%20http://evil/'
  },
  { name: 'a scheme without slashes', path: '/https:evil/', returnsTo: '/https:evil/' },
  { name: 'a URL', path: '/http://evil/', returnsTo: '/http://evil/' },
  { name: 'a URL in the query', path: '/x?next=//evil/', returnsTo: '/x?next=//evil/' },
  { name: 'characters that are not ASCII', path: '/ü/evil', returnsTo: '/%C3%BC/evil' },
  { name: '8 KB', path: `/${LONG}` },
  { name: '8 KB after two slashes', path: `//evil/${LONG}`, leads: true }
]

interface Scene {
  readonly page: Page
  readonly url: string
  /** The attacker's origin. */
  readonly evil: string
  readonly host: string
}

async function setUp(t: Test, library: Library): Promise<Scene> {
  const { app } = await makeAccountApp(t, library)
  const url = (await serve(t, app)).at('app.localhost')
  const evil = (await makeAttacker(t)).at('evil.test')
  const page = await chromium.window()
  await page.goto(evil)
  return { page, url, evil, host: new URL(evil).host }
}

/** Signs in with the login page that a guard has shown. Returns the URL after the login. */
async function signIn({ page }: Scene): Promise<string> {
  await leave(page, 'setTimeout(() => document.forms[0].requestSubmit())')
  const url = page.url()
  await page.context().clearCookies()
  return url
}

/** Clicks a link, which may be on any page. */
function followLink({ page }: Scene, href: string): Promise<void> {
  const link = `Object.assign(document.createElement('a'), { href: ${JSON.stringify(href)} })`
  return leave(page, `setTimeout((link) => document.body.appendChild(link).click(), 0, ${link})`)
}

const urlOf = ({ url, host }: Scene, path: string): string => url + path.replaceAll('evil', host)

for (const [way, paths, open] of [
  ['a link', PATHS, followLink],
  ['the address bar', PATHS.slice(0, 4), ({ page }: Scene, href: string) => page.goto(href)]
] as const) {
  void t.test(
    `F7: after a login, a path from ${way} leaves the browser on this origin`,
    { skip },
    async (t) => {
      const scene = await setUp(t, sesame())
      for (const { name, path, returnsTo = '/profile' } of paths) {
        await open(scene, urlOf(scene, path))
        t.equal(scene.page.url(), `${scene.url}/login`, name)
        t.equal(await signIn(scene), urlOf(scene, returnsTo), name)
      }
    }
  )
}

void t.test(
  'F7: with a naive library, a path from a link can lead the browser to another site after a login',
  { skip },
  async (t) => {
    const scene = await setUp(t, naive())
    for (const { name, path } of PATHS.filter(({ leads }) => leads === true)) {
      await followLink(scene, urlOf(scene, path))
      const { origin } = new URL(await signIn(scene))
      t.equal(origin, scene.evil, name)
    }
  }
)
