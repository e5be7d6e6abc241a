import { inspect, types } from 'node:util'
import fc from 'fast-check'
import Fastify, { type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import Type from 'typebox'
import sessions, { guarded, MemoryStore, requireAuth, type SessionOptions } from '../../plugin/index.js'
import { Session } from '../../plugin/session/session.js'
import { Browser, makeApp, SECRET } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { polluted } from '../fixtures/pollution.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

// These tests cover the option `properties: true`, with which unknown properties of a session are its data.

/** A session as code for @fastify/session uses it. */
type Bag = Record<string, unknown>

const bagOf = (session: Session): Bag => session as unknown as Bag

const makeBags = (t: Test, options: Partial<SessionOptions> = {}) =>
  makeVisits(t, { properties: true, ...options })

const USAGE = { name: 'SessionUsageError', code: 'SESSION_PROPERTY_UNKNOWN', statusCode: 500 }

type Use = (session: Session, bag: Bag) => unknown

/** Pairs of a use by properties and the same use by methods. `cart` is a list, and `name` is text. */
const PAIRS: Record<string, [byProperty: Use, byMethod: Use]> = {
  'a read': [(_, bag) => bag['name'], (session) => session.get('name')],
  'a read of an absent key': [(_, bag) => bag['absent'], (session) => session.get('absent')],
  'an assignment': [
    (_, bag) => void (bag['name'] = { of: 'eve' }),
    (session) => session.set('name', { of: 'eve' })
  ],
  'an assignment of the same value': [
    (_, bag) => void (bag['name'] = 'ada'),
    (session) => session.set('name', 'ada')
  ],
  'an assignment of a new key': [(_, bag) => void (bag['new'] = 1), (session) => session.set('new', 1)],
  'an assignment of undefined': [
    (_, bag) => void (bag['name'] = undefined),
    (session) => session.set('name', undefined)
  ],
  'an increment': [
    (_, bag) => void (bag['count'] = ((bag['count'] as number | undefined) ?? 0) + 1),
    (session) => session.set('count', ((session.get('count') as number | undefined) ?? 0) + 1)
  ],
  'a change in place': [
    (_, bag) => (bag['cart'] as unknown[]).push('tea'),
    (session) => (session.get('cart') as unknown[]).push('tea')
  ],
  'a default and a change in place': [
    (_, bag) => ((bag['more'] = bag['more'] ?? []) as unknown[]).push(1),
    (session) => {
      session.set('more', session.get('more') ?? [])
      return (session.get('more') as unknown[]).push(1)
    }
  ],
  'a deletion': [
    (_, bag) => Reflect.deleteProperty(bag, 'name'),
    (session) => (session.remove('name'), true)
  ],
  'a deletion of an absent key': [
    (_, bag) => delete bag['absent'],
    (session) => (session.remove('absent'), true)
  ],
  in: [
    (_, bag) => ['name' in bag, 'absent' in bag],
    (session) => [session.has('name'), session.has('absent')]
  ],
  'Object.keys()': [(_, bag) => Object.keys(bag), (session) => session.keys()],
  'for in': [
    (_, bag) => {
      const names = []
      for (const name in bag) names.push(name)
      return names
    },
    (session) => session.keys()
  ],
  'a spread': [(_, bag) => ({ ...bag }), valuesOf],
  'Object.entries()': [(_, bag) => Object.fromEntries(Object.entries(bag)), valuesOf],
  'JSON.stringify()': [
    (_, bag) => JSON.stringify({ bag }),
    (session) => JSON.stringify({ bag: valuesOf(session) })
  ],
  'Object.assign()': [
    (_, bag) => void Object.assign(bag, { a: 1, name: 'eve' }),
    (session) => {
      session.set('a', 1)
      session.set('name', 'eve')
    }
  ],
  'Object.hasOwn() and hasOwnProperty()': [
    (_, bag) => [Object.hasOwn(bag, 'name'), bag.hasOwnProperty('cart'), Object.hasOwn(bag, 'absent')], // eslint-disable-line no-prototype-builtins
    (session) => [session.has('name'), session.has('cart'), session.has('absent')]
  ],
  'a destructuring with a rest': [
    (_, { name, ...rest }) => [name, rest],
    (session) => {
      const { name, ...rest } = valuesOf(session)
      return [name, rest]
    }
  ],
  'flash messages as connect-flash keeps them': [
    (_, bag) => {
      const messages = (bag['flash'] = bag['flash'] ?? {}) as Record<string, string[]>
      return (messages['info'] ??= []).push('hello')
    },
    (session) => (session.set('flash', { info: ['hello'] }), 1)
  ],
  'a key with an odd name': [
    (_, bag) => void Object.assign(bag, { '': 1, '0': 2, 'a b': 3, é: 4, _private: 5 }),
    (session) => {
      for (const [key, value] of Object.entries({ '': 1, '0': 2, 'a b': 3, é: 4, _private: 5 }))
        session.set(key, value)
    }
  ]
}

for (const [name, uses] of Object.entries(PAIRS)) {
  void t.test(`${name} by properties is the same as by methods`, async (t) => {
    stopClock(t)
    const outcomes = []
    for (const use of uses) {
      const { visit, memory, browser } = await makeBags(t)
      await visit((session) => {
        session.set('cart', ['book'])
        session.set('name', 'ada')
      })
      const { result, calls, cookies } = await visit((session) => use(session, bagOf(session)))
      const { version, data, userId } = memory.get(idOfCookie(browser.cookie)) ?? {}
      outcomes.push({ result, calls, cookies, version, data, userId })
    }
    t.strictSame(outcomes[0], outcomes[1])
    t.ok(outcomes[0]?.data, 'the session is stored')
  })
}

type Op = readonly [
  kind: 'set' | 'remove' | 'get' | 'has' | 'keys' | 'push' | 'rotate',
  key: string,
  value: unknown
]

const BY_METHOD: Record<Op[0], (session: Session, key: string, value: unknown) => unknown> = {
  set: (session, key, value) => session.set(key, copyOf(value)),
  remove: (session, key) => session.remove(key),
  get: (session, key) => session.get(key),
  has: (session, key) => session.has(key),
  keys: (session) => session.keys(),
  push: (session, key) => pushTo(session.get(key)),
  rotate: (session) => session.regenerate()
}

const BY_PROPERTY: typeof BY_METHOD = {
  set: (session, key, value) => void (bagOf(session)[key] = copyOf(value)),
  remove: (session, key) => void Reflect.deleteProperty(session, key),
  get: (session, key) => bagOf(session)[key],
  has: (session, key) => key in session,
  keys: (session) => Object.keys(session),
  push: (session, key) => pushTo(bagOf(session)[key]),
  rotate: (session) => session.regenerate()
}

/** Copies a list, because `push` changes it and both runs have to begin with the same one. */
function copyOf(value: unknown): unknown {
  return Array.isArray(value) ? [...(value as unknown[])] : value
}

function pushTo(value: unknown): void {
  if (Array.isArray(value)) value.push(1)
}

/** Runs each list of operations in a request of its own, and returns all that can be observed. */
async function outcomeOf(t: Test, perform: typeof BY_METHOD, requests: readonly (readonly Op[])[]) {
  const { app, attempt, memory, browser } = await makeBags(t)
  const outcomes = []
  for (const ops of requests) {
    const { response, result, calls, cookies } = await attempt((session) =>
      ops.map(([kind, key, value]) => attemptOf(() => perform[kind](session, key, value)))
    )
    const cookie = browser.cookies.get('session_id')
    const { version, data, userId } =
      (cookie === undefined ? undefined : memory.get(idOfCookie(cookie))) ?? {}
    outcomes.push({
      status: response.statusCode,
      result,
      calls,
      cookies,
      version,
      data,
      userId,
      size: memory.size
    })
  }
  await app.close()
  return outcomes
}

function attemptOf(work: () => unknown): unknown {
  try {
    // A later operation can change the value in place.
    return structuredClone(work())
  } catch (error) {
    return (error as { code?: string }).code
  }
}

void t.test('random operations by properties are the same as by methods', async (t) => {
  stopClock(t)
  const key = fc.constantFrom('a', 'b', 'list', 'userId', '', '0', 'é', 'name.of')
  const value = fc.oneof(
    fc.constantFrom('ada', 'bob', 7, null, undefined, () => 1, 1n),
    fc.array(fc.nat(3), { maxLength: 3 }),
    fc.jsonValue({ maxDepth: 2 })
  )
  const kind = fc.constantFrom(...(Object.keys(BY_METHOD) as Op[0][]), 'set' as const, 'push' as const)
  const requests = fc.array(fc.array(fc.tuple(kind, key, value), { maxLength: 8 }), {
    minLength: 1,
    maxLength: 4
  })
  await fc.assert(
    fc.asyncProperty(requests, async (requests) => {
      const expected = await outcomeOf(t, BY_METHOD, requests)
      const got = await outcomeOf(t, BY_PROPERTY, requests)
      if (inspect(got, { depth: 9 }) !== inspect(expected, { depth: 9 }))
        throw new Error(`got ${inspect(got, { depth: 9 })}, expected ${inspect(expected, { depth: 9 })}`)
    }),
    { numRuns: 150 }
  )
})

void t.test('assigning the user is a login, and deleting the user is a logout', async (t) => {
  const { app, visit, memory, browser } = await makeBags(t)
  await visit((session) => void (bagOf(session)['cart'] = ['tea']))
  const before = browser.cookies.get('session_id') as string
  const { calls } = await visit((session) => {
    bagOf(session)['userId'] = 'ada'
    t.type(session.authenticatedAt, 'number')
  })
  t.same(calls, ['get', 'update'])
  t.not(browser.cookies.get('session_id'), before)
  t.match(memory.get(idOfCookie(browser.cookie)), { userId: 'ada', data: { cart: '["tea"]' } })
  const old = new Browser(app)
  old.cookies.set('session_id', before)
  t.same((await visit((session) => ({ ...bagOf(session) }), old)).result, {}, 'the old cookie is dead')
  for (const logout of [
    (bag: Bag) => delete bag['userId'],
    (bag: Bag) => (bag['userId'] = null),
    (bag: Bag) => (bag['userId'] = undefined)
  ]) {
    await visit((session) => session.login('ada'))
    const { calls, cookies } = await visit((session) => void logout(bagOf(session)))
    t.same([calls, memory.size], [['get', 'destroy'], 0])
    t.match(cookies, [/^session_id=; Max-Age=0/])
  }
})

const MEMBERS = Object.getOwnPropertyNames(Session.prototype)
const RESERVED = [
  ...MEMBERS,
  ...Object.getOwnPropertyNames(Object.prototype),
  ...['cookie', 'touch', 'reload', 'options', 'changed', 'deleted', 'encryptedSessionId', 'then', 'toJSON']
]

void t.test('the name of a member is never data: assigning and deleting it throws', async (t) => {
  const { visit } = await makeBags(t)
  t.ok(MEMBERS.length > 25)
  const { calls } = await visit((session) => {
    for (const name of RESERVED) {
      const message = new RegExp(`^session\\.${name} .* session\\.set\\("${name}", value\\)`)
      t.throws(() => Reflect.set(session, name, 1), { ...USAGE, message }, name)
      t.throws(() => Reflect.deleteProperty(session, name), { ...USAGE, message }, name)
    }
    for (const name of ['$csrf', '$', '$flash.a', Symbol('x')]) {
      const message = /use a name that is a string and does not begin with "\$"/
      t.throws(() => Reflect.set(session, name, 1), { ...USAGE, message })
      t.throws(() => Reflect.deleteProperty(session, name), { ...USAGE, message })
      t.equal(Reflect.get(session, name), undefined)
      t.notOk(name in session)
    }
    t.equal(session.modified, false)
  })
  t.same(calls, [])
})

void t.test('data at the name of a member stays data for the methods, and is hidden otherwise', async (t) => {
  const { visit } = await makeBags(t)
  await visit((session) => {
    for (const name of RESERVED) session.set(name, `data ${name}`)
    session.set('name', 'ada')
  })
  await visit((session) => {
    t.same(Object.keys(session), ['name'])
    t.same([Object.getOwnPropertyNames(session), Reflect.ownKeys(session)], [['name'], ['name']])
    t.equal(JSON.stringify(session), '{"name":"ada"}')
    for (const name of RESERVED) {
      t.equal(session.get(name), `data ${name}`)
      t.notOk(Object.hasOwn(session, name), name)
    }
    t.match([session.id, session.isNew], [/^[0-9a-f]{64}$/, false])
    t.equal(typeof session.login, 'function')
    t.equal(Reflect.get(session, 'then'), undefined)
    t.equal(Reflect.get(session, 'toJSON'), undefined)
    t.throws(() => Reflect.get(session, 'cookie') as unknown, USAGE)
  })
})

void t.test('the keys of the library are neither shown nor readable', async (t) => {
  const { visit } = await makeBags(t)
  await visit((session, _request, reply) => {
    session.setFlash('note', 'hello')
    session.login('ada', { maxAge: 60 })
    reply.generateCsrf()
  })
  await visit((session) => {
    t.same([Object.keys(session), JSON.stringify(session)], [['userId'], '{"userId":"ada"}'])
    for (const key of ['$csrf', '$lifetime', '$flash.note']) {
      t.notOk(key in session)
      t.equal(Reflect.get(session, key), undefined)
    }
  })
})

void t.test('a polluted Object.prototype is neither read as data nor does it hide data', async (t) => {
  const { visit } = await makeBags(t)
  await visit((session) =>
    polluted('role', 'admin', () => {
      t.equal(bagOf(session)['role'], undefined)
      t.notOk('role' in session)
      bagOf(session)['role'] = 'member'
    })
  )
  await visit((session) => polluted('role', 'admin', () => t.equal(bagOf(session)['role'], 'member')))
})

void t.test('a session is not a promise, prints without its data, and keeps its tag', async (t) => {
  const { visit } = await makeBags(t)
  await visit(async (session) => {
    bagOf(session)['name'] = 'ada'
    t.equal(await Promise.resolve(session), session)
    t.equal(inspect(session), 'Session {}')
    t.equal(Object.prototype.toString.call(session), '[object Object]')
    t.equal(Reflect.get(session, Symbol.toStringTag), undefined)
    // eslint-disable-next-line @typescript-eslint/no-base-to-string -- a careless log line does this
    t.equal(String(session), '[object Object]')
    t.equal(session.constructor, Session)
    t.ok(session instanceof Session)
  })
})

void t.test('a session refuses what its data cannot hold, and what changes the object itself', async (t) => {
  const { visit } = await makeBags(t, { schema: Type.Object({ role: Type.String() }) })
  const { calls } = await visit((session) => {
    const bag = bagOf(session)
    t.throws(() => (bag['name'] = () => 1), { code: 'SESSION_VALUE_INVALID', key: 'name' })
    t.throws(() => (bag['role'] = 1), { code: 'SESSION_VALUE_INVALID', key: 'role' })
    t.throws(() => Object.defineProperty(bag, 'name', { value: 1 }), { ...USAGE, message: /defineProperty/ })
    t.throws(() => Object.setPrototypeOf(bag, null) as unknown, { ...USAGE, message: /setPrototypeOf/ })
    for (const close of [Object.freeze, Object.seal, Object.preventExtensions])
      t.throws(() => close(bag), { ...USAGE, message: /freeze/ })
    t.ok(Object.isExtensible(bag))
    t.same(Object.keys(bag), [])
  })
  t.same(calls, [])
})

void t.test('the methods work when they are taken from the session', async (t) => {
  const { visit } = await makeBags(t)
  const { result } = await visit(({ set, get, keys }) => {
    set('name', 'ada')
    return [get('name'), keys()]
  })
  t.same(result, ['ada', ['name']])
})

void t.test('everything of the library that takes a session takes this one', async (t) => {
  const memory = new MemoryStore()
  const app = await makeApp(t, { properties: true, store: memory, cleanupInterval: 0 })
  app.get('/login', async (request) => {
    t.equal(request.session, request.session)
    bagOf(request.session)['userId'] = 'ada'
    return 'login'
  })
  app.get('/save', async ({ session }, reply) => {
    bagOf(session)['saved'] = true
    await app.sessionManager.save(session, reply)
    t.throws(() => (bagOf(session)['saved'] = false), { code: 'SESSION_COMMITTED' })
    return session.modified
  })
  app.get('/others', async (request) => {
    const session = await app.sessionManager.get(request)
    t.equal(session, request.session)
    t.equal(await app.sessionManager.getOrCreate(request), session)
    session?.regenerate()
    return app.sessionManager.revokeAll('ada', { except: request.session })
  })
  app.get('/destroy', async ({ session }, reply) => app.sessionManager.destroy(session, reply))
  const check = requireAuth({ check: (session) => bagOf(session)['saved'] === true })
  app.get('/checked', { preHandler: check }, async () => 'checked')
  app.get(
    '/guarded',
    guarded(async ({ userId }) => userId)
  )
  app.get('/page', { preHandler: requireAuth() }, async () => 'page')
  app.get('/return', async ({ session }) => [session.getFlash('error'), session.takeReturnTo()])
  const [first, second] = [new Browser(app), new Browser(app)]
  t.equal((await first.get('/page', { accept: 'text/html' })).statusCode, 302)
  t.same((await first.get('/return')).json(), ['Please login to continue', '/page'])
  for (const browser of [first, second]) await browser.get('/login')
  t.equal((await first.get('/checked')).statusCode, 403)
  t.equal((await first.get('/save')).body, 'false')
  t.equal((await first.get('/checked')).body, 'checked')
  t.equal((await first.get('/guarded')).body, 'ada')
  t.same([(await first.get('/others')).body, memory.size], ['1', 1])
  await first.get('/destroy')
  t.same([memory.size, first.cookies.size], [0, 0])
})

void t.test('CSRF protection works, and its secret is not data', async (t) => {
  const app = await makeApp(t, { properties: true })
  app.get('/form', async ({ session }, reply) => {
    bagOf(session)['seen'] = 1
    return reply.generateCsrf()
  })
  app.post('/form', { preHandler: app.csrfProtection }, async ({ session }) => session)
  const browser = new Browser(app)
  const { body } = await browser.get('/form')
  const post = (token: string) =>
    browser.request({ method: 'POST', url: '/form', headers: { 'x-csrf-token': token } })
  t.equal((await post('x'.repeat(86))).statusCode, 403)
  t.same((await post(body)).json(), { seen: 1 })
})

/** Uses that need a loaded session. */
const USES: Record<string, (bag: Bag) => unknown> = {
  'a read': (bag) => bag['name'],
  in: (bag) => 'name' in bag,
  hasOwn: (bag) => Object.hasOwn(bag, 'name'),
  'an assignment': (bag) => (bag['name'] = 'eve'),
  'a deletion': (bag) => delete bag['name'],
  'a login': (bag) => (bag['userId'] = 'eve')
}
const CHANGES = ['an assignment', 'a deletion', 'a login']

/** Uses that never throw, because a log serializer runs before every hook. */
const SAFE: Record<string, (bag: Bag) => unknown> = {
  keys: (bag) => Object.keys(bag).length,
  JSON: (bag) => JSON.stringify({ bag }),
  spread: (bag) => inspect({ ...bag }),
  inspect: (bag) => inspect(bag, { depth: 5, showHidden: true, getters: true }),
  id: (bag) => bag['id'],
  flags: (bag) => [bag['isNew'], bag['modified']],
  await: (bag) => Promise.resolve<unknown>(bag).then(() => 0)
}

void t.test(
  'before the plugin’s hook, and on a route without a session, the same errors are thrown',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    const codes: unknown[] = []
    const look = async ({ session }: FastifyRequest): Promise<void> => {
      for (const use of Object.values(SAFE)) t.notMatch(inspect(await use(bagOf(session))), /Error/)
      t.equal(Object.keys(session).length, 0)
      codes.push(...Object.values(USES).map((use) => attemptOf(() => use(bagOf(session)))))
    }
    let isEarly = true
    app.addHook('onRequest', async (request) => {
      if (isEarly) await look(request)
    })
    await app.register(sessions, { secret: SECRET, properties: true })
    app.get('/', async () => 'ok')
    app.get('/off', { config: { session: false } }, look)
    t.equal((await app.inject('/')).statusCode, 200)
    t.same(codes.splice(0), Object.keys(USES).fill('SESSION_NOT_LOADED'))
    isEarly = false
    t.equal((await app.inject('/off')).statusCode, 200)
    t.same(codes, Object.keys(USES).fill('SESSION_OFF'))
  }
)

