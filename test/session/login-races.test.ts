import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { MemoryStore, type Session, type SessionOptions, type SessionStore } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { counted } from '../fixtures/counts.js'
import { slowStore } from '../fixtures/stores.js'
import { makeVisits, valuesOf, type Visit } from '../fixtures/visits.js'

// These tests send requests that overlap in time: each has loaded its session before any of them is answered.

type Step = (session: Session) => unknown
type Login = (session: Session, user: string) => void

const STORES: Record<string, (store: MemoryStore) => SessionStore> = {
  'the memory store': (store) => store,
  'a slow store': (store) => slowStore(store),
  'a very slow store': (store) => slowStore(store, 10)
}

const LOGINS: Record<string, Login> = {
  'login()': (session, user) => session.login(user),
  'set(userKey)': (session, user) => session.set('userId', user),
  'regenerate() and set(userKey)': (session, user) => {
    session.regenerate()
    session.set('userId', user)
  },
  'regenerate(keep) and set(userKey)': (session, user) => {
    session.regenerate(['userId', 'session'])
    session.set('userId', user)
  },
  'invalidate() and login()': (session, user) => {
    session.invalidate()
    session.login(user)
  }
}

async function setUp(
  t: Test,
  store: (store: MemoryStore) => SessionStore,
  options: Partial<SessionOptions> = {}
) {
  const memory = new MemoryStore()
  const visits = await makeVisits(t, { ...options, store: store(memory) })
  const { app, browser, attempt, visit } = visits

  /** Returns a browser with the same cookies as `browser`. */
  function copy(): Browser {
    const copied = new Browser(app)
    for (const [name, value] of browser.cookies) copied.cookies.set(name, value)
    return copied
  }

  /** Gives the browser a session that `work` makes, and returns its id. */
  async function begin(work: Step): Promise<string> {
    browser.cookies.clear()
    await visit(work)
    return idOfCookie(`session_id=${browser.cookies.get('session_id')}`)
  }

  /** Sends a request of the same browser for each step. No handler goes on before all have been called. */
  function overlap(steps: Step[], meanwhile: () => unknown = () => undefined): Promise<Raced[]> {
    let waiting = steps.length
    const arrive = async (): Promise<void> => {
      if (--waiting === 0) await meanwhile()
      else while (waiting > 0) await nextTurn()
    }
    return Promise.all(
      steps.map(async (step) => {
        const client = copy()
        const raced = await attempt(async (session) => {
          await arrive()
          return step(session)
        }, client)
        return { ...raced, client, status: raced.response.statusCode }
      })
    )
  }

  /** Runs `step` in a request that has loaded its session before `meanwhile` runs, and commits afterwards. */
  async function late(step: Step, meanwhile: (client: Browser) => unknown): Promise<Raced> {
    const client = copy()
    const raced = await attempt(async (session) => {
      await step(session)
      await meanwhile(copy())
    }, client)
    return { ...raced, client, status: raced.response.statusCode }
  }

  const valuesIn = async (client: Browser) => (await visit(valuesOf, client)).result
  return { ...visits, memory, begin, overlap, late, copy, valuesIn }
}

interface Raced extends Visit<unknown> {
  readonly client: Browser
  readonly status: number
}

type Scene = Awaited<ReturnType<typeof setUp>> & { t: Test }

function race(
  name: string,
  test: (scene: Scene) => Promise<void>,
  options: Partial<SessionOptions> = {}
): void {
  for (const [kind, store] of Object.entries(STORES)) {
    void t.test(`${name} (${kind})`, async (t) => test({ ...(await setUp(t, store, options)), t }))
  }
}

const BEFORE: Record<string, (scene: Scene) => Promise<unknown>> = {
  'a visitor': async () => undefined,
  'a visitor with a cookie': ({ visit }) => visit((session) => session.setFlash('note', 'hello')),
  'an anonymous session': ({ begin }) => begin((session) => session.set('role', 'guest')),
  'another user’s session': ({ begin }) =>
    begin((session) => {
      session.login('eve')
      session.set('role', 'admin')
    })
}

