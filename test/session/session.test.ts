import { inspect } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'
import Type from 'typebox'
import sessions, { SessionError, type Session } from '../../plugin/index.js'
import { SECRET, setCookieOf } from '../fixtures/app.js'
import { listen } from '../fixtures/diagnostics.js'
import { lookAt, makeVisits, valuesOf } from '../fixtures/visits.js'

const HOSTILE_KEYS = [
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '',
  ' ',
  'a.b',
  'ß\u0000',
  '0'
]

/** Every method that changes a session. */
const CHANGES: Record<string, (session: Session) => unknown> = {
  set: (session) => session.set('name', 'eve'),
  update: (session) => session.update('name', () => 'eve'),
  remove: (session) => session.remove('name'),
  clear: (session) => session.clear(),
  setFlash: (session) => session.setFlash('note', 'eve'),
  getFlash: (session) => session.getFlash('note'),
  regenerate: (session) => session.regenerate(),
  invalidate: (session) => session.invalidate()
}

/** Makes every change in `CHANGES` and returns an object that maps the name of each change to its error code. */
function codesOf(session: Session): Record<string, string> {
  return Object.fromEntries(
    Object.entries(CHANGES).map(([name, change]) => [name, codeOf(() => change(session))])
  )
}

function codeOf(work: () => unknown): string {
  try {
    work()
    return 'nothing was thrown'
  } catch (error) {
    return error instanceof SessionError ? error.code : String(error)
  }
}

function all<T>(value: T): Record<string, T> {
  return Object.fromEntries(Object.keys(CHANGES).map((name) => [name, value]))
}

void t.test('the next request reads every value exactly as it was set', async (t) => {
  const { visit } = await makeVisits(t)
  const values = { a: null, b: false, c: 0, d: '', e: [1, [2]], f: { g: { h: 'ß' } }, i: 1e300 }
  await visit((session) => {
    for (const [key, value] of Object.entries(values)) session.set(key, value)
    t.same(valuesOf(session), values, 'in the same request, too')
  })
  const { result } = await visit((session) => ({
    values: valuesOf(session),
    has: [session.has('a'), session.has('z')],
    absent: session.get('z')
  }))
  t.same(result, { values, has: [true, false], absent: undefined })
})

void t.test('a key that is not a string throws an error that names its type and not its value', async (t) => {
  const { visit } = await makeVisits(t)
  const calls: Record<string, (session: Session, key: string) => unknown> = {
    get: (session, key) => session.get(key),
    has: (session, key) => session.has(key),
    set: (session, key) => session.set(key, 'x'),
    update: (session, key) => session.update(key, () => 'x'),
    remove: (session, key) => session.remove(key),
    setFlash: (session, key) => session.setFlash(key, 'x'),
    getFlash: (session, key) => session.getFlash(key),
    peekFlash: (session, key) => session.peekFlash(key)
  }
  const keys: [key: unknown, name: string][] = [
    [1, 'of type number'],
    [undefined, 'of type undefined'],
    [null, 'null'],
    [{ name: 'hunter2' }, 'of type object'],
    [['hunter2'], 'of type object'],
    [Symbol('hunter2'), 'of type symbol'],
    [1n, 'of type bigint']
  ]
  await visit((session) => {
    for (const [name, call] of Object.entries(calls)) {
      for (const [key, shown] of keys)
        t.throws(
          () => call(session, key as string),
          {
            code: 'SESSION_VALUE_INVALID',
            key: undefined,
            message: `Session key ${shown} must be a string`
          },
          `${name} with ${shown}`
        )
    }
    t.equal(session.modified, false)
  })
})

void t.test('remove() removes one key, clear() removes all keys, and the session keeps its id', async (t) => {
  const { visit } = await makeVisits(t)
  const { result: id } = await visit((session) => {
    for (const key of ['a', 'b', 'c']) session.set(key, key)
    return session.id
  })
  await visit((session) => {
    session.remove('a')
    t.same([session.has('a'), session.get('a'), session.keys()], [false, undefined, ['b', 'c']])
  })
  t.same((await visit(valuesOf)).result, { b: 'b', c: 'c' })
  await visit((session) => {
    session.clear()
    t.same(session.keys(), [])
  })
  t.same((await visit((session) => [session.id, session.keys()])).result, [id, []])
})

