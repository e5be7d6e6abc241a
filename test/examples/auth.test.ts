import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { FastifyInstance } from 'fastify'
import type { Response } from 'light-my-request'
import t, { type Test } from 'tap'
import { MemoryStore } from '../../plugin/index.js'
import { Browser, SECRET } from '../fixtures/app.js'
import { failingStore, spyStore } from '../fixtures/stores.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const BUILT = new URL('../../examples/auth/dist/', import.meta.url).href

// Builds the example first, as a user would in a fresh clone of the repository. The built example imports the package
// by its name.
await promisify(execFile)(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'examples/auth'], {
  cwd: ROOT
})
const { build } = (await import(`${BUILT}app.js`)) as typeof import('../../examples/auth/app.js')
const { createUsers } = (await import(`${BUILT}users.js`)) as typeof import('../../examples/auth/users.js')
const { browserOf } = (await import(`${BUILT}browser.js`)) as typeof import('../../examples/auth/browser.js')
const users = await createUsers()
// The timeout is long because each login computes a deliberately slow password hash, and some tests start a server in a
// new process.
t.setTimeout(300_000)

type Options = Partial<Parameters<typeof build>[0]>

async function makeExample(t: Test, options: Options = {}): Promise<FastifyInstance> {
  const app = await build({ secret: SECRET, users, logLevel: 'silent', ...options })
  t.teardown(() => app.close())
  return app
}

const PAGE = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }
const JSON_ONLY = { accept: 'application/json' }
const FORM = { ...PAGE, 'content-type': 'application/x-www-form-urlencoded' }

/** Returns the CSRF token of the first form on a page. */
function tokenIn({ body }: Response): string {
  return /name="_csrf" value="([^"]+)"/.exec(body)?.[1] ?? 'none'
}

/** Submits a form as a browser does: opens `page`, and sends `fields` and the page's CSRF token to `action`. */
async function submit(
  browser: Browser,
  page: string,
  action: string,
  fields: Record<string, string> = {},
  headers: Record<string, string> = {}
): Promise<Response> {
  const token = tokenIn(await browser.get(page, PAGE))
  const payload = new URLSearchParams({ ...fields, _csrf: token }).toString()
  return browser.request({ method: 'POST', url: action, headers: { ...FORM, ...headers }, payload })
}

function signIn(browser: Browser, username = 'ada', password = 'lovelace', agent = ''): Promise<Response> {
  return submit(browser, '/login', '/login', { username, password }, { 'user-agent': agent })
}

async function signedIn(app: FastifyInstance, ...args: [string?, string?, string?]): Promise<Browser> {
  const browser = new Browser(app)
  await signIn(browser, ...args)
  return browser
}

/** Returns the flash messages of a page, each in the form `role: text`. */
function messagesIn({ body }: Response): string[] {
  return [...body.matchAll(/<p class="flash \w+" role="(\w+)">([^<]*)</g)].map(([, role, text]) =>
    [role, text].join(': ')
  )
}

function sentTo({ statusCode, headers }: Response): string {
  return `${statusCode} ${headers.location ?? ''}`
}

void t.test(
  'a failed login shows an error only once, and after a login the dashboard welcomes the user only once',
  async (t) => {
    const browser = new Browser(await makeExample(t))
    t.equal(sentTo(await browser.get('/', PAGE)), '302 /login')
    t.same(messagesIn(await browser.get('/login', PAGE)), [])
    t.equal(sentTo(await signIn(browser, 'ada', 'wrong')), '303 /login')
    t.same(messagesIn(await browser.get('/login', PAGE)), ['alert: Invalid credentials'])
    t.same(messagesIn(await browser.get('/login', PAGE)), [])

    const { cookie } = browser
    t.equal(sentTo(await signIn(browser)), '303 /dashboard')
    t.not(browser.cookie, cookie, 'the login changes the id')
    const dashboard = await browser.get('/dashboard', PAGE)
    t.same(messagesIn(dashboard), ['status: Welcome back!'])
    t.match(dashboard.body, /<title>Dashboard · Sesame<.*Hello, Ada Lovelace\..*<dd>ada<.*<dd>admin</s)
    t.same(messagesIn(await browser.get('/dashboard', PAGE)), [])
    for (const url of ['/', '/login']) t.equal(sentTo(await browser.get(url, PAGE)), '302 /dashboard')
  }
)

