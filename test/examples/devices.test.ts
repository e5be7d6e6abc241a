import t from 'tap'
import { stopClock } from '../fixtures/clock.js'
import {
  Browser,
  createUsers,
  FIREFOX,
  FORM,
  makeExample,
  messagesIn,
  PAGE,
  sentTo,
  signedIn,
  signIn,
  submit,
  TIMEOUT
} from './fixtures/example.js'

// Tests the pages of the example that list and end sessions: the user's devices, and the users of an administrator.

t.setTimeout(TIMEOUT)

/**
 * Opens the page that lists the sessions. Returns the browser name of each session, and the id of each session that has
 * a button to end it.
 */
async function sessionsOf(browser: Browser): Promise<{ names: string[]; ids: string[] }> {
  const { body } = await browser.get('/devices', PAGE)
  const names = [...body.matchAll(/<strong[^>]*>([^<]*)<\/strong>\s*(<span class="badge">)?/g)]
  const ids = [...body.matchAll(/action="\/devices\/([0-9a-f]{64})\/end"/g)]
  return {
    names: names.map(([, name, here]) => `${name}${here === undefined ? '' : ', here'}`).sort(),
    ids: ids.map(([, id]) => id as string)
  }
}

void t.test(
  'a user sees all of their sessions, and can end one other session or all other sessions',
  async (t) => {
    const app = await makeExample(t)
    const here = await signedIn(app, 'ada', 'lovelace', FIREFOX)
    t.same(await sessionsOf(here), { names: ['Firefox on Linux, here'], ids: [] })
    t.notMatch((await here.get('/devices', PAGE)).body, 'End all other sessions')
    const phone = await signedIn(app, 'ada', 'lovelace', 'curl/8')
    const { names, ids } = await sessionsOf(here)
    t.same(names, ['Firefox on Linux, here', 'curl'])
    t.equal(ids.length, 1)

    t.equal(sentTo(await submit(here, '/devices', `/devices/${ids[0]}/end`)), '303 /devices')
    t.same(messagesIn(await here.get('/devices', PAGE)), ['success status: The session was ended.'])
    t.equal(sentTo(await phone.get('/dashboard', PAGE)), '302 /login')
    t.same(messagesIn(await phone.get('/login', PAGE)), [
      'notice status: You were signed out from another device: Firefox on Linux, 127.0.0.1.'
    ])
    await submit(here, '/devices', `/devices/${ids[0]}/end`)
    t.same(messagesIn(await here.get('/devices', PAGE)), ['error alert: That session no longer exists.'])

    const others = [await signedIn(app), await signedIn(app)]
    for (const message of ['2 sessions were ended.', 'One session was ended.', '0 sessions were ended.']) {
      t.equal(sentTo(await submit(here, '/devices', '/devices/end-others')), '303 /devices')
      t.same(messagesIn(await here.get('/devices', PAGE)), [`success status: ${message}`])
      for (const other of others) t.equal(sentTo(await other.get('/dashboard', PAGE)), '302 /login')
      if (message.startsWith('2')) others.push(await signedIn(app))
    }
    t.same((await sessionsOf(here)).names, ['Firefox on Linux, here'])
  }
)

void t.test(
  "a user cannot use the list of sessions to end another user's session or the current session",
  async (t) => {
    const app = await makeExample(t)
    const ada = await signedIn(app)
    const grace = await signedIn(app, 'grace', 'hopper')
    const { sessionManager } = app
    const sessions = [...(await sessionManager.list('1')), ...(await sessionManager.list('2'))]
    t.equal(sessions.length, 2)
    for (const id of [...sessions.map((info) => info.id), 'nonsense']) {
      t.equal(sentTo(await submit(ada, '/devices', `/devices/${id}/end`)), '303 /devices')
      t.same(messagesIn(await ada.get('/devices', PAGE)), ['error alert: That session no longer exists.'])
    }
    await submit(ada, '/devices', '/devices/end-others')
    for (const browser of [ada, grace]) t.equal((await browser.get('/dashboard', PAGE)).statusCode, 200)
  }
)

const NAMES = /aria-labelledby="end-(\d) device-\1 address-\1 since-\1"/g

void t.test('the list begins with this device, and its buttons tell the other devices apart', async (t) => {
  const app = await makeExample(t)
  const signInFrom = async (remoteAddress: string, agent: string) => {
    const headers = { ...FORM, 'user-agent': agent }
    const payload = 'username=ada&password=lovelace'
    const browser = new Browser(app)
    await browser.request({ method: 'POST', url: '/login', remoteAddress, headers, payload })
    return browser
  }
  const here = await signInFrom('192.0.2.1', FIREFOX)
  await signInFrom('192.0.2.2', 'curl/8')
  await signInFrom('192.0.2.3', FIREFOX)
  const { body } = await here.get('/devices', PAGE)
  const addresses = [...body.matchAll(/<span id="address-\d">(192\.0\.2\.\d)<\/span>/g)].map(
    ([, address]) => address
  )
  t.equal(addresses[0], '192.0.2.1')
  t.same([...addresses].sort(), ['192.0.2.1', '192.0.2.2', '192.0.2.3'])
  t.ok(body.indexOf('This device') < body.indexOf('192.0.2.1') && body.match(/This device/g)?.length === 1)
  t.same(
    [...body.matchAll(NAMES)].map(([, index]) => index),
    ['1', '2']
  )
  t.match(body.match(/<time datetime="\d{4}-\d\d-\d\dT[\d:.]+Z">[^<]+ UTC<\/time>/g), { length: 5 })
})

