import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { SessionOptions } from '../../plugin/index.js'
import { makeAttacker } from './fixtures/attacker.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import { loadExample, type MakeExample } from './fixtures/example.js'
import { makeBareApp } from './fixtures/bare-app.js'
import { nameOn, signIn } from './fixtures/page-actions.js'
import { serve, type Seen, type Server } from './fixtures/server.js'

// Tests what a page from another origin can do through the browser of a signed-in user.

const chromium = useChromium(t)
let makeExample: MakeExample
t.before(async () => {
  if (skip === false) makeExample = await loadExample(t)
})

/** The hosts of the application and of the attacker's page. */
interface Place {
  readonly name: string
  readonly host: string
  readonly evilHost: string
  /** The value of the Sec-Fetch-Site header, if Chromium sends one. */
  readonly site?: 'same-site' | 'cross-site'
}

const PLACES = {
  port: { name: 'another port', host: '127.0.0.1', evilHost: '127.0.0.1', site: 'same-site' },
  site: { name: 'another site', host: 'app.localhost', evilHost: 'evil.localhost', site: 'cross-site' },
  // Chromium sends Fetch Metadata headers only over HTTPS or to loopback hosts. This host uses plain HTTP and is not a
  // loopback host, so it receives only the Origin header.
  plain: { name: 'a sibling host on plain HTTP', host: 'app.test', evilHost: 'evil.app.test' }
} as const satisfies Record<string, Place>

interface Attack {
  readonly name: string
  /** Returns the script that the attacker's page runs against the application at `url`. */
  script(url: string): string
  /** The method and path of the request that the script makes the browser send. Default: POST /profile. */
  readonly method?: 'GET'
  readonly path?: '/login'
  /** True if the attack navigates the whole window. */
  readonly leaves?: true
  /** The Origin header of the request. Default: the attacker's origin, or no header for a GET. */
  readonly origin?: 'null'
  /** True if the request comes from a page with an opaque origin, which is cross-site to every host. */
  readonly isOpaque?: true
  /** True if the request carries no cookies. */
  readonly isAnonymous?: true
  /** True if the request needs a CORS preflight. */
  readonly needsPreflight?: true
  /** True if the attack has no effect even on an application without protection. */
  readonly isHarmless?: true
}

const FORM = "new URLSearchParams({ name: 'Eve' })"

const ATTACKS: readonly Attack[] = [
  { name: 'a form in a hidden frame', script: (url) => `postHidden('${url}/profile', { name: 'Eve' })` },
  {
    name: 'a form with JSON as plain text',
    script: (url) => `postHidden('${url}/profile', { '{"name":"Eve","': '":""}' }, { enctype: 'text/plain' })`
  },
  {
    name: 'a form that is redirected',
    script: (url) => `postHidden('/redirect?to=${encodeURIComponent(`${url}/profile`)}', { name: 'Eve' })`,
    origin: 'null'
  },
  { name: 'fetch', script: (url) => `send('${url}/profile', { mode: 'no-cors', body: ${FORM} })` },
  {
    name: 'fetch in a sandboxed frame',
    script: (url) =>
      `load('iframe', { sandbox: 'allow-scripts', srcdoc: "<script>fetch('${url}/profile', { " +
        "method: 'POST', mode: 'no-cors', credentials: 'include', body: new URLSearchParams({ name: 'Eve' }) })</" + "script>" })`,
    origin: 'null',
    isOpaque: true
  },
  {
    name: 'fetch without credentials',
    script: (url) => `send('${url}/profile', { mode: 'no-cors', body: ${FORM}, credentials: 'omit' })`,
    isAnonymous: true,
    isHarmless: true
  },
  {
    name: 'fetch with JSON as plain text',
    script: (url) => `send('${url}/profile', { mode: 'no-cors', body: '{"name":"Eve"}' })`
  },
  {
    name: 'fetch with JSON',
    script: (url) =>
      `send('${url}/profile', { body: '{"name":"Eve"}', headers: { 'content-type': 'application/json' } })`,
    needsPreflight: true
  },
  {
    name: 'fetch with a CSRF token read from the page',
    script: (url) => `fetch('${url}/profile', { credentials: 'include' })
      .then((answer) => answer.text(), () => '')
      .then((text) => /name="_csrf" value="([^"]+)"/.exec(text)?.[1])
      .then((_csrf) => send('${url}/profile', { mode: 'no-cors', body: new URLSearchParams({ name: 'Eve', _csrf }) }))`
  },
  { name: 'an image', script: (url) => `load('img', { src: '${url}/profile?name=Eve' })`, method: 'GET' },
  { name: 'a frame', script: (url) => `load('iframe', { src: '${url}/profile?name=Eve' })`, method: 'GET' },
  {
    // If SameSite withholds the user's cookie, the application treats the user as a new visitor and might set a new
    // cookie. That cookie must not replace the user's cookie.
    name: 'an image of the login page',
    script: (url) => `load('img', { src: '${url}/login' })`,
    method: 'GET',
    path: '/login',
    isHarmless: true
  },
  {
    name: 'a form that navigates the window',
    script: (url) => `post('${url}/profile', { name: 'Eve' })`,
    leaves: true
  },
  {
    name: 'a login as somebody else',
    script: (url) => `post('${url}/login', { username: 'grace', password: 'hopper' })`,
    path: '/login',
    leaves: true
  }
]

