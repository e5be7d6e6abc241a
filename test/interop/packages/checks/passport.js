import { deepEqual, equal, notEqual } from 'node:assert/strict'
import { Authenticator, Strategy } from '@fastify/passport'
import { requireAuth } from '../../../../dist/index.js'

export const packages = ['@fastify/passport']
export const refuses = { before: /session/ }
export const notes = [
  'Register it after fastify-sesame: otherwise registration fails.',
  "Set `userKey: 'passport'`, so that a login by Passport is a login of this library too.",
  '`keepSessionInfo` needs `properties: true`. Without it, the login removes all data. With both, the data stays even if another user was signed in before.',
  'With it, an error that a deserializer throws also signs the user out, because Passport then calls `logOut()`.',
  'An instance with a `key` of its own also needs `clearSessionIgnoreFields` with the keys of the other instances.'
]

/** Signs in the user that the body names. */
class NameStrategy extends Strategy {
  authenticate({ body }) {
    this.success({ name: body.name })
  }
}

function makePassport(options, deserialize = async (name) => ({ name })) {
  const passport = new Authenticator(options)
  passport.registerUserSerializer(async ({ name }) => name)
  passport.registerUserDeserializer(deserialize)
  return passport.use('name', new NameStrategy('name'))
}

async function registerPassport(app, passport) {
  await app.register(passport.initialize())
  await app.register(passport.secureSession())
}

function addLogin(app, passport, path, options = {}) {
  const preValidation = passport.authenticate('name', { authInfo: false, ...options })
  app.post(path, { preValidation }, async ({ session }) => ({ id: session.id }))
}

function startWithPassport(start, session, options = {}, passport = makePassport(options)) {
  return start({
    session,
    register: (app) => registerPassport(app, passport),
    routes(app) {
      addLogin(app, passport, '/login')
      addLogin(app, passport, '/login-and-keep', { keepSessionInfo: true })
      app.post('/logout', async (request) => (await request.logOut(), {}))
      app.post('/login-by-hand', async (request) => (await request.logIn(request.body), {}))
      app.post('/set', async ({ session, body }) => (session.set('role', body.role), { id: session.id }))
      app.get('/', async ({ user, session }) => ({ user, role: session.get('role') ?? null, id: session.id }))
      app.get('/members', { preHandler: requireAuth({ loginPath: '/login' }) }, async () => ({
        isMember: true
      }))
      app.get('/revoke', async () => ({ count: await app.sessionManager.revokeAll('ada') }))
    }
  })
}

/** Runs a check with every setting that should not matter to it. */
function always(check) {
  return async ({ start }) => {
    for (const userKey of ['passport', 'userId']) {
      for (const properties of [false, true]) {
        await check((options) => startWithPassport(start, { userKey, properties }, options))
      }
    }
  }
}

const seenBy = async (browser) => {
  const { user, role } = await browser.get()
  return { name: user?.name ?? null, role }
}

export const checks = {
  'a login gives the session a new id, and a logout ends it': always(async (start) => {
    const browser = await start()
    const before = await browser.post('/set', { role: 'guest' })
    const early = browser.copy()
    notEqual((await browser.post('/login', { name: 'ada' })).id, before.id)
    deepEqual(await seenBy(browser), { name: 'ada', role: null })
    deepEqual(await seenBy(early), { name: null, role: null })
    const thief = browser.copy()
    await browser.post('/logout')
    deepEqual(await seenBy(browser), { name: null, role: null })
    deepEqual(await seenBy(thief), { name: null, role: null })
  }),

  'request.logIn() of another user leaves nothing of the first user': always(async (start) => {
    const browser = await start()
    await browser.post('/login-by-hand', { name: 'ada' })
    await browser.post('/set', { role: 'admin' })
    deepEqual(await seenBy(browser), { name: 'ada', role: 'admin' })
    await browser.post('/login-by-hand', { name: 'bob' })
    deepEqual(await seenBy(browser), { name: 'bob', role: null })
  }),

  async 'with userKey and clearSessionOnLogin: false, only the data of a visitor stays'({ start }) {
    for (const properties of [false, true]) {
      const session = { userKey: 'passport', properties }
      const browser = await startWithPassport(start, session, { clearSessionOnLogin: false })
      await browser.post('/set', { role: 'guest' })
      await browser.post('/login', { name: 'ada' })
      deepEqual(await seenBy(browser), { name: 'ada', role: 'guest' })
      await browser.post('/login', { name: 'bob' })
      deepEqual(await seenBy(browser), { name: 'bob', role: null })
    }
  },

  async 'with userKey, requireAuth and revokeAll know the user'({ start }) {
    const browser = await startWithPassport(start, { userKey: 'passport' })
    notEqual((await browser.get('/members')).status, 200)
    await browser.post('/login', { name: 'ada' })
    equal((await browser.get('/members')).status, 200)
    equal((await browser.get('/revoke')).count, 1)
    deepEqual(await seenBy(browser), { name: null, role: null })
  },

  async 'keepSessionInfo keeps all data with properties: true, even of another user, and no data without'({
    start
  }) {
    for (const properties of [true, false]) {
      const browser = await startWithPassport(start, { userKey: 'passport', properties })
      const before = await browser.post('/set', { role: 'guest' })
      notEqual((await browser.post('/login-and-keep', { name: 'ada' })).id, before.id)
      deepEqual(await seenBy(browser), { name: 'ada', role: properties ? 'guest' : null })
      await browser.post('/set', { role: 'admin' })
      await browser.post('/login-and-keep', { name: 'bob' })
      deepEqual(await seenBy(browser), { name: 'bob', role: properties ? 'admin' : null })
    }
  },

  async 'after an error of the deserializer, the user is signed out only with userKey'({ start }) {
    for (const userKey of ['passport', 'userId']) {
      let isBroken = false
      const passport = makePassport({}, async (name) => {
        if (isBroken) throw new Error('the database is down')
        return { name }
      })
      const browser = await startWithPassport(start, { userKey }, {}, passport)
      await browser.post('/login', { name: 'ada' })
      isBroken = true
      equal((await browser.get()).status, 500)
      isBroken = false
      equal((await seenBy(browser)).name, userKey === 'passport' ? null : 'ada')
    }
  },

  async 'two instances with keys of their own are signed in side by side'({ start }) {
    const shop = makePassport({ clearSessionIgnoreFields: ['admin'] })
    const admin = makePassport({
      key: 'admin',
      userProperty: 'admin',
      clearSessionIgnoreFields: ['passport']
    })
    // Two instances decorate the same names, so each needs a context of its own.
    const scopeOf = (passport, prefix) => async (scope) => {
      await registerPassport(scope, passport)
      addLogin(scope, passport, `${prefix}/login`)
      scope.get(prefix, async ({ user, admin }) => ({ name: (user ?? admin)?.name ?? null }))
    }
    const browser = await start({
      session: { userKey: 'passport' },
      register: (app) => app.register(scopeOf(shop, '/shop')),
      routes: (app) => app.register(scopeOf(admin, '/admin'))
    })
    await browser.post('/shop/login', { name: 'ada' })
    await browser.post('/admin/login', { name: 'root' })
    equal((await browser.get('/shop')).name, 'ada')
    equal((await browser.get('/admin')).name, 'root')
  }
}