void t.test('a failed login does not store the input, and a login with malformed input fails', async (t) => {
  const store = spyStore()
  const browser = new Browser(await makeExample(t, { store }))
  await signIn(browser, 'typed-name', 'typed-password')
  t.notMatch(JSON.stringify(store.take()), /typed|"userId":"/)
  for (const payload of [{ username: ['ada'], password: { length: 1 } }, 'text', null]) {
    const token = tokenIn(await browser.get('/login', PAGE))
    const headers = { ...PAGE, 'x-csrf-token': token, 'content-type': 'application/json' }
    const request = { method: 'POST', url: '/login', headers, payload: JSON.stringify(payload) } as const
    t.equal(sentTo(await browser.request(request)), '303 /login', JSON.stringify(payload))
  }
})

void t.test('the dashboard sends JSON if the client asks for JSON', async (t) => {
  const app = await makeExample(t)
  t.match((await app.inject({ url: '/dashboard', headers: JSON_ONLY })).json(), {
    statusCode: 401,
    message: 'Please login to continue'
  })
  const browser = await signedIn(app)
  t.same((await browser.get('/dashboard', JSON_ONLY)).json(), { message: 'Welcome back!', user: 'ada' })
  t.same((await browser.get('/dashboard', JSON_ONLY)).json(), { message: 'Dashboard', user: 'ada' })
})

void t.test(
  'a visitor who opens a page for signed-in users is sent to the login page with a message',
  async (t) => {
    const app = await makeExample(t)
    for (const url of ['/dashboard', '/profile', '/sessions']) {
      const browser = new Browser(app)
      t.equal(sentTo(await browser.get(url, PAGE)), '302 /login')
      t.same(messagesIn(await browser.get('/login', PAGE)), ['alert: Please login to continue'])
    }
  }
)

void t.test('a form without a token or from another site changes nothing and sets no cookie', async (t) => {
  const app = await makeExample(t)
  const browser = await signedIn(app)
  const foreign = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.test' }
  for (const url of ['/login', '/logout', '/profile', '/sessions/end-others', '/sessions/x/end']) {
    for (const [headers, message] of [
      [{}, 'Invalid CSRF token'],
      [foreign, 'Cross-site request refused']
    ] as const) {
      const request = { method: 'POST', url, payload: 'name=Eve' } as const
      const page = await browser.request({ ...request, headers: { ...FORM, ...headers } })
      t.match(page, { statusCode: 403, headers: { 'content-type': /^text\/html/, 'set-cookie': undefined } })
      t.match(page.body, new RegExp(`<h1>Forbidden<.*role="alert">${message}<`, 's'))
      const other = await browser.request({ ...request, headers: { ...FORM, ...headers, ...JSON_ONLY } })
      t.same(other.json(), { statusCode: 403, error: 'Forbidden', message })
    }
  }
  t.match((await browser.get('/profile', PAGE)).body, 'value="Ada Lovelace"')
})

void t.test('a user can change the display name, and every page escapes user input', async (t) => {
  const browser = await signedIn(
    await makeExample(t, { users: await createUsers() }),
    'ada',
    'lovelace',
    'a<b>'
  )
  const name = `"><script>alert('1')</script>&`
  const escaped = '&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;'
  t.equal(sentTo(await submit(browser, '/profile', '/profile', { name: ` ${name} ` })), '303 /profile')
  const profile = await browser.get('/profile', PAGE)
  t.same(messagesIn(profile), ['status: Your profile was saved.'])
  t.match(profile.body, `value="${escaped}"`)
  t.match((await browser.get('/dashboard', PAGE)).body, `Hello, ${escaped}.`)
  for (const url of ['/dashboard', '/profile', '/sessions', '/<script>', '/?<script>']) {
    t.notMatch((await browser.get(url, PAGE)).body, /<script|<b>/, url)
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
        new RegExp(`aria-invalid="true".*<p id="problem" class="problem">${problem}<`, 's')
      )
      t.notMatch(answer.body, '<i>')
    }
    t.match((await browser.get('/profile', PAGE)).body, 'value="Ada Lovelace"')
  }
)

const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'

/**
 * Opens the page that lists the sessions. Returns the browser name of each session, and the id of each session that has
 * a button to end it.
 */