void t.test('a device that has ended another one is named on its login page, only once', async (t) => {
  const app = await makeExample(t)
  const here = await signedIn(app, 'ada', 'lovelace', FIREFOX)
  for (const end of ['one', 'others'] as const) {
    const phone = await signedIn(app)
    const { ids } = await sessionsOf(here)
    await submit(here, '/devices', end === 'one' ? `/devices/${ids[0]}/end` : '/devices/end-others')
    t.equal(sentTo(await phone.get('/profile', PAGE)), '302 /login')
    t.same(messagesIn(await phone.get('/login', PAGE)), [
      'notice status: You were signed out from another device: Firefox on Linux, 127.0.0.1.'
    ])
    t.same(messagesIn(await phone.get('/login', PAGE)), [])
    t.equal(sentTo(await signIn(phone)), '303 /profile', 'the page that was asked for')
    await submit(here, '/devices', '/devices/end-others')
  }
})

void t.test('a device is told only of its own end, and only for an hour', async (t) => {
  const clock = stopClock(t)
  const app = await makeExample(t)
  const remember = { username: 'ada', password: 'lovelace', remember: 'on' }
  const here = new Browser(app)
  await submit(here, '/login', '/login', remember)
  const idle = await signedIn(app)
  const phone = new Browser(app)
  await submit(phone, '/login', '/login', remember)
  clock.move(1_800_000)
  await submit(here, '/devices', '/devices/end-others')
  await idle.get('/profile', PAGE)
  t.same(messagesIn(await idle.get('/login', PAGE)), ['notice status: Session expired'], 'an idle timeout')
  clock.move(3_600_000)
  await phone.get('/profile', PAGE)
  t.same(messagesIn(await phone.get('/login', PAGE)), ['notice status: Session expired'], 'an hour later')
})

void t.test('only an administrator sees the page of users, and the link to it', async (t) => {
  const app = await makeExample(t)
  const ada = await signedIn(app)
  const grace = await signedIn(app, 'grace', 'hopper')
  t.match((await ada.get('/dashboard', PAGE)).body, 'href="/admin"')
  t.notMatch((await grace.get('/dashboard', PAGE)).body, 'href="/admin"')
  const refused = await grace.get('/admin', PAGE)
  t.equal(refused.statusCode, 403)
  t.match(refused.body, /<h1>No access<.*role="alert">Your account may not open this page\.</s)
  t.match((await grace.get('/admin', { accept: 'application/json' })).json(), { statusCode: 403 })
  t.equal((await submit(grace, '/dashboard', '/admin/users/1/sign-out')).statusCode, 403)
  t.equal((await ada.get('/admin', PAGE)).statusCode, 200)
})

void t.test('a user who is no longer an administrator loses the page of users at once', async (t) => {
  const users = await createUsers()
  const member = { ...(users.find('1') as NonNullable<ReturnType<typeof users.find>>), role: 'member' }
  let isDemoted = false
  const find = (id: string) => (isDemoted && id === '1' ? member : users.find(id))
  const ada = await signedIn(await makeExample(t, { users: { ...users, find } }))
  t.equal((await ada.get('/admin', PAGE)).statusCode, 200)
  isDemoted = true
  t.equal((await ada.get('/admin', PAGE)).statusCode, 403)
})

void t.test('an administrator sees how many sessions each user has, and can end them all', async (t) => {
  const app = await makeExample(t)
  const ada = await signedIn(app)
  const graces = [await signedIn(app, 'grace', 'hopper'), await signedIn(app, 'grace', 'hopper')]
  const { body } = await ada.get('/admin', PAGE)
  t.match(body, /Ada Lovelace.*You.*ada, admin.*1 session<.*Grace Hopper.*grace, member.*2 sessions</s)
  t.match(body, 'aria-label="Sign out everywhere: Grace Hopper"')
  t.notMatch(body, 'Sign out everywhere: Ada')
  t.equal(sentTo(await submit(ada, '/admin', '/admin/users/2/sign-out')), '303 /admin')
  t.same(messagesIn(await ada.get('/admin', PAGE)), [
    'success status: Grace Hopper was signed out everywhere.'
  ])
  t.match((await ada.get('/admin', PAGE)).body, '0 sessions')
  for (const grace of graces) {
    t.equal(sentTo(await grace.get('/dashboard', PAGE)), '302 /login')
    t.same(messagesIn(await grace.get('/login', PAGE)), ['notice status: An administrator signed you out.'])
  }
  t.equal((await submit(ada, '/admin', '/admin/users/3/sign-out')).statusCode, 404)
  await submit(ada, '/admin', '/admin/users/1/sign-out')
  t.equal((await ada.get('/admin', PAGE)).statusCode, 200, 'the own session stays')
})
