import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { MemoryStore, type SessionStore } from '../../plugin/index.js'
import { wrapStore } from '../../plugin/testing/index.js'
import { stopClock } from '../fixtures/clock.js'
import { makeAccountApp } from './fixtures/account-app.js'
import { naive, sesame, type Library } from './fixtures/account-libraries.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import type { Gate, Held, Moment } from './fixtures/gate.js'
import { cookieOf, press, userOn } from './fixtures/page-actions.js'
import { serve, type Server } from './fixtures/server.js'

// Tests requests of one browser that overlap: those of two tabs, and those of a double click.

const chromium = useChromium(t)

interface Scene {
  readonly page: Page
  readonly server: Server
  readonly gate: Gate
  readonly url: string
}

/** Starts an application, to which `extend` can add routes. */
async function setUp(
  t: Test,
  library: Library,
  extend: (app: FastifyInstance) => void = () => {}
): Promise<Scene> {
  const { app, gate } = await makeAccountApp(t, library)
  extend(app)
  const server = await serve(t, app)
  return { page: await chromium.window(), server, gate, url: server.at('127.0.0.1') }
}

/** The second tab. `rotate` gives the session a new id there, and returns its new cookie. */
interface OtherTab {
  rotate(path: string): Promise<string | undefined>
  user(): Promise<string | undefined>
}

async function openTab(t: Test, { page, url }: Scene): Promise<OtherTab> {
  const tab = await page.context().newPage()
  t.teardown(() => tab.close())
  return {
    async rotate(path) {
      await tab.goto(url + path)
      return cookieOf(tab, url)
    },
    async user() {
      await tab.goto(`${url}/profile`)
      return userOn(tab)
    }
  }
}

/** A login of the same user, and a rotation. Both change the id and drop the CSRF secret. */
const ROTATIONS = ['/enter', '/rotate']
const BUTTONS = { 'Guard first': '/guard-first', 'CSRF first': '/csrf-first' } as const
type Button = keyof typeof BUTTONS

void t.test('F2: a form of a tab is refused after a rotation in another tab', { skip }, async (t) => {
  const scene = await setUp(t, sesame())
  const { page, server, url } = scene
  await page.goto(`${url}/enter`)
  const other = await openTab(t, scene)
  for (const [rotation, button] of [
    ['/enter', 'Guard first'],
    ['/rotate', 'CSRF first']
  ] as const) {
    await page.goto(`${url}/profile`)
    const cookie = await other.rotate(rotation)
    server.forget()
    await press(page, button)
    t.equal((await server.saw('POST', BUTTONS[button])).statusCode, 403, `${button} after ${rotation}`)
    t.equal(await cookieOf(page, url), cookie, 'the cookie stays')
    t.equal(await other.user(), 'ada')
  }
})

void t.test(
  'with a naive library, a form of a tab still works after a login in another tab',
  { skip },
  async (t) => {
    const scene = await setUp(t, naive())
    const { page, server, url } = scene
    await page.goto(`${url}/enter`)
    await page.goto(`${url}/profile`)
    await (await openTab(t, scene)).rotate('/enter')
    await press(page, 'CSRF first')
    t.equal((await server.saw('POST', '/csrf-first')).statusCode, 303)
  }
)

/** A request of the first tab that is held while the second tab changes the session's id. */
interface Late {
  readonly name: string
  readonly route: string
  readonly moment: Moment
  /** The status of the library's reply. */
  readonly statusCode: number
  send(page: Page, url: string): Promise<unknown>
}

const post = (button: Button, moment: Moment, statusCode: number): Late => ({
  name: `a form (${button}) at the moment '${moment}'`,
  route: `POST ${BUTTONS[button]}`,
  moment,
  statusCode,
  send: (page) => press(page, button)
})
const view = (moment: Moment, statusCode: number): Late => ({
  name: `a page at the moment '${moment}'`,
  route: 'GET /slow',
  moment,
  statusCode,
  send: (page, url) => page.goto(`${url}/slow`)
})

const LATE: readonly Late[] = [
  // The id is of no session any more. The guard shows the login page.
  post('Guard first', 'arrival', 303),
  post('CSRF first', 'arrival', 403),
  view('arrival', 302),
  // The session was still there when it was loaded.
  post('Guard first', 'handler', 303),
  post('CSRF first', 'handler', 303),
  view('handler', 200),
  post('Guard first', 'reply', 303),
  view('reply', 200)
]

