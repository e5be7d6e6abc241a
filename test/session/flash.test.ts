import t from 'tap'
import type { Session } from '../../plugin/index.js'
import { Browser, makeApp } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

void t.test('getFlash() returns and removes a flash message set by an earlier request', async (t) => {
  const { visit } = await makeVisits(t)
  await visit((session) => {
    session.set('name', 'ada')
    session.setFlash('note', 'hello')
    session.setFlash('data', { a: [1] })
  })
  const read = (session: Session) => [
    session.peekFlash('note'),
    session.getFlash('note'),
    session.getFlash('note')
  ]
  t.match(await visit(read), { result: ['hello', 'hello', undefined], calls: ['get', 'update'] })
  t.match(await visit(read), { result: [undefined, undefined, undefined], calls: ['get'] })
  t.same((await visit((session) => session.peekFlash('data'))).result, { a: [1] })
  t.same(
    (await visit((session) => session.getFlash('data'))).result,
    { a: [1] },
    'peekFlash() leaves the message'
  )
})

void t.test('getFlash() returns and removes a flash message even in the request that sets it', async (t) => {
  const { visit } = await makeVisits(t)
  const { result } = await visit((session) => {
    session.setFlash('note', 'one')
    session.setFlash('note', 'two')
    return [session.peekFlash('note'), session.getFlash('note'), session.getFlash('note')]
  })
  t.same(result, ['two', 'two', undefined])
  t.equal((await visit((session) => session.peekFlash('note'))).result, undefined)
})

void t.test(
  'setting the same flash message again in a later request does not write to the store',
  async (t) => {
    const { visit } = await makeVisits(t)
    const flash = (session: Session) => session.setFlash('error', { text: 'Please login', code: 7 })
    await visit((session) => session.set('name', 'ada'))
    t.same((await visit(flash)).calls, ['get', 'update'])
    t.same((await visit(flash)).calls, ['get'])
    t.same((await visit((session) => session.setFlash('error', 'other'))).calls, ['get', 'update'])
  }
)

void t.test('an unread flash message expires after an hour', async (t) => {
  const { move } = stopClock(t)
  const { visit } = await makeVisits(t)
  await visit((session) => session.setFlash('note', 'hello'))
  move(3_599_999)
  t.equal((await visit((session) => session.peekFlash('note'))).result, 'hello')
  move(1)
  t.equal((await visit((session) => session.peekFlash('note'))).result, undefined)
  await visit((session) => session.setFlash('note', 'hello'))
  t.equal(
    (await visit((session) => session.getFlash('note'))).result,
    'hello',
    'the message can be set again'
  )
})

void t.test(
  'C14: an unread flash message expires, and a failed response does not consume a message',
  async (t) => {
    const clock = stopClock(t)
    const app = await makeApp(t, { cleanupInterval: 0 })
    const browser = new Browser(app)
    let fails = true
    app.get('/flash', async ({ session }) => {
      const message = session.getFlash('note')
      if (fails) throw new Error('failed to render')
      return { message: message ?? null }
    })
    app.get('/note', async ({ session }) => {
      session.setFlash('note', 'read me')
      return 'noted'
    })
    await browser.get('/note')
    t.equal((await browser.get('/flash')).statusCode, 500)
    fails = false
    t.same((await browser.get('/flash')).json(), { message: 'read me' })
    t.same((await browser.get('/flash')).json(), { message: null })
    await browser.get('/note')
    clock.move(3_600_000)
    t.same((await browser.get('/flash')).json(), { message: null })
  }
)

void t.test('a malformed flash message in the store is treated as absent', async (t) => {
  const { visit, memory } = await makeVisits(t)
  const { result: id } = await visit((session) => session.set('name', 'ada') ?? session.id)
  for (const text of ['"hello"', 'null', '7', '[]', '{"value":"hello"}', '{"value":"x","at":"now"}', '{']) {
    const now = Date.now()
    memory.update(id, { set: { '$flash.x': text }, remove: [], lastAccessed: now, expiresAt: now + 60_000 })
    t.equal((await visit((session) => session.getFlash('x'))).result, undefined, text)
    t.same(Object.keys(memory.get(id)?.data ?? {}), ['name'], 'reading removes the malformed message')
  }
})

void t.test(
  'a login that also sets a flash message makes one store write and keeps the session data',
  async (t) => {
    const { visit } = await makeVisits(t)
    const before = await visit((session) => session.set('cart', [1]) ?? session.id)
    const login = await visit((session) => {
      session.regenerate()
      session.set('userId', 'ada')
      session.setFlash('success', 'Welcome back!')
      return session.id
    })
    t.same(login.calls, ['get', 'update'])
    const after = await visit((session) => [session.id, valuesOf(session), session.getFlash('success')])
    t.same(after.result, [login.result, { cart: [1], userId: 'ada' }, 'Welcome back!'])
    t.not(login.result, before.result)
  }
)
