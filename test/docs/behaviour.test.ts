import { Signer } from '@fastify/cookie'
import type { FastifyInstance } from 'fastify'
import type { ExpressStore } from 'fastify-sesame/migrate'
import type { Response } from 'light-my-request'
import t, { type Test } from 'tap'
import { signIn as signInTyped, type SignedIn } from 'fastify-sesame/testing'
import { sealed } from '../migrate/fixtures/old-apps.js'
import { EXAMPLES, loadExample, NEEDS_ENGINE, type Example } from './fixtures/examples.js'

// Checks that the examples do what their pages say. The examples of recipes.md, of testing.md and of the databases have
// tests of their own.

/** Checks one example, whose app is ready for requests. */
type Check = (t: Test, example: Example) => Promise<void>

const HTML = { accept: 'text/html' }

/** Signs in with any data, because each example declares other keys. */
function signIn(app: FastifyInstance, data: object): Promise<SignedIn> {
  return signInTyped(app, data)
}

/** Stores a session as @fastify/session does, and returns its cookie. */
async function oldFastifyCookie(store: ExpressStore, data: object): Promise<string> {
  const session = { cookie: { expires: new Date(Date.now() + 60_000) }, ...data }
  await new Promise((resolve) => store.set('id', session as never, resolve))
  return `sessionId=${encodeURIComponent(new Signer('the secret of the old library, long enough').sign('id'))}`
}

/** Returns the `Cookie` header for the cookies that a reply has set. */
function cookiesOf({ headers }: Response): string {
  return [headers['set-cookie'] ?? []]
    .flat()
    .map((cookie) => cookie.split(';', 1)[0])
    .join('; ')
}

