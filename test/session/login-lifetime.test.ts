import t, { type Test } from 'tap'
import type { Session, SessionOptions } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

type Step = (session: Session) => void
type LoginOptions = NonNullable<Parameters<Session['login']>[1]>

const MINUTE = 60_000
const DAY = 86_400_000
const MONTH = 30 * DAY
const LIFETIME_KEY = '$lifetime'

async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const clock = stopClock(t)
  const visits = await makeVisits(t, options)
  const { app, browser, memory, visit } = visits
  const idNow = () => idOfCookie(`session_id=${browser.cookies.get('session_id')}`)
  const stored = () => memory.get(idNow())

  /** Logs in with `options` in a new session, and returns the cookie. */
  async function login(options: LoginOptions, ...more: Step[]): Promise<string | undefined> {
    browser.cookies.clear()
    const { cookies } = await visit((session) => {
      session.login('ada', options)
      for (const step of more) step(session)
    })
    return cookies[0]
  }

  /** Returns the user that the session has, or `undefined` if it has ended. */
  const user = async () => (await visit((session) => session.get('userId'))).result

  const isListed = async () => (await app.sessionManager.list('ada')).some(({ id }) => id === idNow())

  /** Checks that the session ends exactly after `time` ms without a request, as its cookie and the list also say. */
  async function endsAfter(t: Test, time: number, message: string): Promise<void> {
    const { result } = await visit((session) => session.expiresAt)
    t.equal(result, Date.now() + time, `${message}: expiresAt`)
    clock.move(time - 1)
    t.ok(await isListed(), `${message}: the list`)
    const record = stored()
    if (record !== undefined) t.equal(record.expiresAt, Date.now() + 1, `${message}: the record`)
    clock.move(1)
    t.notOk(await isListed(), `${message}: the list afterwards`)
    t.equal(await user(), undefined, message)
  }
  return { ...visits, clock, idNow, stored, login, user, endsAfter }
}

void t.test('maxAge of a login is the life of this session only', async (t) => {
  const { login, endsAfter, visit } = await setUp(t)
  for (const [maxAge, cookie] of [
    [60, 'Max-Age=60;'],
    [2_592_000, 'Max-Age=2592000;'],
    [34_560_000, 'Max-Age=34560000;']
  ] as const) {
    t.match(await login({ maxAge }), cookie)
    await endsAfter(t, maxAge * 1000, `${maxAge} s`)
    t.match(await login({}), 'Max-Age=86400;', 'the next session has the plugin’s')
    await visit((session) => session.invalidate())
  }
})

void t.test('an option that is not named stays the plugin’s', async (t) => {
  const { login, clock, endsAfter, user } = await setUp(t, { maxAge: 3600, idleTimeout: 600 })
  await login({ persistent: false })
  await endsAfter(t, 600_000, 'only persistent')
  await login({ maxAge: 1200 })
  await endsAfter(t, 600_000, 'a maxAge below the plugin’s keeps its idleTimeout')
  await login({ maxAge: 1200 })
  for (let minute = 0; minute < 19; minute++) {
    clock.move(MINUTE)
    t.equal(await user(), 'ada')
  }
  await endsAfter(t, MINUTE, 'maxAge counts, however busy the session is')
  await login({ maxAge: 3600 })
  await endsAfter(t, 600_000, 'the plugin’s own maxAge keeps its idleTimeout')
  await login({ idleTimeout: 60 })
  await endsAfter(t, MINUTE, 'only idleTimeout')
})

void t.test('a maxAge above the plugin’s without an idleTimeout means that there is none', async (t) => {
  const { login, endsAfter } = await setUp(t, { idleTimeout: 600 })
  await login({ maxAge: MONTH / 1000 })
  await endsAfter(t, MONTH, 'no idleTimeout')
  await login({ maxAge: MONTH / 1000, idleTimeout: 86_400 })
  await endsAfter(t, DAY, 'its own idleTimeout')
})

void t.test('idleTimeout: null is none', async (t) => {
  const { login, endsAfter, clock, visit } = await setUp(t, { idleTimeout: 600 })
  await login({ idleTimeout: null })
  await endsAfter(t, DAY, 'until maxAge')
  await login({ idleTimeout: null })
  clock.move(DAY - 1)
  t.same((await visit((session) => session.id)).calls, ['get'], 'a read writes nothing')
})

void t.test('idleTimeout of a login is extended by reads after a tenth of it', async (t) => {
  const { login, clock, visit, endsAfter } = await setUp(t)
  await login({ idleTimeout: 100 })
  clock.move(9999)
  t.same((await visit((session) => session.id)).calls, ['get'])
  clock.move(1)
  const { calls, cookies } = await visit((session) => session.id)
  t.same(calls, ['get', 'update'])
  t.match(cookies, [/Max-Age=100;/])
  await endsAfter(t, 100_000, 'after the touch')
})