void t.test('keys that begin with $ cannot be changed, and no session method shows them', async (t) => {
  const { visit, browser } = await makeVisits(t)
  await visit((session, _request, reply) => {
    session.setFlash('note', 'hello')
    reply.generateCsrf()
  })
  await visit((session) => {
    for (const key of ['$', '$csrf', '$flash.note', '$x']) {
      for (const change of [
        () => session.set(key, 'eve'),
        () => session.update(key, () => 'eve'),
        () => session.remove(key)
      ]) {
        t.throws(change, {
          code: 'SESSION_VALUE_INVALID',
          key,
          message: `Session key "${key}" begins with "$"`
        })
      }
      t.same([session.get(key), session.has(key)], [undefined, false])
    }
    t.same(session.keys(), [])
    t.equal(session.modified, false)
  }, browser)
})

void t.test(
  '__proto__, constructor, toString and "" are ordinary keys and do not pollute any prototype',
  async (t) => {
    const { visit } = await makeVisits(t)
    await visit((session) => {
      for (const key of HOSTILE_KEYS) {
        t.same([session.get(key), session.has(key)], [undefined, false], `absent at first: ${key}`)
        session.set(key, { polluted: key })
      }
    })
    await visit((session) => {
      t.same(session.keys().sort(), [...HOSTILE_KEYS].sort())
      for (const key of HOSTILE_KEYS) {
        t.same(session.get(key), { polluted: key })
        session.update(key, (value) => ({ ...(value as object), again: true }))
      }
    })
    await visit((session) => {
      for (const key of HOSTILE_KEYS) t.same(session.get(key), { polluted: key, again: true })
      for (const key of HOSTILE_KEYS) session.remove(key)
    })
    t.same((await visit((session) => session.keys())).result, [])
    t.notOk('polluted' in {} || 'polluted' in Object || 'polluted' in [])
  }
)

void t.test('__proto__, constructor, toString and "" are also ordinary flash keys', async (t) => {
  const { visit } = await makeVisits(t)
  const keys = [...HOSTILE_KEYS, '$csrf']
  await visit((session) => keys.forEach((key) => session.setFlash(key, key)))
  const { result } = await visit((session) => keys.map((key) => session.getFlash(key)))
  t.same(result, keys)
  t.same((await visit((session) => keys.filter((key) => session.peekFlash(key)))).result, [])
})

void t.test(
  'set(), update() and setFlash() refuse a value that JSON cannot represent, and nothing is written',
  async (t) => {
    const { visit } = await makeVisits(t)
    await visit((session) => session.set('name', 'ada'))
    const values = [() => 1, Symbol('s'), 1n, NaN, new Map(), [undefined], { a: { b: 1n } }] as never[]
    const { calls } = await visit((session) => {
      for (const value of values) {
        const error = { code: 'SESSION_VALUE_INVALID', key: 'name', message: /^Session key "name" cannot/ }
        t.throws(() => session.set('name', value), error)
        t.throws(() => session.update('name', () => value), error)
        t.throws(() => session.setFlash('name', value), error)
      }
      const forgotten = { code: 'SESSION_VALUE_INVALID', message: /it is undefined/ }
      t.throws(() => session.update('name', () => undefined as never), forgotten)
      t.throws(() => session.setFlash('name', undefined as never), forgotten)
      t.equal(session.get('name'), 'ada')
    })
    t.same(calls, ['get'])
  }
)

void t.test(
  'a Date is read back as an ISO string, both in the same request and in the next one',
  async (t) => {
    const { visit } = await makeVisits(t)
    const text = '1970-01-01T00:00:00.000Z'
    await visit((session) => {
      session.set('at', new Date(0))
      t.equal(session.get('at'), text)
    })
    t.equal((await visit((session) => session.get('at'))).result, text)
  }
)

void t.test('an in-place change that JSON cannot represent fails the request', async (t) => {
  const { visit, attempt } = await makeVisits(t)
  await visit((session) => session.set('list', [1]))
  for (const value of [undefined, 1n, NaN]) {
    const { response, calls } = await attempt(
      (session) => void (session.get('list') as unknown[]).push(value)
    )
    t.match(response.json(), { statusCode: 500, code: 'SESSION_VALUE_INVALID', message: /"list"/ })
    t.same(calls, ['get'])
  }
  t.same((await visit((session) => session.get('list'))).result, [1])
})