/** Sends a request with the old id, and answers it after the rotation. Returns the cookie of the rotation. */
async function answerLate(scene: Scene, other: OtherTab, late: Late, rotation: string) {
  const { page, gate, url } = scene
  await page.goto(`${url}/profile`)
  const held = gate.hold(late.moment, late.route)
  const sent = late.send(page, url)
  await held.reached
  const cookie = await other.rotate(rotation)
  held.release()
  await sent
  return cookie
}

void t.test(
  'F2: a request with the old id that is answered after a rotation in another tab leaves the new cookie alone',
  { skip },
  async (t) => {
    const scene = await setUp(t, sesame())
    const { page, server, url } = scene
    await page.goto(`${url}/enter`)
    const other = await openTab(t, scene)
    for (const [index, late] of LATE.entries()) {
      server.forget()
      const cookie = await answerLate(scene, other, late, ROTATIONS[index % 2] as string)
      const [method, path] = late.route.split(' ') as [string, string]
      t.equal((await server.saw(method, path)).statusCode, late.statusCode, late.name)
      t.equal(await cookieOf(page, url), cookie, late.name)
      t.equal(await other.user(), 'ada', late.name)
    }
  }
)

void t.test(
  'F2: a form with the old id that is answered while the reply of the rotation is on its way leaves the user signed in',
  { skip },
  async (t) => {
    const scene = await setUp(t, sesame())
    const { page, server, gate, url } = scene
    await page.goto(`${url}/enter`)
    const other = await openTab(t, scene)
    for (const [moment, statusCode] of [
      ['handler', 303],
      ['reply', 403]
    ] as const) {
      await page.goto(`${url}/profile`)
      const held = gate.hold(moment, 'GET /rotate')
      const rotated = other.rotate('/rotate')
      await held.reached
      server.forget()
      await press(page, 'CSRF first')
      t.equal((await server.saw('POST', '/csrf-first')).statusCode, statusCode, moment)
      held.release()
      const cookie = await rotated
      t.equal(await cookieOf(page, url), cookie, moment)
      t.equal(await other.user(), 'ada', moment)
    }
  }
)

void t.test(
  'with a naive library, a request with the old id that is answered after a rotation signs the user out',
  { skip },
  async (t) => {
    const scene = await setUp(t, naive())
    const other = await openTab(t, scene)
    for (const late of [post('CSRF first', 'arrival', 403), view('reply', 200)]) {
      await scene.page.goto(`${scene.url}/enter`)
      const cookie = await answerLate(scene, other, late, '/rotate')
      t.not(await cookieOf(scene.page, scene.url), cookie, late.name)
      t.equal(await other.user(), 'nobody', late.name)
    }
  }
)

// docs/security.md says that the library cannot control the order in which replies arrive.
void t.test(
  'a reply that renews the cookie before a rotation, but arrives after it, signs the user out',
  { skip },
  async (t) => {
    const clock = stopClock(t)
    const scene = await setUp(t, sesame({ idleTimeout: 3600 }))
    await scene.page.goto(`${scene.url}/enter`)
    const other = await openTab(t, scene)
    const renewal: Late = {
      ...view('reply', 200),
      send(page, url) {
        clock.move(600_000)
        return page.goto(`${url}/slow`)
      }
    }
    const cookie = await answerLate(scene, other, renewal, '/rotate')
    t.not(await cookieOf(scene.page, scene.url), cookie)
    t.equal(await other.user(), 'nobody')
  }
)

/**
 * How the two posts of a double click overlap. `one by one`: the first is saved before the second begins. `first wins`
 * and `second wins`: both have loaded their session, and this one is saved first. `race`: the store decides.
 */
type Order = 'one by one' | 'first wins' | 'second wins' | 'race'

/**
 * Clicks the button of the login form, and again when the first click has made a request. The browser then closes the
 * connection of the first request, and shows only the reply to the second.
 */
async function clickTwice({ page, gate }: Scene, at: Position, order: Order): Promise<void> {
  const one = gate.hold(order === 'one by one' ? 'reply' : 'handler', 'POST /login')
  const left = page.waitForEvent('load')
  await page.mouse.click(...at)
  await one.reached
  const two = gate.hold('handler', 'POST /login')
  await page.mouse.click(...at)
  await two.reached
  if (order === 'race') one.release()
  if (order === 'first wins') await save(gate, one)
  two.release()
  await left
  if (order === 'second wins') await save(gate, one)
  one.release()
}

