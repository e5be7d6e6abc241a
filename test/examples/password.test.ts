import t, { type Test } from 'tap'
import { stopClock } from '../fixtures/clock.js'
import {
  Browser,
  createUsers,
  makeExample,
  messagesIn,
  PAGE,
  sentTo,
  signedIn,
  signIn,
  submit,
  TIMEOUT
} from './fixtures/example.js'

// Tests the change of the password in the example, and the step-up before it.

t.setTimeout(TIMEOUT)

const MINUTE = 60_000

async function makeOwnExample(t: Test) {
  return makeExample(t, { users: await createUsers() })
}

function change(browser: Browser, current: string, next: string, repeated = next) {
  return submit(browser, '/password', '/password', { current, next, repeated })
}

void t.test(
  'a user whose login is older than five minutes confirms the password and comes back',
  async (t) => {
    const clock = stopClock(t)
    const browser = await signedIn(await makeExample(t))
    clock.move(5 * MINUTE - 1)
    t.equal((await browser.get('/password', PAGE)).statusCode, 200)
    clock.move(1)
    t.equal(sentTo(await browser.get('/password?from=menu', PAGE)), '302 /confirm')
    t.same(messagesIn(await browser.get('/confirm', PAGE)), ['notice status: Please confirm that it is you.'])
    t.equal((await browser.get('/dashboard', PAGE)).statusCode, 200, 'other pages are still open')

    const wrong = await submit(browser, '/confirm', '/confirm', { password: 'hopper' })
    t.equal(wrong.statusCode, 422)
    t.match(
      wrong.body,
      /aria-describedby="password-problem".*id="password-problem"[^>]*>This is not your password\.</s
    )
    t.notMatch(wrong.body, 'hopper')
    t.equal(sentTo(await browser.get('/password?from=menu', PAGE)), '302 /confirm')

    const { cookie } = browser
    t.equal(
      sentTo(await submit(browser, '/confirm', '/confirm', { password: 'lovelace' })),
      '303 /password?from=menu'
    )
    t.not(browser.cookie, cookie, 'the session has a new id')
    t.equal((await browser.get('/password', PAGE)).statusCode, 200)
  }
)

void t.test('a user who is kept signed in stays so after confirming the password', async (t) => {
  const app = await makeExample(t)
  for (const [choice, maxAge] of [
    [{ remember: 'on' }, 7 * 86_400],
    [{}, 1800]
  ] as const) {
    const browser = new Browser(app)
    await submit(browser, '/login', '/login', { username: 'ada', password: 'lovelace', ...choice })
    const { cookies } = await submit(browser, '/confirm', '/confirm', { password: 'lovelace' })
    t.ok(Math.abs((cookies[0]?.maxAge ?? 0) - maxAge) <= 1, `${cookies[0]?.maxAge}`)
  }
})

void t.test('a visitor who opens the form signs in and comes back to it', async (t) => {
  const browser = new Browser(await makeExample(t))
  t.equal(sentTo(await browser.get('/password', PAGE)), '302 /login')
  t.equal(sentTo(await signIn(browser)), '303 /password')
})

void t.test('a form that was opened in time can be sent until 15 minutes after the login', async (t) => {
  const clock = stopClock(t)
  const browser = await signedIn(await makeOwnExample(t))
  const { body } = await browser.get('/password', PAGE)
  const token = /name="_csrf" value="([^"]+)"/.exec(body)?.[1] ?? ''
  const payload = new URLSearchParams({ _csrf: token, current: 'wrong' }).toString()
  const headers = { ...PAGE, 'content-type': 'application/x-www-form-urlencoded' }
  const send = () => browser.request({ method: 'POST', url: '/password', headers, payload })
  clock.move(15 * MINUTE - 1)
  t.equal((await send()).statusCode, 422)
  clock.move(1)
  t.equal(sentTo(await send()), '303 /confirm')
})

void t.test('each error is next to its field, and no password is printed', async (t) => {
  const browser = await signedIn(await makeOwnExample(t))
  for (const [fields, name, problem] of [
    [['wrong-one', 'long enough', 'long enough'], 'current', 'This is not your current password.'],
    [['lovelace', 'tooshor', 'tooshor'], 'next', 'The new password needs at least 8 characters.'],
    [['lovelace', 'long enough', 'not the same'], 'repeated', 'The two new passwords are not the same.']
  ] as const) {
    const [current, next, repeated] = fields
    const { statusCode, body } = await change(browser, current, next, repeated)
    t.equal(statusCode, 422)
    t.match(body.match(/aria-invalid/g), { length: 1 }, name)
    const input = new RegExp(
      `<input\\s+id="${name}"[^>]*aria-invalid="true"[^>]*aria-describedby="${name}-problem`
    )
    t.match(body, input)
    t.match(body, `<p id="${name}-problem" class="problem">${problem}</p>`)
    t.match(body, new RegExp(`id="${name}"[^>]*\\sautofocus\\s`))
    for (const typed of fields) t.notOk(body.includes(`value="${typed}"`))
  }
  const all = await change(browser, 'wrong', 'short')
  t.match(all.body.match(/aria-invalid/g), { length: 2 })
  t.match(all.body.match(/autofocus/g), { length: 1 })
  t.match((await browser.get('/dashboard', PAGE)).body, 'Hello, Ada')
})

void t.test(
  'a change of the password ends all other sessions and changes the id of this session',
  async (t) => {
    const app = await makeOwnExample(t)
    const browser = await signedIn(app, 'ada', 'lovelace', 'curl/8')
    const other = await signedIn(app)
    const grace = await signedIn(app, 'grace', 'hopper')
    const { cookie } = browser
    t.equal(sentTo(await change(browser, 'lovelace', 'the analytical engine')), '303 /profile')
    t.same(messagesIn(await browser.get('/profile', PAGE)), [
      'success status: Your password was changed. All other devices are signed out.'
    ])
    t.not(browser.cookie, cookie)
    t.equal(sentTo(await app.inject({ url: '/profile', headers: { ...PAGE, cookie } })), '302 /login')
    t.equal((await app.sessionManager.list('1')).length, 1)
    t.equal((await grace.get('/dashboard', PAGE)).statusCode, 200)

    t.equal(sentTo(await other.get('/profile', PAGE)), '302 /login')
    t.same(messagesIn(await other.get('/login', PAGE)), [
      'notice status: Your password was changed on another device: curl, 127.0.0.1.'
    ])
    t.equal(sentTo(await signIn(other)), '303 /login', 'the old password')
    t.equal(sentTo(await signIn(other, 'ada', 'the analytical engine')), '303 /profile', 'the new password')
  }
)