const enterBareApp = (page: Page, url: string) => page.goto(`${url}/enter`)

/** An application and the protection that it uses. */
interface Defence {
  readonly name: string
  readonly places: readonly Place[]
  readonly sameSite: 'lax' | 'none'
  readonly isOpenToCors: boolean
  readonly isSafe: boolean
  make(t: Test, options: Partial<SessionOptions>): Promise<FastifyInstance>
  /** Signs in the user. */
  enter(page: Page, url: string): Promise<unknown>
}

const DEFENCES: readonly Defence[] = [
  {
    name: 'the example application',
    places: [PLACES.port, PLACES.site],
    sameSite: 'lax',
    isOpenToCors: false,
    isSafe: true,
    make: (t) => makeExample(t),
    enter: signIn
  },
  {
    name: 'CSRF protection alone',
    places: Object.values(PLACES),
    sameSite: 'none',
    isOpenToCors: true,
    isSafe: true,
    make: (t, options) => makeBareApp(t, { ...options, csrf: { protect: 'all' } }),
    enter: enterBareApp
  },
  {
    name: 'the origin check alone',
    places: Object.values(PLACES),
    sameSite: 'none',
    isOpenToCors: true,
    isSafe: true,
    make: (t, options) => makeBareApp(t, options),
    enter: enterBareApp
  },
  {
    name: 'an application without protection',
    places: Object.values(PLACES),
    sameSite: 'none',
    isOpenToCors: true,
    isSafe: false,
    make: (t, options) => makeBareApp(t, { ...options, csrf: { protect: 'routes' } }, { isCareless: true }),
    enter: enterBareApp
  }
]

/** The browser page, the application and the attacker's site that a test uses to run attacks. */
interface Scene {
  readonly page: Page
  readonly server: Server
  readonly url: string
  readonly evil: string
}

/** Returns whether Chromium sends the session cookie with the attack. */
function isCookieSent({ isAnonymous, isOpaque }: Attack, { site }: Place, sameSite: 'lax' | 'none'): boolean {
  if (isAnonymous === true) return false
  return sameSite === 'none' || (site !== 'cross-site' && isOpaque !== true)
}

/** Runs the attack in the browser and returns the request that the application received. */
async function run(attack: Attack, method: string, { page, server, url, evil }: Scene): Promise<Seen> {
  if (page.url() !== `${evil}/`) await page.goto(evil)
  server.forget()
  const left = attack.leaves === true ? page.waitForEvent('load') : undefined
  await page.evaluate(attack.script(url))
  await left
  return server.saw(method, attack.path ?? '/profile')
}

/** Returns the parts of a request that only the browser controls. */
function sentBy({ headers }: Seen) {
  const { origin, cookie = '', 'sec-fetch-site': site } = headers
  return { origin, site, hasSession: /(^|; )(sid|session_id)=/.test(cookie) }
}

function expectedOf(attack: Attack, { site }: Place, evil: string) {
  const { method, origin = method === 'GET' ? undefined : evil } = attack
  return { origin, site: site !== undefined && attack.isOpaque === true ? 'cross-site' : site }
}

/** Requests the profile with the browser's cookies. Returns the name on it, or `nobody` if there is no session. */
async function nameNow({ page, server: { app }, url }: Scene): Promise<string> {
  const { body } = await app.inject({ url: '/profile', headers: { cookie: await cookiesOf(page, url) } })
  return /name="name"[^>]* value="([^"]*)"/.exec(body)?.[1] ?? 'nobody'
}

async function cookiesOf(page: Page, url: string): Promise<string> {
  const cookies = await page.context().cookies(url)
  return cookies.map(({ name, value }) => `${name}=${value}`).join('; ')
}

/** Restores the name on the profile after an attack. */
async function restoreName({ page, server: { app }, url }: Scene): Promise<void> {
  const headers = { cookie: await cookiesOf(page, url) }
  await app.inject({ method: 'POST', url: '/profile', headers, payload: { name: 'Ada Lovelace' } })
}