async function sessionsOf(browser: Browser): Promise<{ names: string[]; ids: string[] }> {
  const { body } = await browser.get('/sessions', PAGE)
  const names = [...body.matchAll(/<strong>([^<]*)<\/strong>\s*(<span class="badge">)?/g)]
  const ids = [...body.matchAll(/action="\/sessions\/([0-9a-f]{64})\/end"/g)]
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
    t.notMatch((await here.get('/sessions', PAGE)).body, 'End all other sessions')
    const phone = await signedIn(app, 'ada', 'lovelace', 'curl/8')
    const { names, ids } = await sessionsOf(here)
    t.same(names, ['Firefox on Linux, here', 'curl'])
    t.equal(ids.length, 1)

    t.equal(sentTo(await submit(here, '/sessions', `/sessions/${ids[0]}/end`)), '303 /sessions')
    t.same(messagesIn(await here.get('/sessions', PAGE)), ['status: The session was ended.'])
    t.equal(sentTo(await phone.get('/dashboard', PAGE)), '302 /login')
    t.same(messagesIn(await phone.get('/login', PAGE)), ['alert: Session expired'])
    await submit(here, '/sessions', `/sessions/${ids[0]}/end`)
    t.same(messagesIn(await here.get('/sessions', PAGE)), ['alert: That session no longer exists.'])

    const others = [await signedIn(app), await signedIn(app)]
    for (const message of ['2 sessions were ended.', 'One session was ended.', '0 sessions were ended.']) {
      t.equal(sentTo(await submit(here, '/sessions', '/sessions/end-others')), '303 /sessions')
      t.same(messagesIn(await here.get('/sessions', PAGE)), [`status: ${message}`])
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
      t.equal(sentTo(await submit(ada, '/sessions', `/sessions/${id}/end`)), '303 /sessions')
      t.same(messagesIn(await ada.get('/sessions', PAGE)), ['alert: That session no longer exists.'])
    }
    await submit(ada, '/sessions', '/sessions/end-others')
    for (const browser of [ada, grace]) t.equal((await browser.get('/dashboard', PAGE)).statusCode, 200)
  }
)

void t.test('a logout shows its message only once, and the old cookie no longer works', async (t) => {
  const app = await makeExample(t)
  const browser = await signedIn(app)
  const old = { ...PAGE, cookie: browser.cookie }
  t.equal((await app.inject({ url: '/dashboard', headers: old })).statusCode, 200)
  t.equal(sentTo(await submit(browser, '/dashboard', '/logout')), '303 /login')
  t.same(messagesIn(await browser.get('/login', PAGE)), ['status: You are logged out.'])
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
  const urls = ['/', '/login', '/dashboard', '/profile', '/sessions', '/nothing', '/style.css']
  for (const url of urls) {
    const { headers } = await browser.get(url, PAGE)
    t.match(headers, {
      'content-security-policy':
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'same-origin',
      'cache-control': url === '/style.css' ? 'no-cache' : 'no-store'
    })
  }
  const style = await browser.get('/style.css')
  t.equal(style.headers['content-type'], 'text/css; charset=utf-8')
  t.match(style.body, 'prefers-color-scheme: dark')
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
      const [session, visitor] = headers['set-cookie'] as string[]
      t.match(session, new RegExp(`^sid=[^;]+; Max-Age=${maxAge}; ${attributes}$`))
      t.equal(visitor, `sid_visitor=; Max-Age=0; ${attributes}`)
    }
  }
)

void t.test('a login returns to the page that was asked for', async (t) => {
  const browser = new Browser(await makeExample(t))
  await browser.get('/profile?tab=name', PAGE)
  t.equal(sentTo(await signIn(browser)), '303 /profile?tab=name')
})

void t.test(
  'error replies are HTML or JSON, whichever the client accepts, and reveal no internal details',
  async (t) => {
    const app = await makeExample(t, { store: failingStore((method) => method === 'create') })
    app.get('/broken', async () => {
      throw new Error('ECONNREFUSED')
    })
    for (const [url, statusCode, title, message] of [
      ['/nothing', 404, 'Not Found', 'This page does not exist.'],
      ['/broken', 500, 'Internal Server Error', 'Something went wrong. Please try again later.']
    ] as const) {
      const page = await app.inject({ url, headers: PAGE })
      t.equal(page.statusCode, statusCode)
      t.match(page.body, new RegExp(`<h1>${title}<.*role="alert">${message}<`, 's'))
      t.notMatch(page.body, 'ECONNREFUSED')
      t.same((await app.inject({ url, headers: JSON_ONLY })).json(), { statusCode, error: title, message })
    }
    const page = await signIn(new Browser(app))
    t.equal(page.statusCode, 503, 'a login that cannot be stored')
    t.match(
      page.body,
      /<h1>Service Unavailable<.*role="alert">Something went wrong\. Please try again later\.</s
    )
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

interface Server {
  readonly child: ChildProcess
  /** Waits until the output contains `text`, and returns all output so far. */
  printed(text: string): Promise<string>
  /** Resolves with the exit code of the process, and everything that the process wrote to stdout and stderr. */
  readonly ended: Promise<{ code: number | null; output: string; errors: string }>
}

function startServer(t: Test, env: Record<string, string>): Server {
  const options = { cwd: ROOT, env: { PATH: process.env['PATH'], ...env } }
  const child = spawn(process.execPath, ['examples/auth/dist/main.js'], options)
  t.teardown(() => child.kill('SIGKILL'))
  let [output, errors] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, output, errors }))
  return {
    child,
    ended,
    async printed(text) {
      while (!output.includes(text) || !output.endsWith('\n')) {
        const result = await Promise.race([once(child.stdout, 'data'), ended])
        if (!Array.isArray(result)) throw new Error(`The server ended: ${JSON.stringify(result)}`)
      }
      return output
    }
  }
}

