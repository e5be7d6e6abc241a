import t from 'tap'
import type { FastifyReply } from 'fastify'
import type { Session } from '../../plugin/index.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import { makeVisits, pushTo, valuesOf } from '../fixtures/visits.js'

/** Changes everything that a request can change, except for ending the session. */
function changeAll(session: Session, reply: FastifyReply): void {
  session.set('name', 'eve')
  session.update('count', () => 7)
  session.remove('gone')
  pushTo(session, 'list', 2)
  session.setFlash('note', 'hello')
  session.getFlash('old')
  reply.generateCsrf()
  session.regenerate(['name'])
  session.login('eve', { maxAge: 60 })
}

void t.test('rollback() drops everything that the request has changed', async (t) => {
  const { visit, browser } = await makeVisits(t)
  await visit((session) => {
    session.login('ada')
    for (const [key, value] of Object.entries({ name: 'ada', gone: 1, list: [1] })) session.set(key, value)
    session.setFlash('old', 'unread')
  })
  const { cookie } = browser
  const before = await visit(lookAt)
  const { calls, cookies, result } = await visit((session, _request, reply) => {
    changeAll(session, reply)
    session.rollback()
    return lookAt(session)
  })
  t.same([calls, cookies], [['get'], []])
  t.same(result, before.result)
  t.same((await visit(lookAt)).result, before.result)
  t.equal(browser.cookie, cookie)
  t.equal((await visit((session) => session.getFlash('old'))).result, 'unread')
})

function lookAt(session: Session) {
  const { id, createdAt, authenticatedAt, expiresAt, isNew, modified } = session
  return { id, createdAt, authenticatedAt, expiresAt, isNew, modified, ...valuesOf(session) }
}

void t.test('what the request changes after rollback() is saved', async (t) => {
  const { visit } = await makeVisits(t)
  await visit((session) => session.login('ada'))
  const { calls } = await visit((session, _request, reply) => {
    changeAll(session, reply)
    session.rollback()
    session.set('name', 'ada')
  })
  t.same(calls, ['get', 'update'])
  t.same((await visit(valuesOf)).result, { userId: 'ada', name: 'ada' })
})

void t.test('a visitor who is rolled back keeps the values of the visitor cookie', async (t) => {
  const { visit, browser } = await makeVisits(t)
  await visit((session) => session.setFlash('old', 'unread'))
  const { calls, cookies } = await visit((session, _request, reply) => {
    changeAll(session, reply)
    session.rollback()
    t.equal(session.modified, false)
  })
  t.same([calls, cookies, [...browser.cookies.keys()]], [[], [], ['session_id_visitor']])
  t.equal((await visit((session) => session.getFlash('old'))).result, 'unread')
})

void t.test('rollback() does not undo the end of a session', async (t) => {
  for (const end of [
    (session: Session) => session.invalidate(),
    (session: Session) => session.remove('userId'),
    (session: Session) => session.clear()
  ]) {
    const { visit, browser, memory } = await makeVisits(t)
    await visit((session) => session.login('ada'))
    const { calls } = await visit((session, _request, reply) => {
      end(session)
      changeAll(session, reply)
      session.rollback()
      t.same(valuesOf(session), {})
    })
    t.same([calls, browser.cookie, memory.size], [['get', 'destroy'], '', 0])
  }
})

void t.test(
  'rollback() throws after the session has been saved, and does nothing where it cannot change',
  async (t) => {
    const { app, attempt, visit } = await makeVisits(t)
    app.get('/off', { config: { session: false } }, async ({ session }) => session.rollback())
    const { response } = await attempt(async (session) => {
      session.set('name', 'ada')
      await session.save()
      session.rollback()
    })
    t.match(response.json(), { code: 'SESSION_COMMITTED' })
    await visit((session) => session.rollback(), undefined, 'readonly')
    t.equal((await app.inject('/off')).statusCode, 200)
  }
)

void t.test(
  'a login that fails afterwards is kept if the error handler redirects, unless it rolls back',
  async (t) => {
    for (const [rollsBack, user] of [
      [false, 'ada'],
      [true, null]
    ] as const) {
      const app = addRoutes(await makeApp(t))
      app.get('/who', async ({ session }) => ({ user: session.get('userId') ?? null }))
      app.get('/fails', async ({ session }) => {
        session.login('ada')
        throw new Error('no such account')
      })
      app.setErrorHandler(async (_error, { session }, reply) => {
        if (rollsBack) session.rollback()
        return reply.redirect('/who')
      })
      const browser = new Browser(app)
      t.equal((await browser.get('/fails')).statusCode, 302)
      t.same((await browser.get('/who')).json(), { user })
    }
  }
)
