import { stopClock } from 'fastify-sesame/testing'
import { Browser } from '../fixtures/app.js'
import { addProbes, post, probe, recipe, signedIn } from './fixtures/recipes.js'

const HTML = { accept: 'text/html' }
const DAY = 86_400_000

recipe('Remember me', async (t, load) => {
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const { app } = await load()
  addProbes(app)
  const [remembered, other] = [new Browser(app), new Browser(app)]
  t.match((await post(remembered, '/login', { remember: 'on' })).cookies, [{ maxAge: 30 * 86_400 }])
  const [cookie] = (await post(other, '/login')).cookies
  t.equal(cookie?.maxAge, undefined, 'the browser deletes this cookie when it closes')
  t.same(await probe(other), { userId: 'ada' })
  clock.move(DAY)
  t.same(await probe(other), {})
  clock.move(28.9 * DAY)
  t.same(await probe(remembered), { userId: 'ada' })
  clock.move(0.1 * DAY)
  t.same(await probe(remembered), {})
})

recipe('Return to the page after the login', async (t, load) => {
  const { app } = await load()
  for (const [asked, shown] of [
    ['/orders?page=2', '/orders?page=2'],
    ['/articles/7%2F8/comment', '/articles/7%2F8/comment']
  ] as const) {
    const browser = new Browser(app)
    t.equal((await browser.get(asked, HTML)).headers.location, '/login')
    t.equal((await post(browser, '/login')).headers.location, shown)
    t.equal((await post(browser, '/login')).headers.location, '/account', 'it is forgotten')
  }
  const { browser } = await signedIn(app, { userId: 'ada' })
  t.equal((await browser.get('/orders')).body, 'Orders of ada')
  t.equal((await browser.get('/articles/7%2F8/comment')).headers.location, '/articles/7%2F8#comment')
})

recipe('Ask for the password again before a dangerous action', async (t, load) => {
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const { app } = await load()
  addProbes(app)
  t.equal((await new Browser(app).get('/account/delete', HTML)).headers.location, '/login')
  const { browser, headers } = await signedIn(app, { userId: 'ada', theme: 'dark' })
  t.equal((await post(browser, '/account/delete', {}, headers)).body, 'deleted', 'a fresh login')
  clock.move(300_000)
  t.equal((await browser.get('/account/delete', HTML)).headers.location, '/confirm')
  t.equal((await post(browser, '/account/delete', {}, headers)).statusCode, 401)
  t.equal((await post(browser, '/account/delete')).statusCode, 403, 'without a CSRF token')
  t.equal((await browser.get('/confirm')).body, 'Please enter your password')
  t.equal((await post(browser, '/confirm', { password: 'x' }, headers)).headers.location, '/confirm')
  t.equal((await browser.get('/account/delete', HTML)).statusCode, 302, 'a wrong password does not help')
  const confirmed = await post(browser, '/confirm', { password: 'lovelace' }, headers)
  t.equal(confirmed.headers.location, '/account/delete')
  t.same(await probe(browser), { userId: 'ada', theme: 'dark' }, 'the data stays')
  const token = (await browser.get('/token')).body
  t.equal((await post(browser, '/account/delete', {}, { 'x-csrf-token': token })).body, 'deleted')
})

recipe('Change of password', async (t, load) => {
  const { app, users } = await load({ exported: ['users'] })
  addProbes(app)
  const { browser, headers } = await signedIn(app, { userId: 'ada', theme: 'dark' })
  const { browser: other } = await signedIn(app, { userId: 'ada' })
  const { browser: grace } = await signedIn(app, { userId: 'grace' })
  const before = browser.cookie
  const payload = { old: 'lovelace', new: 'a better one' }
  t.equal((await post(browser, '/password', payload)).statusCode, 403, 'without a CSRF token')
  t.equal((await post(browser, '/password', { ...payload, old: 'x' }, headers)).statusCode, 403)
  t.same(await probe(other), { userId: 'ada' })
  t.match(users, { password: 'lovelace' })
  t.match((await post(browser, '/password', payload, headers)).body, 'The password was changed')
  t.match(users, { password: 'a better one' })
  t.same(await probe(browser), { userId: 'ada', theme: 'dark' })
  t.not(browser.cookie, before, 'the session has a new id')
  t.same(await probe(other), {}, 'the other session of the user has ended')
  t.same(await probe(grace), { userId: 'grace' })
})

recipe('Keep the cart at the login', async (t, load) => {
  const { app } = await load()
  app.post('/merge', async ({ session }) => {
    session.login('ada')
    return { cart: session.take('cart') ?? null }
  })
  const visitor = new Browser(app)
  await post(visitor, '/cart', { item: 'tea' })
  t.same((await post(visitor, '/cart', { item: 'milk' })).json(), ['tea', 'milk'])
  await post(visitor, '/login')
  t.same((await visitor.get('/checkout')).json(), ['tea', 'milk'])
  t.same((await post(visitor, '/merge')).json(), { cart: ['tea', 'milk'] })
  const { browser: grace } = await signedIn(app, { userId: 'grace', cart: ['gin'] })
  t.same((await post(grace, '/merge')).json(), { cart: null }, 'take() after a login of another user')
  const { browser: next } = await signedIn(app, { userId: 'grace', cart: ['gin'], theme: 'dark' })
  await post(next, '/login')
  t.same((await next.get('/checkout')).json(), [], 'ada does not see the cart of grace')
})

