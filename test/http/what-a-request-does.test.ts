import type { Session } from '../../plugin/index.js'
import { Browser, SECRET } from '../fixtures/app.js'
import type { Work } from '../fixtures/visits.js'
import {
  ATTRIBUTES,
  DAY,
  OLD_SECRET,
  row,
  SESSION,
  SESSION_CLEARED,
  VISITOR,
  VISITOR_CLEARED
} from './fixtures/rows.js'

// Each test is a row of the table "What a request does": it compares all calls to the store and all Set-Cookie headers.

function recordOf(now: number, data: Record<string, unknown>, userId: string | null = null) {
  const texts = Object.entries(data).map(([key, value]) => [key, JSON.stringify(value)])
  const times = { createdAt: now, lastAccessed: now, expiresAt: now + DAY }
  return { version: 1, data: Object.fromEntries(texts) as object, ...times, userId }
}

const read = (session: Session): unknown => session.get('name')
const setName = (session: Session): void => session.set('name', 'eve')
const flash = (session: Session): void => session.setFlash('note', 'hello')

row('no cookie, or a malformed or forged one: no store call and no cookie', async (scene) => {
  const { t, browser, begin, visit } = scene
  t.match(await visit(read), { storeCalls: [], cookies: [], result: undefined })
  await begin()
  const value = browser.cookies.get('session_id') as string
  const forged = value.slice(0, -1) + (value.endsWith('A') ? 'E' : 'A')
  for (const wrong of ['', 'x', value.slice(1), `${value}A`, value.toUpperCase(), forged]) {
    browser.cookies.set('session_id', wrong)
    const { result, storeCalls, cookies } = await visit(read)
    t.same([result, storeCalls, cookies], [undefined, [], []], wrong)
  }
})

row('a validly signed cookie without a session: one get and no cookie', async (scene) => {
  const id = scene.beginUnknown()
  const { storeCalls, cookies } = await scene.visit(read)
  scene.t.same([storeCalls, cookies], [[['get', id]], []])
})

row('a read: one get and no cookie, until the session ends', async ({ t, clock, begin, visit }) => {
  const id = await begin()
  clock.move(DAY - 1)
  const { result, storeCalls, cookies } = await visit(read)
  t.same([result, storeCalls, cookies], ['ada', [['get', id]], []])
})

row(
  'a read after a tenth of idleTimeout: a touch, and a cookie if its expiry moves',
  async ({ t, clock, begin, visit }) => {
    const id = await begin()
    clock.move(99_999)
    const early = await visit(read)
    t.same([early.storeCalls, early.cookies], [[['get', id]], []])
    clock.move(1)
    const { storeCalls, cookies } = await visit(read)
    const times = { lastAccessed: clock.start + 100_000, expiresAt: clock.start + 1_100_000 }
    t.same(storeCalls, [
      ['get', id],
      ['update', id, { set: {}, remove: [], ...times }]
    ])
    t.same(cookies, [`session_id=*; Max-Age=1000; ${ATTRIBUTES}`])
  },
  { idleTimeout: 1000 }
)

row(
  'a touch that cannot move the expiry, because maxAge limits it, sends no cookie',
  async ({ t, clock, begin, visit }) => {
    const id = await begin()
    clock.move(150_000)
    const { storeCalls, cookies } = await visit(read)
    const times = { lastAccessed: clock.start + 150_000, expiresAt: clock.start + 1_000_000 }
    t.same(storeCalls, [
      ['get', id],
      ['update', id, { set: {}, remove: [], ...times }]
    ])
    t.same(cookies, [])
  },
  { maxAge: 1000, idleTimeout: 1000 }
)