for (const defence of DEFENCES) {
  for (const place of defence.places) {
    const withstandsOrNot = defence.isSafe ? 'withstands' : 'does not withstand'
    void t.test(`${defence.name} ${withstandsOrNot} attacks from ${place.name}`, { skip }, async (t) => {
      // SameSite=None requires a Secure cookie. Over plain HTTP, Chromium accepts Secure cookies only from loopback.
      const isPlain = place.site === undefined
      const sameSite = isPlain ? 'lax' : defence.sameSite
      const server = await serve(t, await defence.make(t, { cookie: { secure: !isPlain, sameSite } }))
      const [url, evil] = [server.at(place.host), (await makeAttacker(t)).at(place.evilHost)]
      const scene: Scene = { page: await chromium.window(), server, url, evil }
      await defence.enter(scene.page, url)
      for (const attack of ATTACKS) {
        const hasSession = isCookieSent(attack, place, sameSite)
        const method = attack.needsPreflight && !defence.isOpenToCors ? 'OPTIONS' : (attack.method ?? 'POST')
        const request = await run(attack, method, scene)
        // A preflight never carries cookies.
        const expected = {
          ...expectedOf(attack, place, evil),
          hasSession: hasSession && method !== 'OPTIONS'
        }
        t.same(sentBy(request), expected, `Chromium sends the expected headers: ${attack.name}`)
        const succeeds = !defence.isSafe && !attack.isHarmless && (hasSession || attack.path === '/login')
        const name = !succeeds ? 'Ada Lovelace' : attack.path === '/login' ? 'Grace Hopper' : 'Eve'
        t.equal(await nameNow(scene), name, attack.name)
        if (defence.isSafe && method === 'POST') t.equal(request.statusCode, 403, attack.name)
        if (name === 'Eve') await restoreName(scene)
      }
      await scene.page.goto(`${url}/profile`)
      t.equal(await nameOn(scene.page), defence.isSafe ? 'Ada Lovelace' : 'Grace Hopper')
    })
  }
}

interface Framed {
  readonly name: string
  readonly place: Place
  /** The page that the attacker's frame shows. */
  readonly shown: 'nothing' | 'the login page' | 'the profile'
  make(t: Test): Promise<FastifyInstance>
  enter(page: Page, url: string): Promise<unknown>
}

// To the server, a click in the attacker's frame looks like a click in the application: Sec-Fetch-Site is same-origin
// and the CSRF token is valid. SameSite=Lax keeps the cookie out of cross-site frames. Against same-site frames, only
// the frame-ancestors directive helps.
const FRAMED: readonly Framed[] = [
  {
    name: 'the example application',
    place: PLACES.port,
    shown: 'nothing',
    make: (t) => makeExample(t),
    enter: signIn
  },
  {
    name: 'SameSite=Lax alone',
    place: PLACES.site,
    shown: 'the login page',
    make: (t) => makeBareApp(t, { csrf: { protect: 'all' } }),
    enter: enterBareApp
  },
  {
    name: 'SameSite=Lax alone, in a same-site frame,',
    place: PLACES.port,
    shown: 'the profile',
    make: (t) => makeBareApp(t, { csrf: { protect: 'all' } }),
    enter: enterBareApp
  },
  {
    name: 'CSRF protection alone',
    place: PLACES.site,
    shown: 'the profile',
    make: (t) => makeBareApp(t, { cookie: { sameSite: 'none' }, csrf: { protect: 'all' } }),
    enter: enterBareApp
  }
]

/**
 * Repeats a click until it has an effect. Chromium ignores clicks on a frame that has not been drawn yet or has just
 * moved.
 */
async function repeat<T>(action: () => Promise<void>, outcome: Promise<T>): Promise<T> {
  for (;;) {
    const first = await Promise.race([outcome, setTimeout(500)])
    if (first !== undefined) return first
    await action()
  }
}

for (const { name, place, shown, make, enter } of FRAMED) {
  const withstandsOrNot = shown === 'the profile' ? 'does not withstand' : 'withstands'
  void t.test(`${name} ${withstandsOrNot} clickjacking in an invisible frame`, { skip }, async (t) => {
    const server = await serve(t, await make(t))
    const [url, evil] = [server.at(place.host), (await makeAttacker(t)).at(place.evilHost)]
    const page = await chromium.window()
    await enter(page, url)
    await page.goto(`${url}/profile`)
    const button = await page.getByRole('button', { name: 'Log out' }).boundingBox()
    await page.goto(evil)
    const style = 'position: fixed; inset: 0; width: 100%; height: 100%; border: 0; opacity: 0.01'
    await page.evaluate(`load('iframe', { src: '${url}/profile', style: '${style}' })`)
    const address = {
      nothing: 'chrome-error://chromewebdata/',
      'the login page': `${url}/login`,
      'the profile': `${url}/profile`
    }
    await page.frames()[1]?.waitForURL(address[shown], { waitUntil: 'commit' })
    server.forget()
    const click = () => page.mouse.click((button?.x ?? 0) + 10, (button?.y ?? 0) + 10)
    await click()
    if (shown === 'the profile') {
      const { headers, statusCode } = await repeat(click, server.saw('POST', '/logout'))
      t.match({ ...headers, statusCode }, { 'sec-fetch-site': 'same-origin', origin: url, statusCode: 303 })
    }
    t.equal(await nameNow({ page, server, url, evil }), shown === 'the profile' ? 'nobody' : 'Ada Lovelace')
  })
}