for (const [signal, env, notice] of [
  ['SIGTERM', {}, 'SESSION_SECRET is not set: using a random secret. All sessions end with this process.\n'],
  ['SIGINT', { SESSION_SECRET: SECRET }, '']
] as [NodeJS.Signals, Record<string, string>, string][]) {
  void t.test(
    `the server prints its address with instructions to sign in, and exits with code 0 on ${signal}`,
    async (t) => {
      const server = startServer(t, { PORT: '0', ...env })
      const output = await server.printed('lovelace')
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0] as string
      t.equal(output, `${notice}Open ${url} and sign in as ada with the password lovelace.\n`)
      const response = await fetch(url)
      t.equal(response.url, `${url}/login`)
      t.match(await response.text(), 'name="_csrf"')
      server.child.kill(signal)
      t.match(await server.ended, { code: 0, errors: '' })
    }
  )
}

void t.test('with STORE=sqlite:FILE, a session survives a restart of the server', async (t) => {
  const folder = t.testdir()
  const env = { PORT: '0', SESSION_SECRET: SECRET, STORE: `sqlite:${folder}/sessions.db` }
  const start = async () => {
    const server = startServer(t, env)
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(await server.printed('lovelace'))?.[0] as string
    return { server, url }
  }
  const first = await start()
  const page = await fetch(`${first.url}/login`)
  const cookie = String(page.headers.get('set-cookie')).split(';', 1)[0] as string
  const [, token = ''] = /name="_csrf" value="([\w-]+)"/.exec(await page.text()) ?? []
  const body = new URLSearchParams({ _csrf: token, username: 'ada', password: 'lovelace' })
  const login = await fetch(`${first.url}/login`, {
    method: 'POST',
    body,
    headers: { cookie },
    redirect: 'manual'
  })
  t.equal(login.headers.get('location'), '/dashboard')
  const signedIn = String(login.headers.get('set-cookie')).split(';', 1)[0] as string
  first.server.child.kill('SIGTERM')
  t.match(await first.server.ended, { code: 0, errors: '' })
  const second = await start()
  const accept = 'application/json'
  const dashboard = await fetch(`${second.url}/dashboard`, { headers: { cookie: signedIn, accept } })
  t.same(await dashboard.json(), { message: 'Welcome back!', user: 'ada' })
})

void t.test('if a setting is wrong, the server prints one line about it and exits with code 1', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1')
  t.teardown(() => blocker.close())
  await once(blocker, 'listening')
  const taken = String((blocker.address() as AddressInfo).port)
  const cases: [Record<string, string>, RegExp][] = [
    [{ PORT: '0', SESSION_SECRET: 'short' }, /^fastify-sesame: option "secret" has 5 bytes, but must .*\n$/],
    [{ PORT: taken }, new RegExp(`^Port ${taken} on 127.0.0.1 is in use: set PORT to another port.*\\n$`)],
    [{ PORT: '65536' }, /^PORT is "65536", but must be a whole number from 0 to 65535\n$/],
    [{ PORT: 'http' }, /^PORT is "http", but must be .*\n$/],
    [{ PORT: '0', STORE: 'disk' }, /^STORE is "disk", but must be memory, sqlite:FILE.*\n$/]
  ]
  const results = cases.map(async ([env, errors]) => {
    t.match(await startServer(t, env).ended, { code: 1, output: '', errors }, JSON.stringify(env))
  })
  await Promise.all(results)
})
