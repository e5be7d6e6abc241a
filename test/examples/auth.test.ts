import t from 'tap'
import { MemoryStore } from '../../plugin/index.js'
import { stopClock } from '../fixtures/clock.js'
import { failingStore, spyStore } from '../fixtures/stores.js'
import {
  Browser,
  browserOf,
  createUsers,
  FIREFOX,
  FORM,
  JSON_ONLY,
  makeExample,
  messagesIn,
  PAGE,
  sentTo,
  signedIn,
  signIn,
  submit,
  TIMEOUT,
  users
} from './fixtures/example.js'

// Tests login, logout and the guards of the example, its profile page, its error pages and its headers.

t.setTimeout(TIMEOUT)

void t.test(
  'a failed login shows an error only once, and after a login the dashboard welcomes the user only once',
  async (t) => {
    const browser = new Browser(await makeExample(t))
    t.equal(sentTo(await browser.get('/', PAGE)), '302 /login')
    t.same(messagesIn(await browser.get('/login', PAGE)), [])
    t.equal(sentTo(await signIn(browser, 'ada', 'wrong')), '303 /login')
    t.same(messagesIn(await browser.get('/login', PAGE)), ['error alert: Wrong username or password.'])
    t.same(messagesIn(await browser.get('/login', PAGE)), [])

    const { cookie } = browser
    t.equal(sentTo(await signIn(browser)), '303 /dashboard')
    t.not(browser.cookie, cookie, 'the login changes the id')
    const dashboard = await browser.get('/dashboard', PAGE)
    t.same(messagesIn(dashboard), ['success status: Welcome back!'])
    t.match(dashboard.body, /<title>Dashboard · Sesame<.*Hello, Ada Lovelace\..*<dd>ada<.*<dd>admin</s)
    t.same(messagesIn(await browser.get('/dashboard', PAGE)), [])
    for (const url of ['/', '/login']) t.equal(sentTo(await browser.get(url, PAGE)), '302 /dashboard')
  }
)

void t.test(
  'after a wrong password, the form still has the username, marks both fields and has no password',
  async (t) => {
    const browser = new Browser(await makeExample(t))
    for (const name of ['ada', '"><script>alert(1)</script>', 'x'.repeat(5000)]) {
      t.equal(sentTo(await signIn(browser, name, 'typed-password')), '303 /login')
      const { body } = await browser.get('/login', PAGE)
      const value = name
        .slice(0, 64)
        .replaceAll('"', '&quot;')
        .replaceAll('<', '&lt;')
        .replaceAll('>', '&gt;')
      t.ok(body.includes(`name="username" value="${value}"`), name.slice(0, 9))
      t.match(body.match(/aria-invalid="true" aria-describedby="problem"/g), { length: 2 })
      t.match(body, /<p class="flash error" role="alert" id="problem">/)
      t.notMatch(body, 'typed-password')
    }
    const later = await browser.get('/login', PAGE)
    t.match(later.body, 'name="username" value=""')
    t.notMatch(later.body, 'aria-invalid')
  }
)

void t.test('the login page shows the demo accounts, and asks the browser to store nothing', async (t) => {
  const { body, headers } = await new Browser(await makeExample(t)).get('/login', PAGE)
  const text = body.replace(/<[^>]+>/g, '')
  t.match(text, 'Demo admin: ada with the password lovelace')
  t.match(text, 'Demo member: grace with the password hopper')
  t.equal(headers['set-cookie'], undefined)
})

void t.test('an address can try ten passwords a minute, and other addresses still sign in', async (t) => {
  const clock = stopClock(t)
  const app = await makeExample(t)
  const attempt = (remoteAddress: string) => {
    const fields = new URLSearchParams({ username: 'ada', password: 'wrong' }).toString()
    const headers = { ...FORM, host: 'localhost', referer: 'http://localhost/login' }
    return app.inject({ method: 'POST', url: '/login', remoteAddress, headers, payload: fields })
  }
  for (let count = 0; count < 10; count++) t.equal((await attempt('192.0.2.1')).statusCode, 303)
  const refused = await attempt('192.0.2.1')
  t.match(refused, { statusCode: 429, headers: { 'retry-after': '60' } })
  t.match(
    refused.body,
    /<h1>Too many attempts<.*role="alert">Please wait a minute, then try again\.<.*href="http:\/\/localhost\/login">Back/s
  )
  t.equal((await attempt('192.0.2.2')).statusCode, 303)
  clock.move(60_000)
  t.equal((await attempt('192.0.2.1')).statusCode, 303)
})