void t.test('on a readonly route the data can be read, and a change throws SESSION_READONLY', async (t) => {
  const { visit, browser } = await makeBags(t)
  await visit((session) => void (bagOf(session)['name'] = 'ada'))
  await visit(
    (session) => {
      t.equal(bagOf(session)['name'], 'ada')
      t.same(Object.keys(session), ['name'])
      for (const [name, use] of Object.entries(USES)) {
        if (CHANGES.includes(name)) t.throws(() => use(bagOf(session)), { code: 'SESSION_READONLY' }, name)
      }
    },
    browser,
    'readonly'
  )
  t.same((await visit(valuesOf)).result, { name: 'ada' })
})

void t.test('an error page reads an empty session, and its assignments are not saved', async (t) => {
  const app = await makeApp(t, { properties: true })
  const fail = async () => {
    throw Object.assign(new Error('failed'), { statusCode: 400 })
  }
  app.get('/off', { config: { session: false } }, fail)
  app.get('/set', async ({ session }) => void (bagOf(session)['name'] = 'ada'))
  app.get('/read', async ({ session }) => session)
  app.setErrorHandler(async (_error, { session }) => {
    bagOf(session)['page'] = 'error'
    return { name: bagOf(session)['name'] ?? null, keys: Object.keys(session) }
  })
  const browser = new Browser(app)
  await browser.get('/set')
  t.same((await browser.get('/off')).json(), { name: null, keys: ['page'] })
  t.same((await browser.get('/read')).json(), { name: 'ada' })
})

void t.test('without the option, a session is not a proxy', async (t) => {
  for (const properties of [undefined, false, true]) {
    const { visit } = await makeVisits(t, { properties })
    const made = await visit((session) => {
      session.set('name', 'ada')
      return types.isProxy(session)
    })
    const loaded = await visit((session) => types.isProxy(session))
    t.same([made.result, loaded.result], [properties === true, properties === true])
  }
})