row(
  'a read with a cookie of an older secret: a touch and a cookie, once',
  async ({ t, clock, browser, beginUnknown, memory, visit }) => {
    const id = beginUnknown(OLD_SECRET)
    memory.create(id, { ...recordOf(clock.start, { name: 'ada' }), data: { name: '"ada"' } })
    const before = browser.cookies.get('session_id')?.split('.')
    clock.move(1000)
    const { result, storeCalls, cookies } = await visit(read)
    const times = { lastAccessed: clock.start + 1000, expiresAt: clock.start + DAY }
    t.equal(result, 'ada')
    t.same(storeCalls, [
      ['get', id],
      ['update', id, { set: {}, remove: [], ...times }]
    ])
    t.same(cookies, [`session_id=*; Max-Age=86399; ${ATTRIBUTES}`])
    const after = browser.cookies.get('session_id')?.split('.')
    t.equal(after?.[0], before?.[0], 'the token stays')
    t.not(after?.[1], before?.[1], 'the signature is of the new secret')
    t.match(await visit(read), { storeCalls: [['get', id]], cookies: { length: 0 } })
  },
  { secret: [SECRET, OLD_SECRET] }
)

row('a visitor’s own keys change: no store call, and the visitor cookie', async ({ t, visit, app }) => {
  const printToken: Work<unknown> = (_session, _request, reply) => reply.generateCsrf()
  for (const change of [flash, printToken]) {
    const { storeCalls, cookies } = await visit(change, new Browser(app))
    t.same([storeCalls, cookies], [[], [VISITOR]])
  }
  await visit(flash)
  const peeked = await visit((session) => session.peekFlash('note'))
  t.same([peeked.storeCalls, peeked.cookies, peeked.result], [[], [], 'hello'])
  const used = await visit((session) => session.getFlash('note'))
  t.same([used.storeCalls, used.cookies, used.result], [[], [VISITOR_CLEARED], 'hello'])
})

row('new, with data: a create, and the session cookie', async ({ t, clock, visit, idNow }) => {
  const { storeCalls, cookies } = await visit(setName)
  t.same(storeCalls, [['create', idNow(), recordOf(clock.start, { name: 'eve' })]])
  t.same(cookies, [SESSION])
})

row('new, with data, by a visitor with a cookie: the visitor cookie is cleared', async (scene) => {
  const { t, clock, beginVisitor, visit, idNow } = scene
  await beginVisitor()
  const { storeCalls, cookies } = await visit(setName)
  const note = { value: 'hello', at: clock.start }
  t.same(storeCalls, [['create', idNow(), recordOf(clock.start, { name: 'eve', '$flash.note': note })]])
  t.same(cookies.sort(), [SESSION, VISITOR_CLEARED])
})

row('a login by a visitor: a create, and the session cookie', async ({ t, clock, visit, idNow }) => {
  const { storeCalls, cookies } = await visit((session) => session.login('ada'))
  t.same(storeCalls, [['create', idNow(), recordOf(clock.start, { userId: 'ada' }, 'ada')]])
  t.same(cookies, [SESSION])
})

row('changed: an update, and no cookie if its expiry stays', async ({ t, clock, begin, visit }) => {
  const id = await begin()
  clock.move(1000)
  const times = { lastAccessed: clock.start + 1000, expiresAt: clock.start + DAY }
  const changed = await visit(setName)
  t.same(changed.storeCalls, [
    ['get', id],
    ['update', id, { set: { name: '"eve"' }, remove: [], ...times }]
  ])
  const removed = await visit((session) => session.remove('name'))
  t.same(removed.storeCalls, [
    ['get', id],
    ['update', id, { set: {}, remove: ['name'], ...times }]
  ])
  t.same([changed.cookies, removed.cookies], [[], []])
  const same = await visit((session) => session.set('other', [1]))
  const again = await visit((session) => session.set('other', [1]))
  t.same([same.calls, again.calls], [['get', 'update'], ['get']], 'the same value again is not a change')
})

row(
  'changed: an update, and the session cookie if its expiry moves',
  async ({ t, clock, begin, visit }) => {
    await begin()
    clock.move(1000)
    const { calls, cookies } = await visit(setName)
    t.same([calls, cookies], [['get', 'update'], [`session_id=*; Max-Age=1000; ${ATTRIBUTES}`]])
  },
  { idleTimeout: 1000 }
)

row('a rotation: an update with renameTo, and the session cookie', async (scene) => {
  const { t, clock, begin, visit, idNow } = scene
  const id = await begin()
  clock.move(1000)
  const { storeCalls, cookies } = await visit((session) => session.regenerate())
  const times = { lastAccessed: clock.start + 1000, expiresAt: clock.start + DAY }
  t.same(storeCalls, [
    ['get', id],
    ['update', id, { set: {}, remove: ['$csrf'], ...times, renameTo: idNow() }]
  ])
  t.not(idNow(), id)
  t.same(cookies, [`session_id=*; Max-Age=86399; ${ATTRIBUTES}`])
})