void t.test('persistent: false omits Max-Age from each cookie of this session', async (t) => {
  const { login, visit, browser, clock } = await setUp(t, { idleTimeout: 600 })
  t.notMatch(await login({ persistent: false }), 'Max-Age')
  clock.move(MINUTE)
  const works: Step[] = [
    (session) => session.id,
    (session) => session.set('name', 'ada'),
    (session) => session.regenerate(),
    (session) => session.regenerate(['userId'])
  ]
  for (const work of works) {
    clock.move(MINUTE)
    for (const cookie of (await visit(work)).cookies) t.notMatch(cookie, 'Max-Age')
  }
  const { cookies } = await visit((session) => session.invalidate())
  t.match(cookies, [/Max-Age=0/], 'a logout still clears it')
  t.equal(browser.cookies.size, 0)
  t.match(await login({}), 'Max-Age=600')
})

void t.test('persistent: true adds Max-Age if the plugin’s cookie has none', async (t) => {
  const { login, visit } = await setUp(t, { cookie: { persistent: false } })
  t.notMatch(await login({}), 'Max-Age')
  t.match(await login({ persistent: true }), 'Max-Age=86400;')
  t.match((await visit((session) => session.regenerate())).cookies, [/Max-Age=86400;/])
})

void t.test('a rotation keeps the lifetime, with and without keep', async (t) => {
  const { login, visit, clock, stored, endsAfter } = await setUp(t, { idleTimeout: 600 })
  for (const keep of [undefined, ['userId'], ['userId', 'name']]) {
    await login({ maxAge: 7200, idleTimeout: null, persistent: false })
    clock.move(3_600_000)
    const { cookies } = await visit((session) => session.regenerate(keep))
    t.equal(cookies.length, 1)
    t.notMatch(cookies[0], 'Max-Age')
    t.ok(stored()?.data[LIFETIME_KEY])
    await endsAfter(t, 3_600_000, `keep: ${String(keep)}`)
  }
})

void t.test('regenerate(keep) that drops the user, and clear() after it, keep the lifetime', async (t) => {
  const { login, visit, clock, stored } = await setUp(t)
  await login({ maxAge: 7200 }, (session) => session.set('cart', 1))
  clock.move(MINUTE)
  const end = Date.now() + 7_200_000 - MINUTE
  const works: Step[] = [
    (session) => session.regenerate(['cart']),
    (session) => session.clear(),
    (session) => {
      session.clear()
      session.set('cart', 2)
    },
    (session) => {
      session.regenerate([])
      session.clear()
    },
    (session) => session.set('cart', 3)
  ]
  for (const work of works) {
    const { result } = await visit((session) => {
      work(session)
      return session.expiresAt
    })
    t.same([result, stored()?.expiresAt, stored()?.userId], [end, end, null])
    t.ok(stored()?.data[LIFETIME_KEY])
  }
})

void t.test('removing the user where there is none leaves the lifetime', async (t) => {
  const { login, visit, stored } = await setUp(t)
  await login({ maxAge: 7200 })
  await visit((session) => session.regenerate([]))
  for (const remove of [
    (session: Session) => session.remove('userId'),
    (session: Session) => session.set('userId', null),
    (session: Session) => void session.take('userId')
  ]) {
    const { calls, result } = await visit((session) => {
      remove(session)
      return session.expiresAt
    })
    t.same([calls, result], [['get'], Date.now() + 7_200_000])
    t.ok(stored()?.data[LIFETIME_KEY])
  }
})

void t.test('a later login starts a lifetime of its own', async (t) => {
  const { login, visit, clock, stored, endsAfter } = await setUp(t)
  const logins: Record<string, Step> = {
    'login()': (session) => session.login('ada'),
    'login() as another user': (session) => session.login('eve'),
    'set(userKey) and regenerate()': (session) => {
      session.set('userId', 'ada')
      session.regenerate()
    },
    'regenerate(keep) and set(userKey)': (session) => {
      session.regenerate(['userId'])
      session.set('userId', 'ada')
    },
    'set(userKey) to another user': (session) => session.set('userId', 'eve')
  }
  for (const [name, again] of Object.entries(logins)) {
    await login({ maxAge: MONTH / 1000, persistent: false })
    clock.move(DAY / 2)
    const { cookies } = await visit(again)
    t.match(cookies, [/Max-Age=86400;/], name)
    t.notOk(stored()?.data[LIFETIME_KEY], name)
    t.equal(stored()?.expiresAt, Date.now() + DAY, name)
  }
  await login({ maxAge: MONTH / 1000 })
  await visit((session) => session.login('ada', { maxAge: 60 }))
  await endsAfter(t, MINUTE, 'the options of the later login')
})