void t.test(
  'reading a session makes only one get call, or no store call if the visitor has no cookie',
  async (t) => {
    const { visit, browser } = await makeVisits(t)
    const read = (session: Session) => [
      ...session.keys().map((key) => [session.get(key), session.has(key)]),
      session.peekFlash('note'),
      session.getFlash('absent'),
      lookAt(session)
    ]
    t.same((await visit(read)).calls, [])
    t.equal(browser.cookies.size, 0)
    await visit((session) => {
      session.set('a', { b: [1] })
      session.setFlash('note', 'hello')
    })
    t.same((await visit(read)).calls, ['get'])
  }
)

const NO_CHANGE: Record<string, (session: Session) => unknown> = {
  'set() to an equal value': (session) => session.set('user', { name: 'ada', tags: ['a'] }),
  'set() to the value that get() returned': (session) => session.set('user', session.get('user')),
  'set() to another value and back': (session) => session.set('n', 2) ?? session.set('n', 1),
  'update() to an equal value': (session) => session.update('n', (n) => n),
  'remove() of an absent key': (session) => session.remove('absent'),
  'set() and remove() of an absent key': (session) => session.set('x', 1) ?? session.remove('x'),
  'an in-place change that is undone': (session) => {
    const user = session.get('user') as { name: string }
    user.name = 'eve'
    t.equal(session.modified, true)
    user.name = 'ada'
  },
  'setFlash() and getFlash() of a message': (session) => session.setFlash('x', 1) ?? session.getFlash('x'),
  'setFlash() to an equal message': (session) => session.setFlash('note', { text: 'hello' }),
  'an update() that throws': (session) => {
    t.throws(() =>
      session.update('n', () => {
        throw new Error('no')
      })
    )
  }
}

for (const [name, work] of Object.entries(NO_CHANGE)) {
  void t.test(`${name} does not count as a change and writes nothing`, async (t) => {
    const { visit } = await makeVisits(t)
    await visit((session) => {
      session.set('user', { name: 'ada', tags: ['a'] })
      session.set('n', 1)
      session.setFlash('note', { text: 'hello' })
    })
    const { calls, result } = await visit(async (session) => {
      await work(session)
      return session.modified
    })
    t.same(calls, ['get'])
    t.equal(result, false)
  })
}

void t.test('clear() does not count as a change if the session is already empty', async (t) => {
  const { visit } = await makeVisits(t)
  const clear = (session: Session) => session.clear() ?? session.modified
  t.match(await visit(clear), { calls: [], result: false })
  await visit((session) => session.set('a', 1))
  t.match(await visit(clear), { calls: ['get', 'update'], result: true })
  t.match(await visit(clear), { calls: ['get'], result: false })
})

void t.test(
  'the value of the key that userKey names becomes the user id, and must be a string or a number',
  async (t) => {
    const { visit, memory } = await makeVisits(t, { userKey: 'account' })
    const userAfter = async (work: (session: Session) => unknown) => {
      const { result: id } = await visit((session) => (work(session), session.id))
      return memory.get(id)?.userId
    }
    t.equal(
      await userAfter((session) => session.set('userId', 'eve')),
      null,
      'another key does not name a user'
    )
    t.equal(await userAfter((session) => session.set('account', 'ada')), 'ada')
    t.equal(await userAfter((session) => session.set('account', 7)), '7')
    t.equal(await userAfter((session) => session.set('other', 1)), '7')
    t.equal(
      await userAfter((session) => session.set('account', null)),
      undefined,
      'removing the user is a logout'
    )
    t.equal(await userAfter((session) => session.update('account', () => 0)), '0')
    t.equal(await userAfter((session) => session.remove('account')), undefined)
    t.equal(await userAfter((session) => session.set('account', 'ada')), 'ada')
    t.equal(await userAfter((session) => session.clear() ?? session.set('other', 2)), null)
    t.equal(await userAfter((session) => session.set('account', 'ada')), 'ada')
    t.equal(await userAfter((session) => session.invalidate() ?? session.set('other', 3)), null)
    await visit((session) => {
      for (const value of ['', {}, ['ada'], true, NaN, 7n, new Date()]) {
        const error = { code: 'SESSION_VALUE_INVALID', key: 'account' }
        t.throws(() => session.set('account', value), error)
        t.throws(() => session.update('account', () => value), error)
      }
      const message = 'Session key "account" says whose session it is, so it must be'
      t.throws(() => session.set('account', true), { message })
    })
  }
)