type Position = readonly [x: number, y: number]

/** Returns where the button of the login form is. Asking the page in each round would take most of the time. */
async function findButton({ page, url }: Scene): Promise<Position> {
  await page.goto(`${url}/login`)
  const box = await page.getByRole('button', { name: 'Sign in' }).boundingBox()
  return [(box?.x ?? 0) + 5, (box?.y ?? 0) + 5]
}

/** Lets a held login go on until it is saved. */
async function save(gate: Gate, held: Held): Promise<void> {
  const saved = gate.hold('reply', 'POST /login')
  held.release()
  await saved.reached
  saved.release()
}

/** A memory store that takes up to 20 ms for each call, like a database. */
function slowStore(): SessionStore {
  let calls = 0
  return wrapStore(new MemoryStore(), async (_method, _args, next) => {
    await setTimeout((calls++ * 7) % 20)
    return next()
  })
}

/** Opens the login form as a visitor, or with a session that holds data of the application. */
async function openForm({ page, url }: Scene, hasData: boolean): Promise<void> {
  await page.context().clearCookies()
  if (hasData) await page.goto(`${url}/basket`)
  await page.goto(`${url}/login`)
}

function addBasket(app: FastifyInstance): void {
  app.get('/basket', async ({ session }) => session.set('basket', ['book']))
}

const CLICKS: readonly [hasData: boolean, Order][] = [
  [false, 'one by one'],
  [false, 'first wins'],
  [false, 'second wins'],
  [true, 'first wins'],
  [true, 'second wins']
]
/** The first post moves the record that holds the CSRF secret of the form. The second post finds neither. */
const MOVED = [true, 'one by one'] as const

for (const [name, clicks, library] of [
  ['signs the user in, whichever post is saved first', CLICKS, sesame()],
  [
    "signs the user in, even if the first post has moved the record of the form, with csrf: 'origin'",
    [...CLICKS, MOVED],
    sesame({}, { csrf: 'origin' })
  ]
] as const) {
  void t.test(`F12: a double click on the login button ${name}`, { skip }, async (t) => {
    const scene = await setUp(t, library, addBasket)
    const { page, url } = scene
    const at = await findButton(scene)
    for (const [hasData, order] of clicks) {
      const how = `${hasData ? 'a session with data' : 'a visitor'}, ${order}`
      await openForm(scene, hasData)
      await clickTwice(scene, at, order)
      t.same([page.url(), await userOn(page)], [`${url}/profile`, 'ada'], how)
      await page.goto(`${url}/profile`)
      t.equal(await userOn(page), 'ada', how)
    }
  })
}

// docs/security.md says so.
void t.test(
  'a double click on the login button is refused by csrfProtection if the first post has moved the record of the form',
  { skip },
  async (t) => {
    const scene = await setUp(t, sesame(), addBasket)
    const at = await findButton(scene)
    await openForm(scene, MOVED[0])
    scene.server.forget()
    await clickTwice(scene, at, MOVED[1])
    t.equal((await scene.server.saw('POST', '/login')).statusCode, 403)
    await openForm(scene, false)
    await press(scene.page, 'Sign in')
    t.equal(await userOn(scene.page), 'ada', 'the next attempt succeeds')
  }
)

void t.test('F12: each of many double clicks signs the user in with a slow store', { skip }, async (t) => {
  const scene = await setUp(t, sesame({ store: slowStore() }), addBasket)
  const at = await findButton(scene)
  const end = performance.now() + 4000
  let rounds = 0
  for (; rounds < 100 && performance.now() < end; rounds++) {
    await openForm(scene, rounds % 2 === 0)
    await clickTwice(scene, at, 'race')
    const user = await userOn(scene.page)
    if (user !== 'ada') t.fail(`round ${rounds} shows ${String(user)} on ${scene.page.url()}`)
  }
  t.comment(`${rounds} rounds`)
})

void t.test(
  'F12: with a naive library, a double click on the login button shows an error and signs nobody in',
  { skip },
  async (t) => {
    const scene = await setUp(t, naive())
    const { page, server, url } = scene
    const at = await findButton(scene)
    await openForm(scene, false)
    await clickTwice(scene, at, 'one by one')
    t.equal((await server.saw('POST', '/login')).statusCode, 403)
    t.equal(await userOn(page), undefined)
    await page.goto(`${url}/profile`)
    t.equal(await userOn(page), 'nobody')
  }
)
