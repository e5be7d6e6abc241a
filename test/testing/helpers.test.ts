import { mock } from 'node:test'
import t from 'tap'
import { Type } from 'typebox'
import { csrfProtection, MemoryStore, SessionConflictError } from '../../plugin/index.js'
import { signIn, spyStore, stopClock, wrapStore } from '../../plugin/testing/index.js'
import { addRoutes, makeApp } from '../fixtures/app.js'
import { makeRecord } from '../fixtures/stores.js'

void t.test('signIn() returns the cookie of a session that holds the given data', async (t) => {
  const app = addRoutes(await makeApp(t, { cookieName: 'sid' }))
  const { cookie } = await signIn(app, { name: 'Ada', userId: 'ada' })
  t.match(cookie, /^sid=[0-9a-f]{64}\.[\w-]{43}$/)
  const response = await app.inject({ url: '/read', headers: { cookie } })
  t.same(response.json(), { name: 'Ada' })
  t.match(await app.sessionManager.list('ada', { data: true }), [
    { userId: 'ada', data: { name: 'Ada', userId: 'ada' } }
  ])
})

void t.test('signIn() also returns a CSRF token of the session', async (t) => {
  const app = await makeApp(t)
  app.post('/form', { preHandler: csrfProtection }, async ({ session }) => session.get('userId'))
  const { cookie, csrfToken } = await signIn(app, { userId: 'ada' })
  const other = await signIn(app, { userId: 'bob' })
  const send = async (headers: Record<string, string>) =>
    app.inject({ method: 'POST', url: '/form', headers: { cookie, ...headers } })
  t.equal((await send({ 'x-csrf-token': csrfToken })).body, 'ada')
  t.equal((await send({ 'x-csrf-token': other.csrfToken })).statusCode, 403)
  t.equal((await send({})).statusCode, 403)
})

void t.test('a session that signIn() creates lives as long as a session that a login creates', async (t) => {
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const app = addRoutes(await makeApp(t, { maxAge: 60 }))
  const { cookie } = await signIn(app, { name: 'Ada' })
  const read = async () => (await app.inject({ url: '/read', headers: { cookie } })).json<unknown>()
  clock.move(59_999)
  t.same(await read(), { name: 'Ada' })
  clock.move(1)
  t.same(await read(), { name: null })
})

void t.test(
  'signIn() rejects if a value is not allowed in a session or if the store does not accept the record',
  async (t) => {
    const app = await makeApp(t, { schema: Type.Object({ name: Type.String() }) })
    await t.rejects(signIn(app, { name: 3 }), { code: 'SESSION_VALUE_INVALID', key: 'name' })
    const open = await makeApp(t)
    await t.rejects(signIn(open, { name: () => 3 }), { code: 'SESSION_VALUE_INVALID', key: 'name' })
    const full = await makeApp(t, {
      store: wrapStore(new MemoryStore(), (method, _args, next) => (method === 'create' ? false : next()))
    })
    await t.rejects(signIn(full, { name: 'Ada' }), SessionConflictError)
  }
)

void t.test('stopClock() throws where node:test cannot replace Date, as in Jest', async (t) => {
  const enable = t.capture(mock.timers, 'enable', () => undefined)
  t.throws(() => stopClock(), /use jest\.useFakeTimers\(\) instead/)
  t.equal(enable().length, 1)
})

void t.test('stopClock() stops time until move() or restore() is called', async (t) => {
  const before = Date.now()
  const clock = stopClock()
  t.ok(clock.start >= before)
  let ticks = 0
  const interval = setInterval(() => ticks++, 1000)
  clock.move(3000)
  clearInterval(interval)
  t.equal(Date.now(), clock.start + 3000)
  t.equal(ticks, 3)
  clock.restore()
  t.ok(Date.now() < clock.start + 3000)
  const other = stopClock(5)
  t.equal(Date.now(), 5)
  other.restore()
})

void t.test('spyStore() records all calls, and take() returns each call only once', async (t) => {
  const spy = spyStore()
  const record = makeRecord()
  t.equal(await spy.create('a', record), true)
  t.same(await spy.get('a'), record)
  t.same(spy.take(), [
    ['create', 'a', record],
    ['get', 'a']
  ])
  await spy.destroy('a')
  t.same(spy.takeNames(), ['destroy'])
  t.same(spy.take(), [])
})

void t.test('wrapStore() does not add methods that the store does not have', async (t) => {
  const { get, create, update, destroy } = spyStore()
  const store = wrapStore({ get, create, update, destroy }, (_method, _args, next) => next())
  t.same(Object.keys(store), ['get', 'create', 'update', 'destroy'])
})

void t.test('wrapStore() keeps rotationPrefix and ready()', async (t) => {
  const { get, create, update, destroy } = new MemoryStore()
  const spy = spyStore({ get, create, update, destroy, rotationPrefix: 2, ready: () => undefined })
  t.equal(spy.rotationPrefix, 2)
  await spy.ready?.()
  t.same(spy.takeNames(), ['ready'])
  t.notOk('rotationPrefix' in spyStore())
})