void t.test('what is not a login leaves the lifetime of the login', async (t) => {
  const { login, visit, endsAfter, stored } = await setUp(t)
  const works: Record<string, Step> = {
    'the same user is set again': (session) => session.set('userId', 'ada'),
    'a change of data': (session) => session.set('name', 'ada')
  }
  for (const [name, work] of Object.entries(works)) {
    await login({ maxAge: 60 })
    await visit(work)
    await endsAfter(t, MINUTE, name)
  }
  const sameRequest: Record<string, Step> = {
    'regenerate() after the login': (session) => session.regenerate(),
    'regenerate(keep) after the login': (session) => session.regenerate(['userId']),
    'the same user is set after the login': (session) => session.set('userId', 'ada')
  }
  for (const [name, work] of Object.entries(sameRequest)) {
    t.match(await login({ maxAge: 60 }, work), 'Max-Age=60;', name)
    t.ok(stored()?.data[LIFETIME_KEY], name)
  }
})

void t.test('regenerate() and set(userKey) before the login do not undo its lifetime', async (t) => {
  const { visit, browser } = await setUp(t)
  for (const before of [
    (session: Session) => session.regenerate(),
    (session: Session) => session.set('userId', 'ada'),
    (session: Session) => session.set('userId', 'eve')
  ]) {
    browser.cookies.clear()
    const { cookies } = await visit((session) => {
      before(session)
      session.login('ada', { maxAge: 60 })
    })
    t.match(cookies, [/Max-Age=60;/])
  }
})

const MALFORMED = [
  'no JSON',
  'null',
  '[]',
  '"60"',
  '60',
  '{"maxAge":"2592000"}',
  '{"maxAge":0}',
  '{"maxAge":-1}',
  '{"maxAge":null}',
  '{"maxAge":1e12}',
  '{"maxAge":34560001}',
  '{"maxAge":2592000,"idleTimeout":"x"}',
  '{"maxAge":2592000,"idleTimeout":0}',
  '{"maxAge":2592000,"persistent":"no"}',
  '{"__proto__":{"maxAge":2592000}}'
]

void t.test('a malformed lifetime in the store counts as absent', async (t) => {
  const { login, memory, visit, clock, idNow, user, app } = await setUp(t)
  for (const text of MALFORMED) {
    await login({ maxAge: MONTH / 1000 })
    const times = { lastAccessed: Date.now(), expiresAt: Date.now() + MONTH }
    t.equal(memory.update(idNow(), { set: { [LIFETIME_KEY]: text }, remove: [], ...times }), 'ok')
    const { result, response } = await visit((session) => session.expiresAt)
    t.same([result, response.statusCode], [Date.now() + DAY, 200], text)
    clock.move(DAY - 1)
    t.equal(await user(), 'ada', text)
    clock.move(1)
    t.equal(await user(), undefined, text)
    t.same(await app.sessionManager.list('ada'), [], text)
  }
})

void t.test('the lifetime is not data: the application neither sees nor sets it', async (t) => {
  const { login, visit, app } = await setUp(t)
  await login({ maxAge: 60 })
  const { result } = await visit((session) => {
    t.throws(() => session.set(LIFETIME_KEY, { maxAge: 1e6 }), { code: 'SESSION_VALUE_INVALID' })
    t.throws(() => session.remove(LIFETIME_KEY), { code: 'SESSION_VALUE_INVALID' })
    return [valuesOf(session), session.has(LIFETIME_KEY), session.get(LIFETIME_KEY)]
  })
  t.same(result, [{ userId: 'ada' }, false, undefined])
  t.match(await app.sessionManager.list('ada', { data: true }), [{ data: { userId: 'ada' } }])
})

void t.test('another maxAge of the plugin does not change a lifetime that a login chose', async (t) => {
  const { login, memory, clock, browser } = await setUp(t)
  for (const maxAge of [60, MONTH / 500]) {
    await login({ maxAge: MONTH / 1000 })
    const { app, visit } = await makeVisits(t, { maxAge, store: memory })
    const later = new Browser(app)
    later.cookies.set('session_id', browser.cookies.get('session_id') as string)
    clock.move(MONTH - 1)
    t.equal((await visit((session) => session.get('userId'), later)).result, 'ada')
    clock.move(1)
    t.equal((await visit((session) => session.get('userId'), later)).result, undefined)
  }
})
