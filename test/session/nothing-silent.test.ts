import { runInThisContext } from 'node:vm'
import t from 'tap'
import type { Session } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { slowStore } from '../fixtures/stores.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

// These tests cover mistakes that must not be lost silently: each works, or throws and says what to do.

void t.test('assigning an unknown property of the session throws, and names session.set', async (t) => {
  const { app, attempt, visit } = await makeVisits(t)
  app.get('/off', { config: { session: false } }, async ({ session }) => {
    Reflect.set(session, 'user', 'ada')
    return 'off'
  })
  // Code that is not a module runs in sloppy mode, where other failed assignments are silent.
  const sloppy = runInThisContext('(session) => { session.user = "ada" }') as (session: Session) => void
  for (const assign of [
    sloppy,
    (session: Session) => void Object.assign(session, { user: 'ada' }),
    (session: Session) => void ((session as unknown as Record<string, unknown>).user = { name: 'ada' }),
    (session: Session) => void Reflect.set(session, 'user', undefined)
  ]) {
    const { response, calls, cookies } = await attempt(assign)
    t.match(response.json(), {
      statusCode: 500,
      code: 'SESSION_PROPERTY_UNKNOWN',
      message: /session\.set\("user", value\).* the plugin's option properties to true/
    })
    t.same([calls, cookies], [[], []])
  }
  await visit((session) => {
    t.equal(Reflect.get(session, 'user'), undefined)
    t.notOk('user' in session)
    const error = { code: 'SESSION_PROPERTY_UNKNOWN' }
    for (const name of ['cookie', 'passport', 'toString2', '__proto', '', 'a b', '0'])
      t.throws(() => Reflect.set(session, name, 1), error, name)
    t.throws(() => Reflect.set(session, Symbol('x'), 1), error)
  })
  t.match((await app.inject('/off')).json(), { code: 'SESSION_PROPERTY_UNKNOWN' })
})

void t.test('modified and isNew are false after save()', async (t) => {
  const { app, visit, browser } = await makeVisits(t)
  const saved = async (work: (session: Session) => void, client = browser) =>
    (
      await visit(async (session) => {
        work(session)
        const { modified } = session
        await session.save()
        return [modified, session.modified, session.isNew, session.id]
      }, client)
    ).result
  const id = () => idOfCookie(`session_id=${browser.cookies.get('session_id')}`)
  t.same(await saved((session) => session.set('name', 'ada')), [true, false, false, id()])
  t.same(await saved((session) => session.set('name', 'eve')), [true, false, false, id()])
  t.same(await saved((session) => session.get('name')), [false, false, false, id()])
  t.same(await saved((session) => session.login('ada')), [true, false, false, id()])
  t.same(await saved((session) => session.regenerate()), [true, false, false, id()])
  const [, modified, isNew] = await saved((session) => session.setFlash('note', 'hello'), new Browser(app))
  t.same([modified, isNew], [false, true], 'a visitor stays new')
  const ended = await saved((session) => session.invalidate())
  t.same(ended.slice(0, 3), [true, false, true], 'the store does not have it')
})

void t.test('a change after save() throws SESSION_COMMITTED', async (t) => {
  const { visit } = await makeVisits(t)
  await visit(async (session) => {
    session.set('name', 'ada')
    await session.save()
    const changes: ((session: Session) => void)[] = [
      () => session.set('name', 'eve'),
      () => session.login('ada'),
      () => session.regenerate(),
      () => session.clear(),
      () => session.invalidate(),
      () => session.setFlash('note', 'hello'),
      () => session.take('name')
    ]
    for (const change of changes) t.throws(() => change(session), { code: 'SESSION_COMMITTED' })
    t.equal(session.get('name'), 'ada')
  })
})

const REFUSED: Record<string, unknown> = {
  'a function': () => undefined,
  'a symbol': Symbol('x'),
  'a BigInt': 1n,
  'a Buffer': Buffer.from('x'),
  'a Map': new Map([[1, 2]]),
  'a Set': new Set([1]),
  'a RegExp': /x/,
  'an Error': new Error('x')
}

for (const [name, value] of Object.entries(REFUSED)) {
  void t.test(`${name} is refused as a value, and nothing changes`, async (t) => {
    const { visit } = await makeVisits(t)
    await visit((session) => session.set('name', { of: 'ada' }))
    const { result, calls } = await visit((session) => {
      const error = { name: 'SessionValueError', code: 'SESSION_VALUE_INVALID', key: 'name' }
      for (const wrong of [value, [value], { deep: { value } }, [[{ value }]]]) {
        t.throws(() => session.set('name', wrong), error)
        t.throws(() => session.update('name', () => wrong as object), error)
        t.throws(() => session.setFlash('name', wrong as object), { code: 'SESSION_VALUE_INVALID' })
      }
      return [session.get('name'), session.modified]
    })
    t.same([result, calls], [[{ of: 'ada' }, false], ['get']])
  })

  // JSON.stringify() drops these two. Looking for them would cost every request that reads an object.
  if (name === 'a function' || name === 'a symbol') continue

  void t.test(`${name} that is put into a value in place is refused when the session is saved`, async (t) => {
    const { attempt, visit } = await makeVisits(t)
    await visit((session) => session.set('name', { of: 'ada' }))
    const { response } = await attempt((session) => {
      Reflect.set(session.get('name') as object, 'more', value)
    })
    t.equal(response.statusCode, 500)
    t.match(response.body, 'SESSION_VALUE_INVALID')
    t.same((await visit(valuesOf)).result, { name: { of: 'ada' } })
  })
}

