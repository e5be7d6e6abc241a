import type { Session } from '../../plugin/index.js'
import { SECRET } from '../fixtures/app.js'
import type { Work } from '../fixtures/visits.js'
import {
  ATTRIBUTES,
  OLD_SECRET,
  row,
  SESSION_CLEARED,
  VISITOR,
  VISITOR_CLEARED,
  type Scene
} from './fixtures/rows.js'

// The rows of the table "What a request does" add up: each row about the load is combined with each row about the
// commit. See what-a-request-does.test.ts for the rows themselves.

const SESSION = `session_id=*; Max-Age=1000; ${ATTRIBUTES}`
const OPTIONS = { secret: [SECRET, OLD_SECRET], idleTimeout: 1000 }

interface Load {
  readonly begin: (scene: Scene) => Promise<unknown>
  readonly calls: readonly string[]
  readonly isStored?: true
  /** True if a read already writes the session and sends its cookie. */
  readonly isDue?: true
  readonly hasVisitor?: true
}

const LOADS: Record<string, Load> = {
  'no cookie': { begin: async () => undefined, calls: [] },
  'a forged cookie': {
    begin: async ({ browser }) => browser.cookies.set('session_id', `${'0'.repeat(64)}.${'A'.repeat(43)}`),
    calls: []
  },
  'a signed cookie without a session': { begin: async ({ beginUnknown }) => beginUnknown(), calls: ['get'] },
  'a visitor cookie': { begin: ({ beginVisitor }) => beginVisitor(), calls: [], hasVisitor: true },
  'a visitor cookie and a signed cookie without a session': {
    begin: async ({ beginVisitor, beginUnknown }) => {
      beginUnknown()
      await beginVisitor()
    },
    calls: ['get'],
    hasVisitor: true
  },
  'a session': { begin: ({ begin }) => begin(), calls: ['get'], isStored: true },
  'a session and a visitor cookie': {
    begin: async ({ begin, beginVisitor }) => {
      await begin()
      await beginVisitor()
    },
    calls: ['get'],
    isStored: true,
    hasVisitor: true
  },
  'a session whose touch is due': {
    begin: async ({ begin, clock }) => {
      await begin()
      clock.move(200_000)
    },
    calls: ['get'],
    isStored: true,
    isDue: true
  },
  'a session with a cookie of an older secret': {
    begin: async ({ begin, beginUnknown, memory }) => {
      const record = memory.get(await begin())
      if (record !== undefined) memory.create(beginUnknown(OLD_SECRET), record)
    },
    calls: ['get'],
    isStored: true,
    isDue: true
  }
}

interface Answer {
  readonly status?: number
  readonly calls: readonly string[]
  readonly cookies: readonly string[]
}

interface Commit {
  readonly work: Work<unknown>
  /** What follows the load for a browser without a stored session, if the row applies to it. */
  readonly visitor?: (load: Load) => Answer
  /** What follows the load of a stored session. */
  readonly stored: (load: Load) => Answer
}

const set = (session: Session): void => session.set('name', 'eve')
const flash = (session: Session): void => session.setFlash('note', 'other')
const fail = (): never => {
  throw new Error('the handler failed')
}
const isCleared = ({ hasVisitor }: Load): string[] => (hasVisitor ? [VISITOR_CLEARED] : [])
const nothing = (): Answer => ({ calls: [], cookies: [] })
const create = (load: Load): Answer => ({ calls: ['create'], cookies: [SESSION, ...isCleared(load)] })
const update = (load: Load): Answer => ({ calls: ['update'], cookies: load.isDue ? [SESSION] : [] })
const rename = (load: Load): Answer => ({ calls: ['update'], cookies: [SESSION, ...isCleared(load)] })
const destroy = (load: Load): Answer => ({
  calls: ['destroy'],
  cookies: [SESSION_CLEARED, ...isCleared(load)]
})
const replace = (load: Load): Answer => ({
  calls: ['destroy', 'create'],
  cookies: [SESSION, ...isCleared(load)]
})