row('a login in a stored session: an update with renameTo, and the session cookie', async (scene) => {
  const { t, clock, begin, visit, idNow } = scene
  const id = await begin()
  clock.move(1000)
  const now = clock.start + 1000
  const { storeCalls, cookies } = await visit((session) => session.login('ada'))
  t.same(storeCalls.slice(0, 1), [['get', id]])
  const times = { lastAccessed: now, expiresAt: now + DAY, createdAt: now }
  const patch = { set: { userId: '"ada"' }, remove: ['$csrf'], ...times, userId: 'ada', renameTo: idNow() }
  t.same(storeCalls.slice(1), [['update', id, patch]])
  t.not(idNow(), id)
  t.same(cookies, [SESSION])
})

for (const [name, renew] of Object.entries({
  login: (session: Session) => session.login('ada'),
  rotation: (session: Session) => session.regenerate()
})) {
  row(`a ${name} of a stored session clears the visitor cookie beside it`, async (scene) => {
    await scene.begin()
    await scene.beginVisitor()
    const { calls, cookies } = await scene.visit(renew)
    scene.t.same(
      [calls, cookies.sort()],
      [
        ['get', 'update'],
        [SESSION, VISITOR_CLEARED]
      ]
    )
  })
}

for (const [name, before] of Object.entries({
  'no user’s': (session: Session) => session.set('name', 'visitor'),
  'another user’s': (session: Session) => session.login('eve')
})) {
  row(`a login that finds ${name} session gone: a create, and the session cookie`, async (scene) => {
    const { t, clock, begin, visit, memory, idNow } = scene
    const id = await begin(before)
    const { storeCalls, cookies } = await visit((session) => {
      memory.destroy(id)
      session.set('color', 'red')
      session.login('ada')
    })
    t.same(
      storeCalls.map(([method, id]) => [method, id]),
      [
        ['get', id],
        ['update', id],
        ['create', idNow()]
      ]
    )
    t.same(storeCalls[2]?.[2], recordOf(clock.start, { color: 'red', userId: 'ada' }, 'ada'))
    t.same(cookies, [SESSION])
  })
}

const strange = { path: '/app', domain: 'app.test', sameSite: 'none', partitioned: true } as const

row(
  'invalidated: a destroy, and the session cookie is cleared with every attribute',
  async ({ t, begin, visit }) => {
    const id = await begin()
    const { storeCalls, cookies } = await visit((session) => session.invalidate())
    t.same(storeCalls, [
      ['get', id],
      ['destroy', id]
    ])
    const [cookie = '', ...others] = cookies
    t.same(others, [])
    const attributes = ['Domain=app.test', 'HttpOnly', 'Max-Age=0', 'Partitioned', 'Path=/app']
    t.same(cookie.split('; ').sort(), [...attributes, 'SameSite=None', 'Secure', 'session_id='])
  },
  { cookie: strange }
)

row('invalidated, then own keys set: a destroy, and both cookies', async ({ t, begin, visit, browser }) => {
  const id = await begin()
  const { storeCalls, cookies } = await visit((session) => {
    session.invalidate()
    session.setFlash('note', 'bye')
  })
  t.same(storeCalls, [
    ['get', id],
    ['destroy', id]
  ])
  t.same(cookies.sort(), [SESSION_CLEARED, VISITOR])
  t.same([...browser.cookies.keys()], ['session_id_visitor'])
  t.equal((await visit((session) => session.getFlash('note'))).result, 'bye')
})

for (const [name, then, data, userId] of [
  ['data', setName, { name: 'eve' }, null],
  ['a login', (session: Session) => session.login('eve'), { userId: 'eve' }, 'eve']
] as const) {
  row(`invalidated, then ${name}: a destroy, a create and the session cookie`, async (scene) => {
    const { t, clock, begin, visit, idNow } = scene
    const id = await begin((session) => session.login('ada'))
    clock.move(1000)
    const { storeCalls, cookies } = await visit((session) => {
      session.set('lost', 'set before the end')
      session.invalidate()
      then(session)
    })
    t.same(storeCalls, [
      ['get', id],
      ['destroy', id],
      ['create', idNow(), recordOf(clock.start + 1000, data, userId)]
    ])
    t.not(idNow(), id)
    t.same(cookies, [SESSION])
  })
}

