import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { MemoryStore, type Session, type SessionRecord } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { wrap } from '../fixtures/stores.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

const MINUTE = 60_000
const DAY = 86_400_000

void t.test(
  'a login whose session ended meanwhile does not take over the CSRF secret of the visitor cookie',
  async (t) => {
    const { app, memory, browser, visit } = await makeVisits(t)
    const { result: old } = await visit((session) => session.set('cart', 1) ?? session.id)
    const withheld = new Browser(app)
    await visit((session, _request, reply) => {
      session.setFlash('note', 'hello')
      reply.generateCsrf()
    }, withheld)
    browser.cookies.set('session_id_visitor', withheld.cookies.get('session_id_visitor') as string)
    const { result: id } = await visit((session) => {
      session.login('ada')
      memory.destroy(old)
      return session.id
    })
    t.same(Object.keys(memory.get(id)?.data ?? {}).sort(), ['$flash.note', 'userId'])
  }
)

const UNDOS: Record<string, (session: Session) => unknown> = {
  "remove('userId')": (session) => session.remove('userId'),
  'clear()': (session) => session.clear()
}

for (const [name, undo] of Object.entries(UNDOS)) {
  void t.test(
    `after ${name} in the request of a login, the clocks of the session without a user go on`,
    async (t) => {
      const { start, move } = stopClock(t)
      const { memory, visit } = await makeVisits(t)
      await visit((session) => session.set('cart', 1))
      move(MINUTE)
      const { result, response } = await visit((session) => {
        session.login('ada')
        undo(session)
        const { id, createdAt, expiresAt } = session
        return { id, createdAt, expiresAt }
      })
      t.match(result, { createdAt: start, expiresAt: start + DAY })
      t.match(memory.get(result.id), { createdAt: start, expiresAt: start + DAY, userId: null })
      t.equal(response.cookies[0]?.maxAge, (DAY - MINUTE) / 1000)
    }
  )
}

void t.test('removing an absent user does not change the lifetime that a login chose', async (t) => {
  const { start } = stopClock(t)
  const { visit } = await makeVisits(t)
  await visit((session) => session.login('ada', { maxAge: 60 }))
  await visit((session) => session.regenerate(['cart']))
  await visit((session) => session.remove('userId'))
  const { result } = await visit(({ isNew, expiresAt }) => ({ isNew, expiresAt }))
  t.same(result, { isNew: false, expiresAt: start + MINUTE })
})

void t.test('a visitor whose values have not changed gets no cookie, even after regenerate()', async (t) => {
  const { visit } = await makeVisits(t)
  await visit((session) => session.setFlash('note', 'hello'))
  const { response } = await visit((session) => {
    session.regenerate()
    session.set('name', 'ada')
    session.remove('name')
  })
  t.same(response.cookies, [])
})

const UPDATES: Record<string, (session: Session) => unknown> = {
  'is then changed in place': (session) => {
    session.update('list', () => [1])
    ;(session.get('list') as number[]).push(2)
    session.regenerate([])
  },
  'is updated again': (session) => {
    session.update('list', () => [1])
    session.regenerate([])
    session.update('list', (list) => [...(list as number[]), 2])
  }
}

for (const [name, update] of Object.entries(UPDATES)) {
  void t.test(
    `a value that update() gave to an absent key, and that ${name}, survives a rotation if another request adds the key`,
    async (t) => {
      const { memory, visit } = await makeVisits(t)
      const { result: old } = await visit((session) => session.set('name', 'ada') ?? session.id)
      await visit((session) => {
        update(session)
        const now = Date.now()
        memory.update(old, { set: { list: '[9]' }, remove: [], lastAccessed: now, expiresAt: now + DAY })
      })
      t.same((await visit(valuesOf)).result, { list: [1, 2] })
    }
  )
}

for (const onLimit of ['reject', 'end-oldest'] as const) {
  void t.test(`with onLimit '${onLimit}', a login replaces the user’s own session`, async (t) => {
    const { memory, visit } = await makeVisits(t, { maxSessionsPerUser: 1, onLimit })
    await visit((session) => session.login('ada'))
    const { result: id } = await visit((session) => session.login('ada') ?? session.id)
    t.same(
      memory.listByUser('ada').map((session) => session.id),
      [id]
    )
  })

  void t.test(`with onLimit '${onLimit}', invalidate() and then login() replace the session`, async (t) => {
    const { memory, visit } = await makeVisits(t, { maxSessionsPerUser: 1, onLimit })
    await visit((session) => session.login('ada'))
    const { result: id } = await visit((session) => {
      session.invalidate()
      session.login('ada')
      return session.id
    })
    t.same(
      memory.listByUser('ada').map((session) => session.id),
      [id]
    )
  })
}

for (const before of [null, 'bob']) {
  void t.test(
    `a login after invalidate() does not need the session of ${before ?? 'nobody'} that ended meanwhile`,
    async (t) => {
      const { memory, visit } = await makeVisits(t)
      const { result: old } = await visit((session) => {
        if (before === null) session.set('cart', 1)
        else session.login(before)
        return session.id
      })
      await visit((session) => {
        session.invalidate()
        session.login('ada')
        memory.destroy(old)
      })
      t.same((await visit(valuesOf)).result, { userId: 'ada' })
    }
  )
}

void t.test(
  'a login after invalidate() is refused if the session of the same user ended meanwhile',
  async (t) => {
    const { memory, attempt, visit } = await makeVisits(t)
    const { result: old } = await visit((session) => session.login('ada') ?? session.id)
    const { response } = await attempt((session) => {
      session.invalidate()
      session.login('ada')
      memory.destroy(old)
    })
    t.equal(response.statusCode, 409)
    t.equal(memory.size, 0)
  }
)

void t.test(
  'with a limit of one session, a sign-in does not end that of an overlapping sign-in that is answered first',
  async (t) => {
    const memory = new MemoryStore()
    const store = wrap(memory, async (method, args, next) => {
      const answer = next()
      // At this point the first sign-in has stored its session, but has not been answered.
      if (method === 'create' && 'userId' in (args[1] as SessionRecord).data) {
        other ??= attempt((session) => session.login('ada'), new Browser(app))
        await nextTurn()
      }
      return answer
    })
    const { app, attempt, visit, browser } = await makeVisits(t, { store, maxSessionsPerUser: 1 })
    let other: ReturnType<typeof attempt> | undefined
    await visit((session) => session.login('ada'))
    t.equal((await other)?.response.statusCode, 409)
    t.same((await visit(valuesOf, browser)).result, { userId: 'ada' })
  }
)
