import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { SessionOptions } from '../../plugin/index.js'
import { makeAttacker } from './fixtures/attacker.js'
import { startChromium, withoutChromium as skip, type Chromium } from './fixtures/chromium.js'
import { loadExample, type MakeExample } from './fixtures/example.js'
import { makeHouse } from './fixtures/house.js'
import { nameOn, signIn } from './fixtures/person.js'
import { serve, type Seen, type Server } from './fixtures/server.js'

// What a page of somebody else's can make the browser of a signed-in user do.

// A busy machine may take seconds for one page.
t.setTimeout(280_000)
let chromium: Chromium
let makeExample: MakeExample
t.before(async () => {
  if (skip !== false) return
  chromium = await startChromium(t)
  makeExample = await loadExample(t)
})

/** Where the attacker's page lies, as the application's own host sees it. */
interface Place {
  readonly name: string
  readonly host: string
  readonly evilHost: string
  /** What Chromium says of it; absent where it says nothing. */
  readonly site?: 'same-site' | 'cross-site'
}

const PLACES = {
  port: { name: 'another port', host: '127.0.0.1', evilHost: '127.0.0.1', site: 'same-site' },
  site: { name: 'another site', host: 'app.localhost', evilHost: 'evil.localhost', site: 'cross-site' },
  // Chromium sends Fetch Metadata only to https and to loopback: here the Origin header is all there is.
  plain: { name: 'a sibling host on plain HTTP', host: 'app.test', evilHost: 'evil.app.test' }
} as const satisfies Record<string, Place>

interface Attack {
  readonly name: string
  /** The attacker's script, against the application at `url`. */
  script(url: string): string
  /** The request that it makes the browser send. Default: a POST of the profile. */
  readonly method?: 'GET'
  readonly path?: '/login'
  /** It navigates the whole window. */
  readonly leaves?: true
  /** What it says of where it comes from, if not the attacker's origin. */
  readonly origin?: 'null'
  /** Its page belongs to no site, not even to the attacker's. */
  readonly isOpaque?: true
  readonly isAnonymous?: true
  /** Its method or body needs the leave of CORS. */
  readonly asksFirst?: true
  /** No harm is to be expected, even of an application without protection. */
  readonly isHarmless?: true
}

const FORM = "new URLSearchParams({ name: 'Eve' })"

