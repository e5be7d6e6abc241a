import formbody from '@fastify/formbody'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { codeOf, loadRecipe } from '../docs/fixtures/recipes.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import { cookieOf, leave } from './fixtures/page-actions.js'
import { serve, type Server } from './fixtures/server.js'

// Tests the recipes of docs/recipes.md that depend on what a browser does. Two ports of one host are two origins of one
// site. 127.0.0.1 and app.localhost are two sites.

const chromium = useChromium(t)

/** Starts a site that answers each GET request with a page made by `content`. */
async function serveSite(t: Test, content: (query: Record<string, string>) => string): Promise<Server> {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get<{ Querystring: Record<string, string> }>('/*', async ({ query }, reply) =>
    reply
      .type('text/html')
      .send(`<!doctype html><title>Site</title><link rel="icon" href="data:,"><body>${content(query)}`)
  )
  return serve(t, app)
}

const SPA = 'A single-page application on another origin'

/** Starts the API of the recipe for the page's host. Opens the page with the recipe's script. */
async function openSpa(t: Test, host: string, options = ''): Promise<{ page: Page; script: string }> {
  let script = ''
  const front = await serveSite(t, () => `<script>${script}</script>`)
  const { app } = await loadRecipe(t, SPA, {
    replace: { 'https://app.example.com': front.at(host), '{ secret, csrf:': `{ secret, ${options} csrf:` }
  })
  const api = await serve(t, app)
  script = codeOf(SPA, 'js').replace('https://api.example.com', api.at('127.0.0.1'))
  const page = await chromium.window()
  await page.goto(front.at(host))
  return { page, script }
}

const logIn = (page: Page) => page.evaluate<unknown>("post('/login', { name: 'ada' })")
const account = (page: Page) => page.evaluate<unknown>("get('/account').catch(({ message }) => message)")
const REFUSED = '/account was answered with 401'

for (const [name, host, options] of [
  ['of the same site', '127.0.0.1', ''],
  ["of another site, with sameSite: 'none'", 'app.localhost', "cookie: { sameSite: 'none' },"]
] as const) {
  void t.test(`${SPA}: the script of a page ${name} logs in`, { skip }, async (t) => {
    const { page } = await openSpa(t, host, options)
    t.equal(await account(page), REFUSED)
    t.same(await logIn(page), { userId: 'ada' })
    t.same(await account(page), { userId: 'ada' })
    t.same(await logIn(page), { userId: 'ada' }, 'the script fetches a new token after the login')
  })
}

void t.test(`${SPA}: with SameSite=Lax, a page of another site stays signed out`, { skip }, async (t) => {
  const { page } = await openSpa(t, 'app.localhost')
  await t.rejects(logIn(page), /403/, 'the browser sends no cookie, so the token is not valid')
  t.equal(await account(page), REFUSED)
})

void t.test(`${SPA}: the script of a page that is not trusted cannot use the API`, { skip }, async (t) => {
  const { page, script } = await openSpa(t, '127.0.0.1')
  await logIn(page)
  const evil = await serveSite(t, () => `<script>${script}</script>`)
  await page.goto(evil.at('127.0.0.1'))
  t.equal(await account(page), 'Failed to fetch')
  await t.rejects(logIn(page), /Failed to fetch/)
})

const APPLE = 'Sign in with Apple and returns from a bank'

void t.test(
  `${APPLE}: the login keeps the cart, and a forged return changes nothing`,
  { skip },
  async (t) => {
    let done = ''
    const provider = await serveSite(
      t,
      ({ state = 'forged' }) => `<form method="post" action="${done}"><input name="code" value="7">
      <input name="state" value="${state}"></form><script>document.forms[0].submit()</script>`
    )
    const { app } = await loadRecipe(t, APPLE, {
      replace: { 'https://appleid.apple.com': provider.at('provider.localhost') }
    })
    app.get('/cart', async ({ session }) => session.set('cart', ['tea']))
    app.get('/', async ({ session }) => ({ user: session.get('userId'), cart: session.get('cart') }))
    const server = await serve(t, app)
    const url = server.at('127.0.0.1')
    done = `${url}/login/apple/done`
    const page = await chromium.window()
    await page.goto(`${url}/cart`)
    await page.goto(`${url}/login/apple`)
    await page.waitForURL(`${url}/`)
    const body = () => page.locator('body').innerText()
    t.equal(await body(), '{"user":"apple-7","cart":["tea"]}')
    const { headers } = await server.saw('POST', '/login/apple/done')
    t.equal(headers.cookie, undefined, 'SameSite withholds the cookie')

    const cookie = await cookieOf(page, url)
    await page.goto(provider.at('provider.localhost'))
    await page.waitForURL(/login\/apple\/done\?/)
    t.equal(await body(), 'Please sign in again.')
    t.equal(await cookieOf(page, url), cookie, 'the session is not replaced')
    await page.goto(url)
    t.equal(await body(), '{"user":"apple-7","cart":["tea"]}')
  }
)

/** Adds a page with a form that has no CSRF token. */
async function addForm(app: FastifyInstance): Promise<void> {
  await app.register(formbody)
  app.get('/form', async (_request, reply) =>
    reply.type('text/html').send('<!doctype html><form method="post"><button>Send</button></form>')
  )
}

const NULL = 'Forms fail because the origin is null'
for (const [name, replace, status] of [
  ["with helmet's defaults", { "policy: 'same-origin'": "policy: 'no-referrer'" }, 403],
  ['with the recipe', {}, 200]
] as const) {
  void t.test(`${NULL}: a form over plain HTTP ${name} gets ${status}`, { skip }, async (t) => {
    const { app } = await loadRecipe(t, NULL, { replace })
    await addForm(app)
    app.post('/form', async () => 'sent')
    const server = await serve(t, app)
    const page = await chromium.window()
    await page.goto(`${server.at('shop.test')}/form`)
    await leave(page, 'setTimeout(() => document.forms[0].requestSubmit())')
    const { headers, statusCode } = await server.saw('POST', '/form')
    t.equal(statusCode, status)
    t.equal(headers.origin, status === 403 ? 'null' : server.at('shop.test'))
  })
}

const CSRF = 'CSRF errors as a page'

void t.test(`${CSRF}: the link opens the form again`, { skip }, async (t) => {
  const { app } = await loadRecipe(t, CSRF)
  const preHandler = app.csrfProtection
  await addForm(app)
  app.post('/form', { preHandler }, async () => 'sent')
  const url = (await serve(t, app)).at('127.0.0.1')
  const page = await chromium.window()
  await page.goto(`${url}/form?page=2`)
  await leave(page, 'setTimeout(() => document.forms[0].requestSubmit())')
  t.match(await page.title(), 'send the form again')
  await leave(page, "setTimeout(() => document.querySelector('a').click())")
  t.equal(page.url(), `${url}/form?page=2`)
  t.equal(await page.locator('button').count(), 1)
})