const schema = Type.Object(
  { name: Type.String({ maxLength: 9 }), cart: Type.Array(Type.Object({ n: Type.Integer() })) },
  { additionalProperties: false }
)

void t.test('with a schema, setting an invalid value throws an error that names the key', async (t) => {
  const { visit, attempt } = await makeVisits(t, { schema })
  await visit((session, _request, reply) => {
    session.set('name', 'ada')
    session.set('cart', [{ n: 1 }])
    session.setFlash('note', 'the schema does not apply to flash messages')
    t.type(reply.generateCsrf(), 'string')
    const refused = (key: string, value: unknown, message: RegExp) => {
      const error = { code: 'SESSION_VALUE_INVALID', key, message }
      t.throws(() => session.set(key, value), error)
      t.throws(() => session.update(key, () => value), error)
    }
    refused('name', 7, /"name" must be string/)
    refused('name', 'hunter2 hunter2', /^((?!hunter2).)*$/)
    refused('cart', [{ n: 'x' }], /"cart" at \/0\/n must be integer/)
    refused('color', 'red', /"color" is not in the schema/)
  })
  const { response, calls } = await attempt((session) => void (session.get('cart') as unknown[]).push('x'))
  t.match(response.json(), { statusCode: 500, code: 'SESSION_VALUE_INVALID', message: /"cart" at \/1/ })
  t.same(calls, ['get'], 'in-place changes are checked too')
})

void t.test('a stored value that the schema refuses is treated as absent and reported', async (t) => {
  const { visit, memory } = await makeVisits(t, { schema })
  const reports = listen(t, 'invalid-record')
  const { result: id } = await visit((session) => session.set('name', 'ada') ?? session.id)
  const now = Date.now()
  const set = { name: '7', cart: '[{"n":1}]', color: '"red"' }
  memory.update(id, { set, remove: [], lastAccessed: now, expiresAt: now + 60_000 })
  const { result } = await visit((session) => ({
    name: session.get('name'),
    has: session.has('name'),
    keys: session.keys(),
    values: valuesOf(session)
  }))
  t.same(result, { name: undefined, has: false, keys: ['cart'], values: { cart: [{ n: 1 }] } })
  t.match(reports, [{ id, key: 'name', reason: 'schema' }])
  t.ok(reports.some((report) => (report as { key: string }).key === 'color'))
  await visit((session) => session.update('name', (name) => name ?? 'eve'))
  t.equal((await visit((session) => session.get('name'))).result, 'eve', 'the key can be written again')
  await visit((session) => session.remove('color'))
  t.notOk('color' in (memory.get(id)?.data ?? {}), 'the key can be removed')
})

void t.test(
  'changing a session after it has been saved throws an error, so that no change is lost silently',
  async (t) => {
    const { app, visit } = await makeVisits(t)
    const late: Record<string, string>[] = []
    app.addHook('onResponse', async ({ session }) => void late.push(codesOf(session)))
    const early = await visit(async (session) => {
      session.set('name', 'ada')
      await session.save()
      t.throws(() => session.set('name', 'eve'), { message: 'already saved: change it before save()' })
      return codesOf(session)
    })
    t.same(early.result, all('SESSION_COMMITTED'))
    await visit((session) => session.get('name'))
    t.same(late, [all('SESSION_COMMITTED'), all('SESSION_COMMITTED')])
    t.equal((await visit((session) => session.get('name'))).result, 'ada')
  }
)

void t.test(
  'changing a session after the reply throws an error, even if the request has not used the session before',
  async (t) => {
    const { app, visit, browser, store } = await makeVisits(t)
    app.get('/untouched', async () => 'untouched')
    const late: unknown[] = []
    app.addHook('onResponse', async ({ session, url }) => {
      if (url === '/untouched') late.push(codesOf(session), session.keys())
    })
    await visit((session) => session.set('name', 'ada'))
    for (const cookie of ['nobody', browser.cookies.get('session_id') as string]) {
      await app.inject({ url: '/untouched', cookies: { session_id: cookie } })
    }
    await app.sessionManager.cleanup()
    t.same(late, [all('SESSION_COMMITTED'), [], all('SESSION_COMMITTED'), ['name']])
    t.same(store.takeNames(), ['get', 'cleanup'])
  }
)