const ATTACKS: readonly Attack[] = [
  { name: 'a form in a hidden frame', script: (url) => `postHidden('${url}/profile', { name: 'Eve' })` },
  {
    name: 'a form whose text is JSON',
    script: (url) => `postHidden('${url}/profile', { '{"name":"Eve","': '":""}' }, { enctype: 'text/plain' })`
  },
  {
    name: 'a form by way of a redirect',
    script: (url) => `postHidden('/redirect?to=${encodeURIComponent(`${url}/profile`)}', { name: 'Eve' })`,
    origin: 'null'
  },
  { name: 'fetch', script: (url) => `send('${url}/profile', { mode: 'no-cors', body: ${FORM} })` },
  {
    name: 'fetch in a sandbox',
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
    name: 'fetch of JSON as text',
    script: (url) => `send('${url}/profile', { mode: 'no-cors', body: '{"name":"Eve"}' })`
  },
  {
    name: 'fetch of JSON',
    script: (url) =>
      `send('${url}/profile', { body: '{"name":"Eve"}', headers: { 'content-type': 'application/json' } })`,
    asksFirst: true
  },
  {
    name: 'fetch with a token that was read from the page',
    script: (url) => `fetch('${url}/profile', { credentials: 'include' })
      .then((answer) => answer.text(), () => '')
      .then((text) => /name="_csrf" value="([^"]+)"/.exec(text)?.[1])
      .then((_csrf) => send('${url}/profile', { mode: 'no-cors', body: new URLSearchParams({ name: 'Eve', _csrf }) }))`
  },
  { name: 'an image', script: (url) => `load('img', { src: '${url}/profile?name=Eve' })`, method: 'GET' },
  { name: 'a frame', script: (url) => `load('iframe', { src: '${url}/profile?name=Eve' })`, method: 'GET' },
  {
    // Where the cookie stays at home, the answer brings one of a new visitor. It must not take the place of the user's.
    name: 'an image of the login page',
    script: (url) => `load('img', { src: '${url}/login' })`,
    method: 'GET',
    path: '/login',
    isHarmless: true
  },
  {
    name: 'a form that takes the window along',
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

const enterHouse = (page: Page, url: string) => page.goto(`${url}/enter`)

/** What stands in an attack's way. */
interface Defence {
  readonly name: string
  readonly places: readonly Place[]
  readonly sameSite: 'lax' | 'none'
  readonly isOpenToCors: boolean
  readonly isSafe: boolean
  make(t: Test, options: Partial<SessionOptions>): Promise<FastifyInstance>
  /** Signs the user in. */
  enter(page: Page, url: string): Promise<unknown>
}

const DEFENCES: readonly Defence[] = [
  {
    name: 'the example',
    places: [PLACES.port, PLACES.site],
    sameSite: 'lax',
    isOpenToCors: false,
    isSafe: true,
    make: (t) => makeExample(t),
    enter: signIn
  },
  {
    name: 'CSRF protection by itself',
    places: Object.values(PLACES),
    sameSite: 'none',
    isOpenToCors: true,
    isSafe: true,
    make: (t, options) => makeHouse(t, { ...options, csrf: { protect: 'all' } }),
    enter: enterHouse
  },
  {
    name: 'no protection',
    places: Object.values(PLACES),
    sameSite: 'none',
    isOpenToCors: true,
    isSafe: false,
    make: (t, options) => makeHouse(t, options, { isCareless: true }),
    enter: enterHouse
  }
]

/** An attack under way: what it is made with, and what it meets. */
interface Scene {
  readonly page: Page
  readonly server: Server
  readonly url: string
  readonly evil: string
}

/** Whether Chromium sends the session's cookie along. */
function isCookieSent({ isAnonymous, isOpaque }: Attack, { site }: Place, sameSite: 'lax' | 'none'): boolean {
  if (isAnonymous === true) return false
  return sameSite === 'none' || (site !== 'cross-site' && isOpaque !== true)
}

/** Makes the browser do it; the request that comes of it. */
async function carryOut(attack: Attack, method: string, { page, server, url, evil }: Scene): Promise<Seen> {
  if (page.url() !== `${evil}/`) await page.goto(evil)
  server.forget()
  const left = attack.leaves === true ? page.waitForEvent('load') : undefined
  await page.evaluate(attack.script(url))
  await left
  return server.saw(method, attack.path ?? '/profile')
}

/** The part of a request that only the browser decides. */
function sentBy({ headers }: Seen) {
  const { origin, cookie = '', 'sec-fetch-site': site } = headers
  return { origin, site, hasSession: /(^|; )(sid|session_id)=/.test(cookie) }
}

function expectedOf(attack: Attack, { site }: Place, evil: string) {
  const { method, origin = method === 'GET' ? undefined : evil } = attack
  return { origin, site: site !== undefined && attack.isOpaque === true ? 'cross-site' : site }
}

/** The name on the profile that the browser's cookies open now. */
async function nameNow({ page, server: { app }, url }: Scene): Promise<string> {
  const { body } = await app.inject({ url: '/profile', headers: { cookie: await cookiesOf(page, url) } })
  return /name="name"\s+value="([^"]*)"/.exec(body)?.[1] ?? 'nobody'
}

async function cookiesOf(page: Page, url: string): Promise<string> {
  const cookies = await page.context().cookies(url)
  return cookies.map(({ name, value }) => `${name}=${value}`).join('; ')
}

/** The user mends what an attack did. */
async function mend({ page, server: { app }, url }: Scene): Promise<void> {
  const headers = { cookie: await cookiesOf(page, url) }
  await app.inject({ method: 'POST', url: '/profile', headers, payload: { name: 'Ada Lovelace' } })
}