const DATE = new Date('2030-01-02T03:04:05.678Z')

class Entity {
  readonly secret = 'not for the session'
  toJSON() {
    return { id: 7, at: DATE }
  }
}

const WITH_TO_JSON: Record<string, [value: object, kept: unknown]> = {
  'a Date': [DATE, DATE.toISOString()],
  'an entity': [new Entity(), { id: 7, at: DATE.toISOString() }],
  'a URL': [new URL('https://app.test/'), 'https://app.test/'],
  'an object with a Date': [{ at: DATE }, { at: DATE.toISOString() }],
  'a list of entities': [[new Entity()], [{ id: 7, at: DATE.toISOString() }]]
}

for (const [name, [value, kept]] of Object.entries(WITH_TO_JSON)) {
  void t.test(`${name} is kept as what its toJSON gives, and reads so at once`, async (t) => {
    const { visit } = await makeVisits(t)
    const { result } = await visit((session) => {
      session.set('one', value)
      session.update('two', () => value)
      session.setFlash('three', value)
      return [session.get('one'), session.get('two'), session.peekFlash('three')]
    })
    t.strictSame(result, [kept, kept, kept], 'at once')
    const { result: later } = await visit((session) => [
      session.get('one'),
      session.get('two'),
      session.getFlash('three')
    ])
    t.strictSame(later, [kept, kept, kept], 'in the next request')
  })
}

/** Returns how many bytes of UTF-8 the session's keys and texts have. */
const sizeOf = (data: object): number =>
  Object.entries(data).reduce(
    (size, [key, value]) => size + Buffer.byteLength(key) + Buffer.byteLength(JSON.stringify(value)),
    0
  )

for (const character of ['x', 'é', '€', '😀', '"', '\u0001']) {
  void t.test(
    `maxSize counts the bytes of keys and texts exactly: ${JSON.stringify(character)}`,
    async (t) => {
      const data = { name: character.repeat(50), [character]: [character] }
      const size = sizeOf(data)
      for (const maxSize of [size - 1, size]) {
        const { attempt, memory } = await makeVisits(t, { maxSize })
        const { response, calls, cookies } = await attempt((session) => {
          for (const [key, value] of Object.entries(data)) session.set(key, value)
        })
        if (maxSize === size) {
          t.same([response.statusCode, calls], [200, ['create']])
          continue
        }
        t.match(response.json(), { statusCode: 413, code: 'SESSION_TOO_LARGE' })
        t.match(response.json<{ message: string }>().message, new RegExp(`${size} .*${maxSize}`))
        t.same([calls, cookies, memory.size], [[], [], 0])
      }
    }
  )
}

void t.test('maxSize is one mebibyte by default', async (t) => {
  const { attempt } = await makeVisits(t)
  const room = 1_048_576 - sizeOf({ name: '' })
  t.equal((await attempt((session) => session.set('name', 'x'.repeat(room + 1)))).response.statusCode, 413)
  t.equal((await attempt((session) => session.set('name', 'x'.repeat(room)))).response.statusCode, 200)
})

for (const maxSize of [0, -1, 1.5, NaN, Infinity, '1mb', null]) {
  void t.test(`maxSize ${String(maxSize)} is refused at registration`, async (t) => {
    await t.rejects(makeVisits(t, { maxSize: maxSize as number }), {
      code: 'SESSION_OPTION_INVALID',
      option: 'maxSize'
    })
  })
}

void t.test('a session that would be too large is not written, and the old one is still there', async (t) => {
  const { attempt, visit, browser, memory } = await makeVisits(t, { maxSize: 200 })
  await visit((session) => {
    session.login('ada')
    session.set('name', 'x'.repeat(100))
  })
  const cookie = browser.cookie
  const before = memory.get(idOfCookie(cookie))
  const works: Record<string, (session: Session) => void> = {
    set: (session) => session.set('more', 'x'.repeat(100)),
    update: (session) => session.update('name', (name) => `${String(name)}${'x'.repeat(100)}`),
    'a flash message': (session) => session.setFlash('note', 'x'.repeat(100)),
    'a rotation and set': (session) => {
      session.regenerate()
      session.set('more', 'x'.repeat(100))
    },
    'a login and set': (session) => {
      session.login('ada')
      session.set('more', 'x'.repeat(100))
    }
  }
  for (const [name, work] of Object.entries(works)) {
    const { response, calls, cookies } = await attempt(work)
    t.match(response.json(), { statusCode: 413, code: 'SESSION_TOO_LARGE' }, name)
    t.same([calls, cookies], [['get'], []], name)
  }
  t.same([memory.get(idOfCookie(cookie)), browser.cookie], [before, cookie])
  const { result } = await visit((session) => session.get('userId'))
  t.equal(result, 'ada')
})