for (const [loginName, login] of Object.entries(LOGINS)) {
  for (const [before, begin] of Object.entries(BEFORE)) {
    race(`overlapping posts of a login form from ${before} all succeed, by ${loginName}`, async (scene) => {
      const { t, overlap, valuesIn, memory } = scene
      await begin(scene)
      const posts = [1, 2, 3].map((post) => (session: Session) => {
        login(session, 'ada')
        session.set('post', post)
      })
      const answers = await overlap(posts)
      t.equal(counted(answers.map(({ status }) => status)), '{"200":3}')
      for (const [index, { client, cookies }] of answers.entries()) {
        t.match(cookies[0], /^session_id=\*; Max-Age=[1-9]/, 'each answer alone is a login')
        const { role, ...values } = await valuesIn(client)
        t.same(values, { userId: 'ada', post: index + 1 })
        t.ok(role === undefined || role === 'guest', 'nothing of another user’s session')
      }
      const ids = new Set(answers.map(({ client }) => client.cookies.get('session_id')))
      t.same([ids.size, memory.size], [3, 3], 'each has a session of its own')
    })
  }

  race(`of overlapping logins of the user who is signed in, one succeeds, by ${loginName}`, async (scene) => {
    const { t, begin, overlap, valuesIn, memory } = scene
    // Setting the same user is not a login.
    if (loginName === 'set(userKey)') return
    const id = await begin((session) => session.login('ada'))
    const answers = await overlap([1, 2, 3].map(() => (session) => login(session, 'ada')))
    t.equal(counted(answers.map(({ status }) => status)), '{"200":1,"409":2}')
    for (const { status, response, cookies, client } of answers) {
      if (status === 200) t.match(await valuesIn(client), { userId: 'ada' })
      else t.match([response.json(), cookies], [{ code: 'SESSION_GONE' }, { length: 0 }])
    }
    t.same([memory.size, memory.get(id)], [1, undefined])
  })

  race(`a login of the same user does not survive revokeAll, by ${loginName}`, async (scene) => {
    const { t, app, begin, late, memory } = scene
    await begin((session) => session.login('ada'))
    const raced = await late(
      (session) => {
        login(session, 'ada')
        session.set('name', 'Ada')
      },
      () => app.sessionManager.revokeAll('ada')
    )
    t.match(raced.response.json(), { statusCode: 409, code: 'SESSION_GONE' })
    t.same([raced.cookies, memory.size], [[], 0])
  })

  race(`revokeAll of the user before does not disturb a login as another, by ${loginName}`, async (scene) => {
    const { t, app, begin, late, valuesIn, memory } = scene
    await begin((session) => session.login('eve'))
    const { status, client } = await late(
      (session) => login(session, 'ada'),
      () => app.sessionManager.revokeAll('eve')
    )
    t.equal(status, 200)
    t.same([await valuesIn(client), memory.size], [{ userId: 'ada' }, 1])
  })
}

race(
  'a login that finds its session gone takes over the visitor’s messages, not the secret',
  async (scene) => {
    const { t, app, begin, browser, late, memory, visit } = scene
    app.post('/guarded', { preHandler: app.csrfProtection }, async () => 'passed')
    const id = await begin((session) => session.set('cart', 1))
    const withheld = new Browser(app)
    const { result: token } = await visit((session, _request, reply) => {
      session.setFlash('note', 'hello')
      return reply.generateCsrf()
    }, withheld)
    browser.cookies.set('session_id_visitor', withheld.cookies.get('session_id_visitor') as string)
    const { client } = await late(
      (session) => session.login('ada'),
      () => memory.destroy(id)
    )
    t.same([...client.cookies.keys()], ['session_id'])
    const record = memory.get(idOfCookie(`session_id=${client.cookies.get('session_id')}`))
    t.same(Object.keys(record?.data ?? {}).sort(), ['$flash.note', 'userId'])
    const headers = { 'x-csrf-token': token, 'sec-fetch-site': 'same-origin' }
    t.equal((await client.request({ method: 'POST', url: '/guarded', headers })).statusCode, 403)
  }
)