for (const defence of DEFENCES) {
  for (const place of defence.places) {
    const verb = defence.isSafe ? 'withstands' : 'falls to'
    void t.test(`${defence.name} ${verb} a page of ${place.name}`, { skip }, async (t) => {
      // Loopback is trusted with Secure cookies, which SameSite=None needs; other plain HTTP is not.
      const isPlain = place.site === undefined
      const sameSite = isPlain ? 'lax' : defence.sameSite
      const server = await serve(t, await defence.make(t, { cookie: { secure: !isPlain, sameSite } }))
      const [url, evil] = [server.at(place.host), (await makeAttacker(t)).at(place.evilHost)]
      const scene: Scene = { page: await chromium.window(), server, url, evil }
      await defence.enter(scene.page, url)
      for (const attack of ATTACKS) {
        const hasSession = isCookieSent(attack, place, sameSite)
        const method = attack.asksFirst && !defence.isOpenToCors ? 'OPTIONS' : (attack.method ?? 'POST')
        const request = await carryOut(attack, method, scene)
        // A preflight never brings a cookie.
        const expected = {
          ...expectedOf(attack, place, evil),
          hasSession: hasSession && method !== 'OPTIONS'
        }
        t.same(sentBy(request), expected, `what Chromium sends: ${attack.name}`)
        const succeeds = !defence.isSafe && !attack.isHarmless && (hasSession || attack.path === '/login')
        const name = !succeeds ? 'Ada Lovelace' : attack.path === '/login' ? 'Grace Hopper' : 'Eve'
        t.equal(await nameNow(scene), name, attack.name)
        if (defence.isSafe && method === 'POST') t.equal(request.statusCode, 403, attack.name)
        if (name === 'Eve') await mend(scene)
      }
      await scene.page.goto(`${url}/profile`)
      t.equal(await nameOn(scene.page), defence.isSafe ? 'Ada Lovelace' : 'Grace Hopper')
    })
  }
}

interface Framed {
  readonly name: string
  readonly place: Place
  /** What the attacker's page shows of the application in its frame. */
  readonly shown: 'nothing' | 'the login page' | 'the profile'
  make(t: Test): Promise<FastifyInstance>
  enter(page: Page, url: string): Promise<unknown>
}

// A click in a frame is the application's own click, to its server: Sec-Fetch-Site says same-origin, and the token is
// right. The library keeps the cookie out of other sites' frames; where it goes in, only frame-ancestors helps.
const FRAMED: readonly Framed[] = [
  { name: 'the example', place: PLACES.port, shown: 'nothing', make: (t) => makeExample(t), enter: signIn },
  {
    name: 'SameSite=Lax by itself',
    place: PLACES.site,
    shown: 'the login page',
    make: (t) => makeHouse(t, { csrf: { protect: 'all' } }),
    enter: enterHouse
  },
  {
    name: 'SameSite=Lax by itself, in a frame of the same site',
    place: PLACES.port,
    shown: 'the profile',
    make: (t) => makeHouse(t, { csrf: { protect: 'all' } }),
    enter: enterHouse
  },
  {
    name: 'CSRF protection by itself',
    place: PLACES.site,
    shown: 'the profile',
    make: (t) => makeHouse(t, { cookie: { sameSite: 'none' }, csrf: { protect: 'all' } }),
    enter: enterHouse
  }
]

/** Chromium drops clicks on a frame that it has not drawn yet, or that has just moved: a person would click again. */
async function repeat<T>(action: () => Promise<void>, outcome: Promise<T>): Promise<T> {
  for (;;) {
    const first = await Promise.race([outcome, setTimeout(500)])
    if (first !== undefined) return first
    await action()
  }
}

for (const { name, place, shown, make, enter } of FRAMED) {
  const verb = shown === 'the profile' ? 'falls to' : 'withstands'
  void t.test(`${name} ${verb} a click on an unseen frame`, { skip }, async (t) => {
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
