import t from 'tap'
import {
  Browser,
  FIREFOX,
  makeExample,
  messagesIn,
  PAGE,
  sentTo,
  signedIn,
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