void t.test('a login form that is sent twice succeeds twice, even if the visitor has a cart', async (t) => {
  const browser = new Browser(await makeExample(t))
  await submit(browser, '/shop', '/cart/halva/add')
  const payload = 'username=ada&password=lovelace'
  const request = { method: 'POST', url: '/login', headers: FORM, payload } as const
  for (const answer of await Promise.all([browser.request(request), browser.request(request)])) {
    t.equal(sentTo(answer), '303 /dashboard')
  }
  t.equal((await browser.get('/dashboard', PAGE)).statusCode, 200)
})

void t.test('a failed login does not store the input, and a login with malformed input fails', async (t) => {
  const store = spyStore()
  const browser = new Browser(await makeExample(t, { store }))
  await signIn(browser, 'typed-name', 'typed-password')
  t.notMatch(JSON.stringify(store.take()), /typed|"userId":"/)
  for (const payload of [{ username: ['ada'], password: { length: 1 } }, 'text', null]) {
    const headers = { ...PAGE, 'content-type': 'application/json' }
    const request = { method: 'POST', url: '/login', headers, payload: JSON.stringify(payload) } as const
    t.equal(sentTo(await browser.request(request)), '303 /login', JSON.stringify(payload))
  }
})

void t.test('the dashboard sends JSON if the client asks for JSON', async (t) => {
  const app = await makeExample(t)
  t.match((await app.inject({ url: '/dashboard', headers: JSON_ONLY })).json(), {
    statusCode: 401,
    message: 'Please sign in to continue.'
  })
  const browser = await signedIn(app)
  t.same((await browser.get('/dashboard', JSON_ONLY)).json(), { message: 'Welcome back!', user: 'ada' })
  t.same((await browser.get('/dashboard', JSON_ONLY)).json(), { message: 'Dashboard', user: 'ada' })
})

void t.test(
  'a visitor who opens a page for signed-in users is sent to the login page with a message',
  async (t) => {
    const app = await makeExample(t)
    for (const url of ['/dashboard', '/profile', '/password', '/confirm', '/devices', '/admin']) {
      const browser = new Browser(app)
      t.equal(sentTo(await browser.get(url, PAGE)), '302 /login')
      t.same(messagesIn(await browser.get('/login', PAGE)), ['notice status: Please sign in to continue.'])
    }
  }
)

const STALE = 'You may have signed in or out in another tab. Open the form again and resubmit it.'
const FOREIGN = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.test' }

void t.test('a form without a token or from another site changes nothing and sets no cookie', async (t) => {
  const browser = await signedIn(await makeExample(t))
  const urls = [
    ...['/logout', '/profile', '/password', '/confirm', '/devices/end-others', '/devices/x/end'],
    ...['/cart/halva/add', '/cart/halva/quantity', '/admin/users/2/sign-out']
  ]
  for (const url of ['/login', ...urls]) {
    for (const [headers, title, message] of [
      [{}, 'The form was out of date', `Nothing was changed. ${STALE}`],
      [FOREIGN, 'The form was not sent', 'The form came from another website. Nothing was changed.']
    ] as const) {
      // The login form has no token.
      if (url === '/login' && headers !== FOREIGN) continue
      const request = { method: 'POST', url, payload: 'name=Eve' } as const
      const page = await browser.request({ ...request, headers: { ...FORM, ...headers } })
      t.match(page, { statusCode: 403, headers: { 'content-type': /^text\/html/, 'set-cookie': undefined } })
      t.match(page.body, new RegExp(`<h1>${title}<.*role="alert">${message}<`, 's'), url)
      const other = await browser.request({ ...request, headers: { ...FORM, ...headers, ...JSON_ONLY } })
      t.same(other.json(), { statusCode: 403, error: 'Forbidden', message })
    }
  }
  t.match((await browser.get('/profile', PAGE)).body, 'value="Ada Lovelace"')
})

void t.test('the page about a refused form links back to the form, but never to another site', async (t) => {
  const browser = await signedIn(await makeExample(t))
  const linkAfter = async (referer: string, headers: Record<string, string> = {}) => {
    const request = { method: 'POST', url: '/profile', headers: { ...FORM, ...headers, referer } } as const
    const { body } = await browser.request({ ...request, headers: { ...request.headers, host: 'localhost' } })
    return /<a href="([^"]*)">(?:Back to the form|Go to the home page)</.exec(body)?.[1]
  }
  for (const [referer, link] of [
    ['http://localhost/profile?a=1&b=2', 'http://localhost/profile?a=1&amp;b=2'],
    ['http://localhost//evil.test/', 'http://localhost//evil.test/'],
    ['http://localhost.evil.test/profile', '/'],
    ['https://evil.test/', '/'],
    ['http://localhost/"><script>', 'http://localhost/&quot;&gt;&lt;script&gt;'],
    ['', '/']
  ] as const) {
    t.equal(await linkAfter(referer), link, referer)
  }
  t.equal(await linkAfter('https://evil.test/', FOREIGN), '/')
})