recipe('Log out idle users and warn them before', async (t, load) => {
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const { app } = await load()
  const { browser } = await signedIn(app, { userId: 'ada' })
  const left = async () => (await browser.get('/session/left')).json<{ seconds: number }>().seconds
  t.equal(await left(), 900)
  clock.move(780_000)
  t.equal(await left(), 120)
  t.equal(await left(), 120, 'asking does not extend the session')
  await post(browser, '/session/stay')
  t.equal(await left(), 900)
  clock.move(900_000)
  t.equal(await left(), 0)
})

recipe('Log in with Passport', async (t, load) => {
  const { app } = await load()
  const browser = new Browser(app)
  t.equal((await browser.get('/account')).statusCode, 401)
  t.equal((await post(browser, '/login')).headers.location, '/account')
  t.match((await browser.get('/account')).json(), { user: { id: 'ada' }, since: Number })
  const [session] = await app.sessionManager.list('ada')
  t.ok(session, 'the session belongs to the user')
  const { cookie } = browser
  t.equal((await post(browser, '/logout')).headers.location, '/')
  t.equal((await app.inject({ url: '/account', headers: { cookie } })).statusCode, 401)
  t.same(await app.sessionManager.list('ada'), [])
})

recipe('Sign in as another user (impersonation)', async (t, load) => {
  const { app, admins } = await load({ exported: ['admins'] })
  addProbes(app)
  const token = async (browser: Browser) => ({ 'x-csrf-token': (await browser.get('/token')).body })
  const { browser: ada } = await signedIn(app, { userId: 'ada' })
  t.equal(
    (await post(ada, '/impersonate/grace', {}, await token(ada))).statusCode,
    403,
    'not an administrator'
  )
  t.equal((await post(ada, '/impersonate/end', {}, await token(ada))).statusCode, 403)

  const { browser: admin } = await signedIn(app, { userId: 'root', theme: 'dark' })
  t.equal((await post(admin, '/impersonate/ada')).statusCode, 403, 'without a CSRF token')
  t.equal((await post(admin, '/impersonate/root', {}, await token(admin))).statusCode, 403)
  t.equal((await post(admin, '/impersonate/ada', {}, await token(admin))).statusCode, 303)
  t.same(await probe(admin), { userId: 'ada', admin: 'root' })
  const lives = (await app.sessionManager.list('ada')).map(
    ({ createdAt, expiresAt }) => expiresAt - createdAt
  )
  t.same(new Set(lives), new Set([86_400_000, 3_600_000]), 'the session is in the list of the user')
  t.equal(await app.sessionManager.revokeAll('root'), 0)
  ;(admins as Set<string>).delete('root')
  t.equal((await post(admin, '/impersonate/end', {}, await token(admin))).statusCode, 403, 'no longer one')
  ;(admins as Set<string>).add('root')
  t.equal((await post(admin, '/impersonate/end')).statusCode, 403, 'without a CSRF token')
  t.equal((await post(admin, '/impersonate/end', {}, await token(admin))).statusCode, 303)
  t.same(await probe(admin), { userId: 'root' })
})

recipe('Change the role of a user who is signed in', async (t, load) => {
  const { app, roles } = await load({ exported: ['roles'] })
  const { browser } = await signedIn(app, { userId: 'ada' })
  t.equal((await browser.get('/articles/edit')).body, 'the editor')
  ;(roles as Map<string, string>).set('ada', 'reader')
  t.equal((await browser.get('/articles/edit')).statusCode, 403)
})

recipe('Log out many users at once', async (t, load) => {
  const { app, epochs } = await load({ exported: ['epochs'] })
  const browser = new Browser(app)
  await post(browser, '/login')
  t.equal((await browser.get('/account')).body, 'Hello, ada')
  ;(epochs as Map<string, number>).set('ada', 2)
  t.equal((await browser.get('/account', HTML)).statusCode, 403)
  t.same(await app.sessionManager.list('ada'), [], 'the session has ended')
  t.equal((await browser.get('/account', HTML)).headers.location, '/login')
  await post(browser, '/login')
  t.equal((await browser.get('/account')).body, 'Hello, ada')
  const { browser: without } = await signedIn(app, { userId: 'ada' })
  t.equal((await without.get('/account')).statusCode, 403)
})

recipe('User ids of MongoDB or BigInt', async (t, load) => {
  const { app } = await load()
  app.post('/wrong', async ({ session }) => session.login(9n as never))
  const browser = new Browser(app)
  t.equal((await post(browser, '/wrong')).statusCode, 500)
  await post(browser, '/login')
  t.same((await browser.get('/account')).json(), { found: true })
  t.equal((await app.sessionManager.list('9007199254740993')).length, 1)
})