void t.test('an in-place change after save() fails the request instead of being lost', async (t) => {
  const { attempt, visit } = await makeVisits(t)
  const { response, calls } = await attempt(async (session) => {
    const list = [1]
    session.set('list', list)
    await session.save()
    list.push(2)
  })
  const message = 'An object of the session was changed in place after save()'
  t.match(response.json(), { statusCode: 500, code: 'SESSION_COMMITTED', message })
  t.same(calls, ['create'])
  await visit((session) => session.set('list', [1]))
  const cyclic = await attempt(async (session) => {
    const list = session.get('list') as unknown[]
    await session.save()
    list.push(list)
  })
  t.match(cyclic.response.json(), { statusCode: 500, code: 'SESSION_VALUE_INVALID' })
})

void t.test('save() writes the session immediately, and a second call to save() does nothing', async (t) => {
  const { visit, memory } = await makeVisits(t)
  const { result, calls, response } = await visit(async (session) => {
    session.set('name', 'ada')
    await session.save()
    const { size } = memory
    await session.save()
    return { size, name: session.get('name'), has: session.has('name'), keys: session.keys() }
  })
  t.same(result, { size: 1, name: 'ada', has: true, keys: ['name'] }, 'the session can still be read')
  t.same(calls, ['create'])
  t.match(setCookieOf(response), 'session_id=')
})

void t.test(
  'on a readonly route, everything in the session can be read and every change throws an error',
  async (t) => {
    const { visit, browser } = await makeVisits(t)
    await visit((session) => {
      session.set('name', 'ada')
      session.setFlash('note', 'hello')
    })
    const work = async (session: Session) => {
      const codes = codesOf(session)
      t.throws(() => session.set('name', 'eve'), { message: "config { session: 'readonly' }" })
      await session.save()
      return { codes, values: valuesOf(session), note: session.peekFlash('note') }
    }
    const { result, calls } = await visit(work, browser, 'readonly')
    t.same(result, { codes: all('SESSION_READONLY'), values: { name: 'ada' }, note: 'hello' })
    t.same(calls, ['get'])
  }
)

void t.test('an in-place change on a readonly route causes no error and is not saved', async (t) => {
  const { visit, browser } = await makeVisits(t)
  await visit((session) => session.set('list', [1]))
  const change = async (session: Session) => {
    const list = session.get('list') as unknown[]
    await session.save()
    list.push(2)
  }
  t.same((await visit(change, browser, 'readonly')).calls, ['get'])
  t.same((await visit((session) => session.get('list'))).result, [1])
})

void t.test(
  'before the session is loaded, its properties can be read, and every method throws an error',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    const seen: unknown[] = []
    app.addHook('onRequest', async ({ session }) => {
      seen.push(codesOf(session), session.isNew, session.modified)
      t.throws(() => session.set('name', 'eve'), { message: /after the onRequest hook of fastify-sesame/ })
      await session.save()
    })
    await app.register(sessions, { secret: SECRET })
    app.get('/', async () => 'ok')
    t.equal((await app.inject('/')).statusCode, 200)
    t.same(seen, [all('SESSION_NOT_LOADED'), true, false])
  }
)

void t.test('JSON.stringify() and util.inspect() do not reveal the token of a session', async (t) => {
  const { visit, browser } = await makeVisits(t)
  const show = (session: Session) => [
    JSON.stringify({ session }),
    inspect(session, { depth: 20, showHidden: true, getters: true }),
    inspect(Object.getOwnPropertyDescriptors(session), { depth: 20, showHidden: true }),
    // eslint-disable-next-line @typescript-eslint/no-base-to-string -- a careless log line does this
    String(session)
  ]
  const made = await visit((session) => {
    session.set('name', 'ada')
    return [session.id, ...show(session)]
  })
  const kept = await visit((session) => [session.id, ...show(session)])
  const [token] = (browser.cookies.get('session_id') as string).split('.') as [string]
  for (const text of [...made.result, ...kept.result]) t.notMatch(text, token)
  t.equal(made.result[1], '{"session":{}}')
})