void t.test('an error page keeps the navigation of a signed-in user', async (t) => {
  const app = await makeExample(t)
  const browser = await signedIn(app)
  t.match((await browser.get('/nothing', PAGE)).body, 'href="/devices"')
  t.notMatch((await new Browser(app).get('/nothing', PAGE)).body, 'href="/devices"')
  t.same(
    messagesIn(await browser.get('/dashboard', PAGE)),
    ['success status: Welcome back!'],
    'kept for later'
  )
})

void t.test('a user can change the display name, and every page escapes user input', async (t) => {
  const app = await makeExample(t, { users: await createUsers() })
  // The application itself stores neither of these.
  app.get('/plant', async ({ session }) => {
    for (const key of ['browser', 'address']) session.set(key, `<b>${key}`)
    session.setFlash('error', '<b>')
  })
  const browser = await signedIn(app)
  const name = `"><script>alert('1')</script>&`
  const escaped = '&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;'
  t.equal(sentTo(await submit(browser, '/profile', '/profile', { name: ` ${name} ` })), '303 /profile')
  const profile = await browser.get('/profile', PAGE)
  t.same(messagesIn(profile), ['success status: Your profile was saved.'])
  t.match(profile.body, `value="${escaped}"`)
  t.match((await browser.get('/dashboard', PAGE)).body, `Hello, ${escaped}.`)
  await browser.get('/plant')
  t.match((await browser.get('/confirm', PAGE)).body, 'role="status">&lt;b&gt;<')
  t.match((await browser.get('/devices', PAGE)).body, /&lt;b&gt;browser.*&lt;b&gt;address/s)
  for (const url of ['/dashboard', '/profile', '/devices', '/admin', '/shop', '/<script>', '/?<script>']) {
    t.notMatch((await browser.get(url, PAGE)).body, /<script>|<b>/, url)
  }
})

void t.test(
  'an invalid name is refused with an error message, and the form shows the name again as escaped text',
  async (t) => {
    const browser = await signedIn(await makeExample(t))
    for (const [name, problem] of [
      ['', 'Please enter a name.'],
      ['   ', 'Please enter a name.'],
      [`<i>${'x'.repeat(48)}`, 'A name can have at most 50 characters.'],
      ['a\u0000b', 'A name must not contain control characters.'],
      ['a\u202eb', 'A name must not contain control characters.']
    ] as const) {
      const answer = await submit(browser, '/profile', '/profile', { name })
      t.equal(answer.statusCode, 422)
      t.match(
        answer.body,
        new RegExp(`aria-describedby="name-problem".*<p id="name-problem" class="problem">${problem}<`, 's')
      )
      t.notMatch(answer.body, '<i>')
    }
    t.match((await browser.get('/profile', PAGE)).body, 'value="Ada Lovelace"')
  }
)

void t.test('a logout shows its message only once, and the old cookie no longer works', async (t) => {
  const app = await makeExample(t)
  const browser = await signedIn(app)
  const old = { ...PAGE, cookie: browser.cookie }
  t.equal((await app.inject({ url: '/dashboard', headers: old })).statusCode, 200)
  t.equal(sentTo(await submit(browser, '/dashboard', '/logout')), '303 /login')
  t.same(messagesIn(await browser.get('/login', PAGE)), ['success status: You are logged out.'])
  t.same(messagesIn(await browser.get('/login', PAGE)), [])
  t.equal(sentTo(await app.inject({ url: '/dashboard', headers: old })), '302 /login')
  t.equal(sentTo(await browser.get('/dashboard', PAGE)), '302 /login')
})

void t.test('a session ends if its account no longer exists', async (t) => {
  const store = new MemoryStore()
  const browser = await signedIn(await makeExample(t, { store }))
  const appWithoutUser = await makeExample(t, { store, users: { ...users, find: () => undefined } })
  const later = new Browser(appWithoutUser)
  for (const [name, value] of browser.cookies) later.cookies.set(name, value)
  t.equal(sentTo(await later.get('/profile', PAGE)), '303 /login')
  t.equal(later.cookie, '')
  t.equal(store.size, 0)
})