void t.test('what a request removes, and what goes at a login as another user, does not count', async (t) => {
  const { visit } = await makeVisits(t, { maxSize: 200 })
  await visit((session) => {
    session.login('eve')
    session.set('name', 'x'.repeat(150))
  })
  t.same((await visit((session) => session.set('name', 'y'.repeat(160)))).calls, ['get', 'update'])
  await visit((session) => {
    session.remove('name')
    session.set('more', 'x'.repeat(150))
  })
  await visit((session) => {
    session.login('ada')
    session.set('name', 'x'.repeat(150))
  })
  t.same(Object.keys((await visit(valuesOf)).result).sort(), ['name', 'userId'])
})

void t.test(
  'a session that is too large for a new maxSize can be read, extended, cut down and ended',
  async (t) => {
    const before = await makeVisits(t)
    await before.visit((session) => {
      session.set('name', 'x'.repeat(500))
      session.set('other', 1)
    })
    const { app, attempt, visit } = await makeVisits(t, { maxSize: 100, store: before.memory })
    const browser = new Browser(app)
    browser.cookies.set('session_id', before.browser.cookies.get('session_id') as string)
    t.equal((await visit((session) => session.get('other'), browser)).result, 1)
    t.equal((await attempt((session) => session.set('other', 2), browser)).response.statusCode, 413)
    t.equal((await attempt((session) => session.remove('name'), browser)).response.statusCode, 200)
    t.equal((await attempt((session) => session.set('other', 2), browser)).response.statusCode, 200)
    t.same((await visit((session) => session.invalidate(), browser)).calls, ['get', 'destroy'])
  }
)

for (const [name, end] of Object.entries({
  'invalidate()': (session: Session) => session.invalidate(),
  'a logout by removal': (session: Session) => session.remove('userId')
})) {
  void t.test(`${name} holds even if what is set afterwards is too large`, async (t) => {
    const { attempt, visit, memory, browser } = await makeVisits(t, { maxSize: 200 })
    await visit((session) => session.login('ada'))
    const { response, calls, cookies } = await attempt((session) => {
      end(session)
      session.set('more', 'x'.repeat(300))
    })
    t.match(response.json(), { statusCode: 413, code: 'SESSION_TOO_LARGE' })
    t.same([calls, memory.size, browser.cookies.size], [['get', 'destroy'], 0, 0])
    t.match(cookies, [/^session_id=; Max-Age=0; /])
  })
}

void t.test('an error handler can end a session that was too large to be saved', async (t) => {
  const { app, attempt, visit, memory, browser } = await makeVisits(t, { maxSize: 200 })
  app.setErrorHandler(async (_error, { session }, reply) => {
    session.invalidate()
    return reply.code(413).send('too large')
  })
  await visit((session) => session.login('ada'))
  await attempt((session) => session.set('more', 'x'.repeat(300)))
  t.same([memory.size, browser.cookies.size], [0, 0])
})

void t.test('save() throws SESSION_TOO_LARGE, and the request goes on without a write', async (t) => {
  const { visit } = await makeVisits(t, { maxSize: 200 })
  await visit((session) => session.set('name', 'ada'))
  const { calls, cookies } = await visit(async (session) => {
    session.set('more', 'x'.repeat(300))
    await t.rejects(session.save(), { code: 'SESSION_TOO_LARGE', statusCode: 413 })
    t.equal(session.get('name'), 'ada')
  })
  t.same([calls, cookies], [['get'], []])
  t.same((await visit(valuesOf)).result, { name: 'ada' })
})

void t.test('a request that is retried counts the size of the newer record', async (t) => {
  const { attempt, visit, browser, app } = await makeVisits(t, { maxSize: 200, store: slowStore() })
  await visit((session) => session.set('list', []))
  const append = (session: Session): void =>
    session.update('list', (list) => [...(list as string[]), 'x'.repeat(100)])
  const other = new Browser(app)
  other.cookies.set('session_id', browser.cookies.get('session_id') as string)
  const { response, cookies } = await attempt(async (session) => {
    append(session)
    await visit(append, other)
  })
  t.match([response.json(), cookies], [{ code: 'SESSION_TOO_LARGE' }, { length: 0 }])
  t.same((await visit(valuesOf)).result, { list: ['x'.repeat(100)] })
})