/** The checks, by page and heading. If a heading has several examples, each has its own check. */
const CHECKS: Record<string, Record<string, Check | readonly Check[]>> = {
  'README.md': {
    async 'fastify-sesame'(t, { app }) {
      const asked = await app.inject({ url: '/dashboard', headers: HTML })
      t.equal(asked.headers.location, '/login')
      const login = await app.inject({ method: 'POST', url: '/login', headers: { cookie: cookiesOf(asked) } })
      t.equal(login.headers.location, '/dashboard')
      const cookie = cookiesOf(login)
      const dashboard = async () =>
        (await app.inject({ url: '/dashboard', headers: { cookie } })).json<unknown>()
      t.same(await dashboard(), { userId: 'ada', message: 'Welcome back!' })
      t.same(await dashboard(), { userId: 'ada', message: 'Dashboard' })
      const headers = { cookie, 'sec-fetch-site': 'cross-site' }
      t.equal((await app.inject({ method: 'POST', url: '/logout', headers })).statusCode, 403)
      await app.inject({ method: 'POST', url: '/logout', headers: { cookie } })
      t.equal(
        (await app.inject({ url: '/dashboard', headers: { cookie, ...HTML } })).headers.location,
        '/login'
      )
    }
  },
  'docs/csrf.md': {
    async 'CSRF protection'(t, { app }) {
      const form = await app.inject('/form')
      const [, token = ''] = /name="_csrf" value="([\w-]{86})"/.exec(form.body) ?? []
      const send = (headers: object, payload: object) =>
        app.inject({
          method: 'POST',
          url: '/form',
          headers: { cookie: cookiesOf(form), ...headers },
          payload
        })
      t.equal((await send({}, { _csrf: token })).body, 'sent')
      t.equal((await send({ 'x-csrf-token': token }, {})).body, 'sent')
      t.equal((await send({}, {})).statusCode, 403)
      t.equal((await send({ 'sec-fetch-site': 'cross-site' }, { _csrf: token })).statusCode, 403)
    },
    async 'Requests from other sites'(t, { app }) {
      const headers = { 'sec-fetch-site': 'cross-site' }
      t.equal((await app.inject({ method: 'POST', url: '/webhook', headers })).statusCode, 200)
      t.equal((await app.inject({ method: 'POST', url: '/', headers })).statusCode, 403)
    },
    async 'Streamed bodies'(t, { app }) {
      const { cookie, csrfToken } = await signIn(app, { userId: 'ada' })
      const upload = async (token: string) => {
        const body = new FormData()
        body.append('_csrf', token)
        body.append('file', new Blob(['content']), 'a.txt')
        const { headers, body: payload } = new globalThis.Response(body)
        const type = headers.get('content-type') as string
        const bytes = Buffer.from(await new globalThis.Response(payload).arrayBuffer())
        return app.inject({
          method: 'POST',
          url: '/upload',
          headers: { cookie, 'content-type': type },
          payload: bytes
        })
      }
      t.equal((await upload(csrfToken)).body, 'uploaded')
      t.equal((await upload('wrong')).statusCode, 403)
    }
  },
  'docs/deploying.md': {},
  'docs/diagnostics.md': {
    async Diagnostics(t, { app }) {
      const lines: unknown[][] = []
      t.intercept(console, 'log', { value: (...line: unknown[]) => lines.push(line) })
      app.post('/logout', async ({ session }) => session.invalidate())
      const { cookie } = await signIn(app, { userId: 'ada' })
      await app.inject({ method: 'POST', url: '/logout', headers: { cookie } })
      t.match(lines, [['ended', { reason: 'invalidated' }]])
    }
  },
  'docs/errors.md': {
    async Errors(t, { app }) {
      app.get('/down', async () => {
        throw Object.assign(new Error('secret of the database'), { statusCode: 500 })
      })
      const refused = await app.inject({
        method: 'POST',
        url: '/',
        headers: { 'sec-fetch-site': 'cross-site' }
      })
      t.same([refused.statusCode, refused.body], [403, 'Please reload the form and send it again.'])
      t.equal((await app.inject('/down')).body, 'Something went wrong.')
    }
  },
  'docs/login.md': {
    async 'Login and logout'(t, { app }) {
      const asked = await app.inject({ url: '/account', headers: HTML })
      const login = await app.inject({ method: 'POST', url: '/login', headers: { cookie: cookiesOf(asked) } })
      t.equal(login.headers.location, '/account')
      const cookie = cookiesOf(login)
      t.equal((await app.inject({ url: '/account', headers: { cookie } })).body, 'Hello, ada')
      await app.inject({ method: 'POST', url: '/logout', headers: { cookie } })
      t.equal((await app.inject({ url: '/account', headers: { cookie } })).statusCode, 401)
    },
    async 'A login form'(t, { app }) {
      await app.ready()
      const send = (cookie: string, payload: object) =>
        app.inject({ method: 'POST', url: '/login', headers: { cookie }, payload })
      const wrong = await send('', { name: 'ada', password: 'wrong' })
      const page = await app.inject({ url: '/login', headers: { cookie: cookiesOf(wrong) } })
      t.match(page.body, '<p>Wrong name or password</p>')
      const login = await send('', { name: 'ada', password: 'lovelace' })
      t.equal((await app.inject({ url: '/', headers: { cookie: cookiesOf(login) } })).body, 'Hello, ada')
    },
    async 'Other devices'(t, { app }) {
      const here = await signIn(app, { userId: 'ada' })
      for (let count = 0; count < 2; count++) await signIn(app, { userId: 'ada' })
      const grace = await signIn(app, { userId: 'grace' })
      const devices = async ({ cookie }: { cookie: string }) =>
        (await app.inject({ url: '/devices', headers: { cookie } })).json<
          { id: string; isThisOne: boolean }[]
        >()
      const end = async (path: string) => {
        const headers = { cookie: here.cookie, 'x-csrf-token': here.csrfToken }
        return (await app.inject({ method: 'POST', url: `/devices/${path}`, headers })).headers.location
      }
      t.equal((await devices(here)).filter(({ isThisOne }) => isThisOne).length, 1)
      const [theirs] = await devices(grace)
      t.equal(await end(`${theirs?.id}/end`), '/devices')
      t.equal((await devices(grace)).length, 1)
      const other = (await devices(here)).find(({ isThisOne }) => !isThisOne)
      await end(`${other?.id}/end`)
      t.equal((await devices(here)).length, 2)
      await end('end-others')
      t.equal((await devices(here)).length, 1)
      t.equal((await devices(grace)).length, 1)
    }
  },
  'docs/moving.md': {
    async 'Moving from another library'(t, { app }) {
      app.get('/set', async ({ session }) => Object.assign(session, { user: 'ada' }))
      t.match((await app.inject('/set')).headers['set-cookie'], /^session_id=/)
    },
    async 'From @fastify/session'(t, { app, store }) {
      const cookie = await oldFastifyCookie(store as ExpressStore, { user: { id: 'ada' }, theme: 'dark' })
      app.get('/theme', async ({ session }) => [session.get('userId'), session.get('theme')])
      const moved = await app.inject({ url: '/theme', headers: { cookie } })
      t.same(moved.json(), ['ada', 'dark'])
      const logout = await app.inject({ method: 'POST', url: '/logout', headers: { cookie } })
      t.match(cookiesOf(logout), 'sessionId=; session_id=')
      t.equal((await app.inject({ url: '/theme', headers: { cookie } })).json<unknown[]>()[0], null)
    },
    async 'From @fastify/secure-session'(t, { app }) {
      app.get('/name', async ({ session }) => session.get('name') ?? 'nobody')
      const text = JSON.stringify({ name: 'Ada', __ts: Math.round(Date.now() / 1000) })
      const value = sealed(text, Buffer.alloc(32, 'key'))
      t.equal((await app.inject({ url: '/name', headers: { cookie: `session=${value}` } })).body, 'Ada')
    },
    async 'From express-session'(t, { app }) {
      const { headers } = await app.inject({ method: 'POST', url: '/login' })
      t.equal(headers.location, '/')
    },
    async 'From @fastify/jwt cookies'(t, { app }) {
      app.get('/', async ({ session }) => session.get('userId') ?? 'nobody')
      const first = await app.inject({ url: '/', headers: { cookie: 'a=b; token=jwt' } })
      t.equal(first.body, 'ada')
      t.equal((await app.inject({ url: '/', headers: { cookie: cookiesOf(first) } })).body, 'ada')
      t.equal((await app.inject('/')).body, 'nobody')
    },
    async 'Packages beside the session'(t, { app }) {
      app.get('/raw', async ({ raw, session }) => Reflect.get(raw, 'session') === session)
      t.equal((await app.inject('/raw')).body, 'true')
    },
    async 'Knowing when it is done'(t, { app }) {
      t.ok(await app.ready())
    }
  },
  'docs/options.md': {
    async Options(t, { app }) {
      app.get('/set', async ({ session }) => session.set('a', 1))
      const { headers } = await app.inject('/set')
      t.match(
        headers['set-cookie'],
        /^__Host-session=.*; Max-Age=(1800|1799); Path=\/; HttpOnly; Secure; SameSite=Lax$/
      )
      t.equal((await app.inject({ method: 'POST', url: '/set' })).statusCode, 403)
    },
    async 'Options of a route'(t, { app }) {
      t.equal((await app.inject('/health')).body, 'ok')
      const { cookie } = await signIn(app, { unread: 3 })
      t.equal((await app.inject({ url: '/unread', headers: { cookie } })).body, '3')
    },
    async Cookies(t, { app }) {
      app.get('/set', async ({ session }) => session.set('a', 1))
      const { headers } = await app.inject({ url: '/set', headers: { host: 'shop.example.org' } })
      t.match(headers['set-cookie'], /; Domain=example\.org;/)
    }
  },
  'docs/require-auth.md': {
    async 'Guarding routes'(t, { app }) {
      const ada = await signIn(app, { userId: 'ada' })
      const admin = await signIn(app, { userId: 'grace', role: 'admin' })
      const status = async (url: string, { cookie }: { cookie: string }) =>
        (await app.inject({ url, headers: { cookie } })).statusCode
      t.equal(await status('/account', ada), 200)
      t.equal((await app.inject('/account')).statusCode, 401)
      t.same([await status('/admin', ada), await status('/admin', admin)], [403, 200])
      const headers = { cookie: ada.cookie, 'x-csrf-token': ada.csrfToken }
      t.equal((await app.inject({ method: 'POST', url: '/password', headers })).body, 'changed')
    },
    async guarded(t, { app }) {
      const { cookie, csrfToken } = await signIn(app, { userId: 'ada' })
      t.same((await app.inject({ url: '/orders/7', headers: { cookie } })).json(), ['7', 'ada'])
      const headers = { cookie, 'x-csrf-token': csrfToken }
      t.equal((await app.inject({ method: 'POST', url: '/orders', headers })).body, 'ada')
      t.equal((await app.inject({ method: 'POST', url: '/orders', headers: { cookie } })).statusCode, 403)
    }
  },
  'docs/security.md': {
    async Security(t, { app }) {
      t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 403)
    },
    async 'NIST timeouts'(t, { app }) {
      t.ok(app) // test/security/pages.test.ts checks the presets
    }
  },
  'docs/session.md': {
    async Session(t, { app }) {
      t.same((await app.inject('/session')).json(), { keys: ['visits'], modified: true })
    },
    async 'Properties of other libraries'(t, { app }) {
      t.same((await app.inject('/me')).json(), { name: 'Ada', keys: ['user'] })
    },
    async 'Concurrent requests'(t, { app }) {
      const { cookie } = await signIn(app, {})
      const post = () => app.inject({ method: 'POST', url: '/cart', headers: { cookie } })
      await Promise.all([post(), post(), post()])
      t.same((await post()).json(), ['tea', 'tea', 'tea', 'tea'])
    },
    async Manager(t, { app }) {
      app.get('/', async () => 'ok')
      const { cookie } = await signIn(app, { userId: 'ada' })
      t.equal((await app.inject({ url: '/', headers: { cookie } })).body, 'ok')
    }
  },
  'docs/stores.md': {
    async Stores(t, { app }) {
      t.ok((await signIn(app, { userId: 'ada' })).cookie)
    },
    async SQLite(t, { app }) {
      await signIn(app, { userId: 'ada' })
      t.equal((await app.sessionManager.list('ada')).length, 1)
    },
    async 'express-session stores'(t, { app }) {
      app.get('/name', async ({ session }) => session.get('name'))
      const { cookie } = await signIn(app, { name: 'Ada' })
      t.equal((await app.inject({ url: '/name', headers: { cookie } })).body, 'Ada')
    }
  },
  'docs/types.md': {
    async Types(t, { app }) {
      t.same((await app.inject({ method: 'POST', url: '/cart' })).json(), ['tea'])
    },
    async 'Checking values at run time'(t, { app }) {
      app.get('/theme', async ({ session }) => session.set('theme', 'green'))
      t.equal((await app.inject('/theme')).json<{ code: string }>().code, 'SESSION_VALUE_INVALID')
    },
    async 'Functions that take a session'(t, { app }) {
      t.equal((await app.inject('/')).body, 'Hello, stranger')
    }
  }
}

for (const [page, checks] of Object.entries(CHECKS)) {
  for (const [heading, given] of Object.entries(checks)) {
    for (const [index, check] of [given].flat().entries())
      void t.test(`${page}, ${heading}: the example does what the page says`, async (t) => {
        const exported = heading === 'From @fastify/session' ? ['store'] : []
        const example = await loadExample(t, page, heading, { index, exported })
        await check(t, example)
      })
  }
  void t.test(`every example of ${page} is checked`, async (t) => {
    const examples = EXAMPLES.filter((example) => example.page === page && !NEEDS_ENGINE.test(example.code))
    const checked = Object.entries(checks).flatMap(([heading, given]) => [given].flat().map(() => heading))
    t.same(examples.map(({ heading }) => heading).sort(), checked.sort())
  })
}