race(
  'a login that finds its session gone keeps the lifetime and the messages that it chose',
  async (scene) => {
    const { t, begin, late, memory, visit } = scene
    const id = await begin((session) => session.login('eve', { maxAge: 7200 }))
    const { client, cookies } = await late(
      (session) => {
        session.setFlash('note', 'hello')
        session.login('ada', { maxAge: 60 })
      },
      () => memory.destroy(id)
    )
    t.match(cookies, [/^session_id=\*; Max-Age=(59|60);/])
    t.equal((await visit((session) => session.getFlash('note'), client)).result, 'hello')
  }
)

race('two overlapping logins as different users mix nothing', async (scene) => {
  const { t, begin, overlap, valuesIn } = scene
  await begin((session) => session.set('cart', ['book']))
  const users = ['ada', 'eve']
  const answers = await overlap(
    users.map((user) => (session) => {
      session.login(user)
      session.set('of', user)
    })
  )
  t.equal(counted(answers.map(({ status }) => status)), '{"200":2}')
  for (const [index, user] of users.entries())
    t.match(await valuesIn(answers[index]?.client as Browser), { userId: user, of: user })
})

race('revokeAll at any moment of a login of the same user leaves no session', async (scene) => {
  const { t, app, begin, copy, attempt, visit, memory } = scene
  for (let round = 0; round < 30; round++) {
    await begin((session) => session.login('ada'))
    const client = copy()
    const loaded = new AbortController()
    const login = attempt((session) => {
      session.login('ada')
      loaded.abort()
    }, client)
    while (!loaded.signal.aborted) await nextTurn()
    for (let turn = 0; turn < round; turn++) await nextTurn()
    const ended = await app.sessionManager.revokeAll('ada')
    const { response } = await login
    const { result } = await visit((session) => session.get('userId'), client)
    t.equal(ended, 1, `round ${round}`)
    t.ok([200, 409].includes(response.statusCode), 'it was complete before, or it has failed')
    t.same([result, memory.size], [undefined, 0], `round ${round}`)
  }
})

const ROTATIONS: Record<string, Step> = {
  'regenerate()': (session) => session.regenerate(),
  'regenerate(keep)': (session) => session.regenerate(['userId']),
  'regenerate() and reading a flash message': (session) => {
    session.regenerate()
    return session.getFlash('note')
  },
  'regenerate() and a flash message': (session) => {
    session.regenerate()
    session.setFlash('note', 'hello')
  }
}

for (const [name, rotate] of Object.entries(ROTATIONS)) {
  race(`three parallel requests of which each rotates are answered with 200, by ${name}`, async (scene) => {
    const { t, begin, overlap, valuesIn, memory } = scene
    await begin((session) => {
      session.login('ada')
      session.setFlash('note', 'hello')
    })
    const answers = await overlap([rotate, rotate, rotate])
    t.equal(counted(answers.map(({ status }) => status)), '{"200":3}')
    const winners = answers.filter(({ cookies }) => cookies.length > 0)
    t.equal(winners.length, 1, 'one cookie')
    t.same(await valuesIn(winners[0]?.client as Browser), { userId: 'ada' })
    t.equal(memory.size, 1)
  })
}

race('a rotation in a hook of each request does not disturb parallel requests', async (scene) => {
  const { t, app, begin, copy, memory } = scene
  app.addHook('preHandler', async ({ session, method }) => {
    if (method === 'POST') session.regenerate()
  })
  app.post('/page', async ({ session }) => session.get('userId'))
  await begin((session) => session.login('ada'))
  const answers = await Promise.all(
    [1, 2, 3].map(async () => copy().request({ method: 'POST', url: '/page' }))
  )
  t.same(
    answers.map(({ statusCode, body }) => [statusCode, body]),
    Array<unknown>(3).fill([200, 'ada'])
  )
  t.equal(answers.filter(({ headers }) => headers['set-cookie'] !== undefined).length, 1)
  t.equal(memory.size, 1)
})