void t.test('every response has the security headers, and no page is cached', async (t) => {
  const browser = await signedIn(await makeExample(t))
  const pages = ['/login', '/dashboard', '/profile', '/password', '/devices', '/admin', '/shop', '/nothing']
  const files = {
    '/style.css': /^text\/css/,
    '/local-time.js': /javascript/,
    '/icon.svg': /^image\/svg/
  }
  for (const url of ['/', ...pages, ...Object.keys(files)]) {
    const { headers } = await browser.get(url, PAGE)
    t.match(headers, {
      'content-security-policy':
        "default-src 'none';script-src 'self';style-src 'self';img-src 'self';form-action 'self';" +
        "frame-ancestors 'none';base-uri 'none'",
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'same-origin',
      'strict-transport-security': undefined
    })
  }
  for (const url of ['/', ...pages])
    t.equal((await browser.get(url, PAGE)).headers['cache-control'], 'no-store', url)
  for (const [url, type] of Object.entries(files)) {
    t.match((await browser.get(url)).headers, { 'content-type': type, 'cache-control': 'public, max-age=0' })
  }
})

void t.test('a page has no inline script or style, and its files need no session', async (t) => {
  const store = spyStore()
  const browser = await signedIn(await makeExample(t, { store }))
  for (const url of ['/login', '/dashboard', '/profile', '/devices', '/admin', '/shop', '/nothing']) {
    const { body } = await browser.get(url, PAGE)
    t.notMatch(body, /<script(?! src="\/)|<style|\sstyle=|\son\w+=/, url)
  }
  store.take()
  for (const url of ['/style.css', '/local-time.js']) t.equal((await browser.get(url)).statusCode, 200)
  t.same(store.take(), [])
})

void t.test(
  'the cookie is hidden from scripts, and lasts for the idle timeout that the user has chosen',
  async (t) => {
    const app = await makeExample(t)
    const attributes = 'Path=/; HttpOnly; SameSite=Lax'
    for (const [choice, maxAge] of [
      [{}, '1(?:800|799)'],
      [{ remember: 'on' }, '604(?:800|799)']
    ] as const) {
      const fields = { username: 'ada', password: 'lovelace', ...choice }
      const { headers } = await submit(new Browser(app), '/login', '/login', fields)
      t.match(headers['set-cookie'], new RegExp(`^sid=[^;]+; Max-Age=${maxAge}; ${attributes}$`))
    }
  }
)

void t.test('a login returns to the page that was asked for', async (t) => {
  const browser = new Browser(await makeExample(t))
  await browser.get('/profile?tab=name', PAGE)
  t.equal(sentTo(await signIn(browser)), '303 /profile?tab=name')
})

const FAILED = 'This was not your fault. Please try again later.'

void t.test(
  'error replies are HTML or JSON, whichever the client accepts, and reveal no internal details',
  async (t) => {
    const app = await makeExample(t, { store: failingStore((method) => method === 'create') })
    app.get('/broken', async () => {
      throw new Error('ECONNREFUSED')
    })
    for (const [url, statusCode, error, title, message] of [
      ['/nothing', 404, 'Not Found', 'Page not found', 'This page does not exist.'],
      ['/broken', 500, 'Internal Server Error', 'Something went wrong', FAILED]
    ] as const) {
      const page = await app.inject({ url, headers: PAGE })
      t.equal(page.statusCode, statusCode)
      t.match(page.body, new RegExp(`<h1>${title}<.*role="alert">${message}<`, 's'))
      t.notMatch(page.body, 'ECONNREFUSED')
      t.same((await app.inject({ url, headers: JSON_ONLY })).json(), { statusCode, error, message })
    }
    const page = await signIn(new Browser(app))
    t.equal(page.statusCode, 503, 'a login that cannot be stored')
    t.match(page.body, new RegExp(`<h1>Something went wrong<.*role="alert">${FAILED}<`, 's'))
  }
)

void t.test('browserOf() returns a readable name for a User-Agent header', async (t) => {
  const webkit = 'AppleWebKit/537.36 (KHTML, like Gecko)'
  const cases = {
    [FIREFOX]: 'Firefox on Linux',
    [`Mozilla/5.0 (Windows NT 10.0; Win64; x64) ${webkit} Chrome/140.0 Safari/537.36 Edg/140.0`]:
      'Edge on Windows',
    [`Mozilla/5.0 (Linux; Android 10; K) ${webkit} Chrome/140.0 Mobile Safari/537.36`]: 'Chrome on Android',
    [`Mozilla/5.0 (X11; CrOS x86_64) ${webkit} Chrome/140.0 Safari/537.36 OPR/120`]: 'Opera on ChromeOS',
    [`Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) ${webkit} Version/18 Safari/605`]: 'Safari on macOS',
    [`Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) ${webkit} CriOS/140`]: 'Chrome on iOS',
    'curl/8.5.0': 'curl',
    '<script>': 'Unknown browser',
    '': 'Unknown browser'
  }
  for (const [agent, name] of Object.entries(cases)) t.equal(browserOf(agent), name)
  t.equal(browserOf(undefined), 'Unknown browser')
})