const COMMITS: Record<string, Commit> = {
  'a read': {
    work: (session) => session.get('name'),
    visitor: nothing,
    stored: (load) => (load.isDue ? update(load) : nothing())
  },
  'own keys': { work: flash, visitor: () => ({ calls: [], cookies: [VISITOR] }), stored: update },
  data: { work: set, visitor: create, stored: update },
  'a rotation': { work: (session) => session.regenerate(), visitor: nothing, stored: rename },
  'a rotation and data': {
    work: (session) => {
      set(session)
      session.regenerate()
    },
    visitor: create,
    stored: rename
  },
  'a login': { work: (session) => session.login('ada'), visitor: create, stored: rename },
  'an end': {
    work: (session) => session.invalidate(),
    visitor: (load) => ({ calls: [], cookies: isCleared(load) }),
    stored: destroy
  },
  'an end, then own keys': {
    work: (session) => {
      session.invalidate()
      flash(session)
    },
    visitor: () => ({ calls: [], cookies: [VISITOR] }),
    stored: () => ({ calls: ['destroy'], cookies: [SESSION_CLEARED, VISITOR] })
  },
  'an end, then data': {
    work: (session) => {
      session.invalidate()
      set(session)
    },
    visitor: create,
    stored: replace
  },
  'an end, then a login': {
    work: (session) => {
      session.invalidate()
      session.login('ada')
    },
    visitor: create,
    stored: replace
  },
  'a login, then an end': {
    work: (session) => {
      session.login('ada')
      session.invalidate()
    },
    visitor: (load) => ({ calls: [], cookies: isCleared(load) }),
    stored: destroy
  },
  'data and a 5xx reply': {
    work: (session) => {
      set(session)
      fail()
    },
    visitor: () => ({ ...nothing(), status: 500 }),
    stored: () => ({ ...nothing(), status: 500 })
  },
  'an end, then data, and a 5xx reply': {
    work: (session) => {
      session.invalidate()
      set(session)
      fail()
    },
    stored: (load) => ({ ...destroy(load), status: 500 })
  },
  'data in a session that ends before the commit': {
    work: (session, { server }) => {
      set(session)
      return server.sessionManager.revoke(session.id)
    },
    stored: () => ({ status: 409, calls: ['destroy', 'update'], cookies: [] })
  },
  'a rotation of a session that ends before the commit': {
    work: async (session, { server }) => {
      await server.sessionManager.revoke(session.id)
      session.regenerate()
    },
    stored: () => ({ calls: ['destroy', 'update'], cookies: [] })
  },
  'a login in a session that ends before the commit': {
    work: async (session, { server }) => {
      await server.sessionManager.revoke(session.id)
      session.login('ada')
    },
    stored: (load) => ({ calls: ['destroy', 'update', 'create'], cookies: [SESSION, ...isCleared(load)] })
  },
  'an end of a session that ends before the commit': {
    work: async (session, { server }) => {
      await server.sessionManager.revoke(session.id)
      session.invalidate()
    },
    stored: () => ({ calls: ['destroy', 'destroy'], cookies: [] })
  }
}

for (const [loadName, load] of Object.entries(LOADS)) {
  for (const [commitName, { work, ...answers }] of Object.entries(COMMITS)) {
    const expect = load.isStored ? answers.stored : answers.visitor
    if (expect === undefined) continue
    row(
      `${loadName}, and ${commitName}`,
      async (scene) => {
        await load.begin(scene)
        const { response, calls, cookies } = await scene.attempt(work)
        const { status = 200, ...answer } = expect(load)
        scene.t.equal(response.statusCode, status)
        scene.t.same(calls, [...load.calls, ...answer.calls])
        scene.t.same(cookies.sort(), [...answer.cookies].sort())
        if (cookies.length > 0) scene.t.equal(response.headers['cache-control'], 'no-store')
        scene.t.match(response.headers, { vary: 'Cookie' })
      },
      OPTIONS
    )
  }
}

row('the commit runs once: save() writes, and the reply writes nothing more', async ({ t, begin, visit }) => {
  const first = await visit(async (session) => {
    set(session)
    await Promise.all([session.save(), session.save()])
    await session.save()
  })
  t.same([first.calls, first.cookies.length], [['create'], 1])
  await begin()
  const ended = await visit(async (session) => {
    session.invalidate()
    await session.save()
  })
  t.same([ended.calls, ended.cookies], [['get', 'destroy'], [SESSION_CLEARED]])
})

row('a reply that prints a CSRF token is no-store, also if it sets no cookie', async (scene) => {
  const { t, visit, begin } = scene
  const print: Work<unknown> = (_session, _request, reply) => {
    reply.header('cache-control', 'public, max-age=300')
    reply.generateCsrf()
  }
  for (const setsCookie of [true, false]) {
    const { response, cookies } = await visit(print)
    t.equal(cookies.length > 0, setsCookie)
    t.equal(response.headers['cache-control'], 'no-store', `a visitor, ${setsCookie ? 'first' : 'second'}`)
  }
  await begin()
  await visit(print)
  const { response, calls, cookies } = await visit(print)
  t.same([calls, cookies], [['get'], []])
  t.equal(response.headers['cache-control'], 'no-store', 'a stored session')
})

row('cookies that others put on the reply or on the raw response stay', async ({ t, visit, attempt }) => {
  const { response } = await visit((session, _request, reply) => {
    reply.header('set-cookie', 'theme=dark; Path=/')
    reply.raw.setHeader('set-cookie', ['lang=en; Path=/', 'ab=1'])
    set(session)
  })
  const names = response.cookies.map(({ name }) => name).sort()
  t.same(names, ['ab', 'lang', 'session_id', 'theme'])
  const single = await attempt((session, _request, reply) => {
    reply.raw.setHeader('set-cookie', 'lang=en; Path=/')
    session.invalidate()
  })
  t.same(single.response.cookies.map(({ name }) => name).sort(), ['lang', 'session_id'])
})