race('a rotation with data that finds its session gone is a 409', async (scene) => {
  const { t, begin, overlap, valuesIn, memory } = scene
  for (const set of [
    (session: Session) => session.set('role', 'admin'),
    (session: Session) => session.update('count', (count) => Number(count ?? 0) + 1),
    (session: Session) => void (session.get('list') as unknown[]).push('more')
  ]) {
    memory.destroyByUser('ada')
    await begin((session) => {
      session.login('ada')
      session.set('list', [])
    })
    const step = (session: Session): void => {
      session.regenerate()
      set(session)
    }
    const answers = await overlap([step, step])
    t.equal(counted(answers.map(({ status }) => status)), '{"200":1,"409":1}')
    for (const { status, cookies, response, client } of answers) {
      if (status === 200) t.match(await valuesIn(client), { userId: 'ada' })
      else t.match([response.json(), cookies], [{ code: 'SESSION_GONE' }, { length: 0 }])
    }
    t.equal(memory.size, 1)
  }
})

const write: Step = (session) => {
  session.set('secret', 'written by another request')
  session.set('cart', ['book', 'pen'])
  session.update('count', (count) => Number(count ?? 0) + 1)
}

const DROPPING: [name: string, owner: string | undefined, step: Step, after: object][] = [
  [
    'a login with keep',
    undefined,
    (session) => session.login('ada', { keep: ['cart', 'count'] }),
    { userId: 'ada', cart: ['book', 'pen'], count: 2 }
  ],
  [
    'a login with keep of the same user',
    'ada',
    (session) => session.login('ada', { keep: ['cart', 'count'] }),
    { userId: 'ada', cart: ['book', 'pen'], count: 2 }
  ],
  [
    'a login with an empty keep',
    undefined,
    (session) => session.login('ada', { keep: [] }),
    { userId: 'ada' }
  ],
  ['a login as another user', 'eve', (session) => session.login('ada'), { userId: 'ada' }],
  ['set(userKey) to another user', 'eve', (session) => session.set('userId', 'ada'), { userId: 'ada' }],
  [
    'a rotation with keep',
    'ada',
    (session) => session.regenerate(['userId', 'cart']),
    { userId: 'ada', cart: ['book', 'pen'] }
  ],
  [
    'a login with keep and update()',
    undefined,
    (session) => {
      session.update('count', (count) => Number(count) + 10)
      session.login('ada', { keep: ['count'] })
    },
    { userId: 'ada', count: 12 }
  ],
  [
    'a login as another user and update()',
    'eve',
    (session) => {
      session.update('count', (count) => Number(count) + 10)
      session.login('ada')
      session.update('count', (count) => Number(count ?? 0) + 100)
    },
    { userId: 'ada', count: 100 }
  ],
  [
    'a login with keep and the values that it sets',
    undefined,
    (session) => {
      session.set('secret', 'mine')
      session.set('cart', ['book'])
      session.login('ada', { keep: [] })
    },
    { userId: 'ada', secret: 'mine', cart: ['book'] }
  ]
]

for (const [name, owner, step, after] of DROPPING) {
  race(`${name} is exact against a request that writes meanwhile`, async (scene) => {
    const { t, begin, late, visit, valuesIn, memory } = scene
    const id = await begin((session) => {
      if (owner !== undefined) session.login(owner)
      session.set('cart', ['book'])
      session.set('count', 1)
    })
    const { status, client } = await late(step, (other) => visit(write, other))
    t.equal(status, 200)
    t.same(await valuesIn(client), after)
    t.same([memory.size, memory.get(id)], [1, undefined])
  })
}

race('a login that drops nothing keeps what a request writes meanwhile', async (scene) => {
  const { t, begin, late, visit, valuesIn } = scene
  await begin((session) => session.set('count', 1))
  const { client } = await late(
    (session) => session.login('ada'),
    (other) => visit(write, other)
  )
  const secret = 'written by another request'
  t.same(await valuesIn(client), { userId: 'ada', secret, cart: ['book', 'pen'], count: 2 })
})

race('a write that comes after a login of another request is a 409 and changes nothing', async (scene) => {
  const { t, begin, late, visit, valuesIn } = scene
  await begin((session) => session.login('eve'))
  let winner: Browser | undefined
  const { response, cookies } = await late(write, (other) => {
    winner = other
    return visit((session) => session.login('ada'), other)
  })
  t.match(response.json(), { statusCode: 409, code: 'SESSION_GONE' })
  t.same([cookies, await valuesIn(winner as Browser)], [[], { userId: 'ada' }])
})