const CHANGES: Record<string, (session: Session) => void> = {
  'a set': setName,
  'a flash message': flash,
  'a rotation': (session) => session.regenerate(),
  'a login': (session) => session.login('eve'),
  'a clear': (session) => session.clear()
}

row(
  'a 5xx reply: no write and no cookie, whatever the request did',
  async ({ t, clock, begin, attempt, app, memory, beginVisitor }) => {
    const id = await begin()
    await beginVisitor()
    const before = memory.get(id)
    clock.move(900_000)
    for (const [name, change] of Object.entries(CHANGES)) {
      const sent = await attempt((session, _request, reply) => {
        change(session)
        void reply.code(503)
      })
      const thrown = await attempt((session) => {
        change(session)
        throw new Error('the handler failed')
      })
      for (const { response, storeCalls, cookies } of [sent, thrown]) {
        t.ok(response.statusCode >= 500, name)
        t.same([storeCalls, cookies], [[['get', id]], []], name)
      }
      const work: Work<void> = (session, _request, reply) => {
        change(session)
        void reply.code(500)
      }
      const fresh = await attempt(work, new Browser(app))
      t.same([fresh.storeCalls, fresh.cookies], [[], []], `${name} by a visitor`)
    }
    t.equal(memory.get(id), before)
  },
  { maxAge: 1000 }
)

row('a 5xx reply after invalidate(): a destroy, and the session cookie is cleared', async (scene) => {
  const { t, begin, attempt } = scene
  for (const after of [() => undefined, setName, flash, (session: Session) => session.login('eve')]) {
    const id = await begin((session) => session.login('ada'))
    const { response, storeCalls, cookies } = await attempt((session) => {
      session.invalidate()
      after(session)
      throw new Error('the handler failed')
    })
    t.equal(response.statusCode, 500)
    t.same(storeCalls, [
      ['get', id],
      ['destroy', id]
    ])
    t.same(cookies, [SESSION_CLEARED])
  }
})

row('the store says gone and data is lost: 409 SESSION_GONE, and no cookie of any kind', async (scene) => {
  const { t, begin, beginVisitor, attempt, memory, browser } = scene
  const changes: Record<string, (session: Session) => void> = {
    set: setName,
    update: (session) => session.update('count', (count) => Number(count ?? 0) + 1),
    'a rotation and set': (session) => {
      session.regenerate()
      session.set('role', 'admin')
    },
    'invalidate and set': (session) => {
      session.invalidate()
      session.set('name', 'new')
    }
  }
  for (const [name, change] of Object.entries(changes)) {
    const id = await begin()
    await beginVisitor()
    const { response, cookies } = await attempt((session) => {
      memory.destroy(id)
      change(session)
    })
    t.match(response.json(), { statusCode: 409, code: 'SESSION_GONE' }, name)
    t.same(cookies, [], name)
    t.equal(memory.size, 0, name)
    browser.cookies.clear()
  }
})

row(
  'the store says gone and nothing is lost: the answer stays, without a cookie',
  async (scene) => {
    const { t, clock, begin, attempt, memory } = scene
    const changes: Record<string, Work<unknown>> = {
      'a touch': read,
      'a removal': (session) => session.remove('name'),
      clear: (session) => session.clear(),
      'a rotation': (session) => session.regenerate(),
      'a rotation that keeps some keys': (session) => session.regenerate(['name']),
      invalidate: (session) => session.invalidate(),
      'invalidate and a flash message': (session) => {
        session.invalidate()
        session.setFlash('note', 'bye')
      }
    }
    for (const [name, change] of Object.entries(changes)) {
      const id = await begin()
      clock.move(200_000)
      const { response, cookies } = await attempt((session, ...others) => {
        memory.destroy(id)
        return change(session, ...others)
      })
      t.equal(response.statusCode, 200, name)
      t.same(cookies, [], name)
      t.equal(memory.size, 0, name)
    }
  },
  { idleTimeout: 1000 }
)
