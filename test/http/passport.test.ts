import { Authenticator, Strategy } from '@fastify/passport'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { MemoryStore, requireAuth, type SessionOptions } from '../../plugin/index.js'
import { Browser, makeApp } from '../fixtures/app.js'

// Tests this library below @fastify/passport.

/** Signs in whoever the query names. */
class NameStrategy extends Strategy {
  constructor() {
    super('name')
  }

  override authenticate(request: FastifyRequest): void {
    this.success({ name: (request.query as { name: string }).name })
  }
}

async function setUp(t: Test, userKey?: string, options: Partial<SessionOptions> = {}, clears = true) {
  const memory = new MemoryStore()
  const app = await makeApp(t, {
    store: memory,
    cleanupInterval: 0,
    ...options,
    ...(userKey !== undefined && { userKey })
  })
  const passport = new Authenticator({ clearSessionOnLogin: clears })
  passport.registerUserSerializer<{ name: string }, string>(async ({ name }) => name)
  passport.registerUserDeserializer<string, { name: string }>(async (name) => ({ name }))
  passport.use(new NameStrategy())
  await app.register(passport.initialize())
  await app.register(passport.secureSession())
  addRoutes(app, passport)
  return { app, memory, browser: new Browser(app) }
}

function addRoutes(app: FastifyInstance, passport: InstanceType<typeof Authenticator>): void {
  const preValidation = passport.authenticate('name', { authInfo: false })
  const keeping = passport.authenticate('name', { authInfo: false, keepSessionInfo: true })
  app.get('/login', { preValidation }, async ({ session }) => session.id)
  app.get('/login-and-keep', { preValidation: keeping }, async ({ session }) => session.id)
  app.get('/logout', async (request) => request.logOut())
  app.get('/set', async ({ session, query }) => session.set('role', (query as { role: string }).role))
  app.get('/read', async ({ user, session }) => ({ user, role: session.get('role') }))
  app.get('/members', { preHandler: requireAuth() }, async ({ session }) => session.authenticatedAt)
}

for (const userKey of ['passport', undefined]) {
  const name = `userKey: ${userKey ?? 'the default'}`

  void t.test(
    `@fastify/passport: a login gives the session a new id, and a logout ends it (${name})`,
    async (t) => {
      const { memory, browser } = await setUp(t, userKey)
      await browser.get('/set?role=guest')
      const before = browser.cookie
      const { body: id } = await browser.get('/login?name=ada')
      t.not(browser.cookie, before)
      t.same((await browser.get('/read')).json(), { user: { name: 'ada' } })
      t.equal(memory.get(id)?.userId, userKey === undefined ? null : 'ada')
      const signedIn = browser.cookie
      await browser.get('/logout')
      t.same((await browser.get('/read')).json(), { user: null })
      browser.cookies.set('session_id', signedIn.replace('session_id=', ''))
      t.same((await browser.get('/read')).json(), { user: null }, 'the old cookie is dead')
    }
  )

  void t.test(
    `F3: @fastify/passport: a login as another user leaves nothing of the first one (${name})`,
    async (t) => {
      const { memory, browser } = await setUp(t, userKey)
      await browser.get('/login?name=ada')
      await browser.get('/set?role=admin')
      t.same((await browser.get('/read')).json(), { user: { name: 'ada' }, role: 'admin' })
      await browser.get('/login?name=bob')
      t.same((await browser.get('/read')).json(), { user: { name: 'bob' } })
      t.equal(memory.size, 1)
    }
  )
}

void t.test(
  '@fastify/passport: with its key as userKey, requireAuth and revokeAll know its users',
  async (t) => {
    const { app, browser } = await setUp(t, 'passport')
    t.equal((await browser.get('/members')).statusCode, 401)
    await browser.get('/login?name=ada')
    t.equal((await browser.get('/members')).statusCode, 200)
    t.equal(await app.sessionManager.revokeAll('ada'), 1)
    t.equal((await browser.get('/members')).statusCode, 401)
  }
)

for (const userKey of ['passport', undefined]) {
  const name = `userKey: ${userKey ?? 'the default'}`

  void t.test(`@fastify/passport: keepSessionInfo needs properties: true (${name})`, async (t) => {
    for (const properties of [false, true]) {
      const { memory, browser } = await setUp(t, userKey, { properties })
      await browser.get('/set?role=guest')
      const before = browser.cookie
      await browser.get('/login-and-keep?name=ada')
      t.not(browser.cookie, before)
      const role = properties ? { role: 'guest' } : {}
      t.same((await browser.get('/read')).json(), { user: { name: 'ada' }, ...role })
      t.equal(memory.size, 1)
    }
  })

  void t.test(
    `@fastify/passport: login and logout are the same with properties: true (${name})`,
    async (t) => {
      const { memory, browser } = await setUp(t, userKey, { properties: true })
      await browser.get('/set?role=guest')
      await browser.get('/login?name=ada')
      t.same((await browser.get('/read')).json(), { user: { name: 'ada' } }, 'passport clears the session')
      await browser.get('/set?role=admin')
      await browser.get('/login?name=bob')
      t.same((await browser.get('/read')).json(), { user: { name: 'bob' } }, 'F3: nothing of ada stays')
      await browser.get('/logout')
      t.same((await browser.get('/read')).json(), { user: null })
      t.equal(memory.size, userKey === undefined ? 1 : 0)
    }
  )
}

void t.test('F3: @fastify/passport without clearSessionOnLogin hands no data to another user', async (t) => {
  for (const properties of [false, true]) {
    const { browser } = await setUp(t, 'passport', { properties }, false)
    await browser.get('/set?role=guest')
    await browser.get('/login?name=ada')
    t.same((await browser.get('/read')).json(), { user: { name: 'ada' }, role: 'guest' })
    await browser.get('/login?name=bob')
    t.same((await browser.get('/read')).json(), { user: { name: 'bob' } })
  }
})
