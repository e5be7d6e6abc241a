import { createRequire } from 'node:module'
import fc from 'fast-check'
import type Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { MemoryStore, type SessionRecord, type SessionStore } from '../../plugin/index.js'
import { SqliteStore } from '../../plugin/stores/sqlite/store.js'
import { signIn } from '../../plugin/testing/index.js'
import { makeApp } from '../fixtures/app.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { listen } from '../fixtures/diagnostics.js'
import { problemOf } from '../fixtures/sqlite.js'
import { makeRecord, wrap } from '../fixtures/stores.js'
import { check } from './fixtures/check.js'

const KEYS = ['name', '__proto__', 'constructor', 'toString', '', '$csrf', '$flash.note', 'userId'] as const
const FIELDS = ['version', 'data', 'createdAt', 'lastAccessed', 'expiresAt', 'userId'] as const
const anything = fc.anything({
  withBigInt: true,
  withDate: true,
  withMap: true,
  withNullPrototype: true,
  withSparseArray: true
})
const text = fc.oneof(
  fc.json(),
  fc.string(),
  fc.constantFrom(
    '{"__proto__":{"polluted":1}}',
    '{"constructor":{"prototype":{"polluted":1}}}',
    '{"at":1e999}',
    '{"value":1,"at":"x"}',
    '"',
    'null',
    ''
  )
)
const data = fc.dictionary(fc.oneof(fc.constantFrom(...KEYS), fc.string()), fc.oneof(text, anything))
const field = fc.oneof(
  anything,
  fc.constantFrom<unknown>(NaN, Infinity, -1, 1.5, 9e18, 8.64e15, '1', '', [], {}, null, undefined)
)

/** Creates an app that uses `store`. Its route `/all` uses every part of the session, and `/logout` ends it. */
async function setUp(t: Test, store: SessionStore) {
  const app = await makeApp(t, { store, cleanupInterval: 0 })
  app.get('/all', async ({ session }, reply) => {
    const values = session.keys().map((key) => [key, session.get(key)] as const)
    const read = KEYS.map((key) => [session.has(key), session.peekFlash(key), session.getFlash(key)].length)
    session.setFlash('note', 'hello')
    reply.generateCsrf()
    session.update('n', () => 1)
    return {
      isNew: session.isNew,
      keys: values.map(([key]) => key),
      read,
      times: [session.createdAt, session.expiresAt]
    }
  })
  app.get('/logout', async ({ session }) => {
    session.invalidate()
    return 'logout'
  })
  return { app, reported: listen(t, 'invalid-record') as { id: string; key?: string; reason: string }[] }
}

function isPolluted(): boolean {
  return 'polluted' in {} || 'polluted' in Object || 'polluted' in Function
}

/** Returns whether a value is a valid session record, without using the library's own check. */
function isRecord(given: unknown): given is SessionRecord {
  const { version, data, createdAt, lastAccessed, expiresAt, userId } = Object(given) as Record<
    string,
    unknown
  >
  return (
    Number.isInteger(version) &&
    data !== null &&
    typeof data === 'object' &&
    !Array.isArray(data) &&
    [createdAt, lastAccessed, expiresAt].every(
      (time) => typeof time === 'number' && Math.abs(time) <= 8.64e15
    ) &&
    (userId === null || typeof userId === 'string')
  )
}

function isJson(text: unknown): boolean {
  try {
    return typeof text === 'string' && JSON.parse(text) !== undefined
  } catch {
    return false
  }
}

void t.test('any invalid record that the store returns is treated as absent and reported', async (t) => {
  const memory = new MemoryStore()
  let answer: unknown
  const store = wrap(memory, (method, _args, next) =>
    method === 'get' ? answer : method === 'update' ? 'ok' : next()
  )
  const { app, reported } = await setUp(t, store)
  const { cookie } = await signIn(app, { name: 'ada' })
  const broken = fc.record(
    {
      version: field,
      data: fc.oneof(data, anything),
      createdAt: field,
      lastAccessed: field,
      expiresAt: field,
      userId: field
    },
    { requiredKeys: [] }
  )
  const given = fc.oneof(
    anything,
    broken,
    broken.map((part) => ({ ...makeRecord(), ...part })),
    {
      weight: 4,
      arbitrary: fc
        .tuple(fc.constantFrom(...FIELDS), field)
        .map(([name, value]) => ({ ...makeRecord(), [name]: value }))
    },
    data.map((data) => makeRecord({ data: data as never }))
  )
  const property = fc.asyncProperty(given, async (given) => {
    answer = given
    reported.length = 0
    const { statusCode, body } = await app.inject({ url: '/all', headers: { cookie } })
    const found = isRecord(given)
    const { isNew } = JSON.parse(body) as { isNew?: boolean }
    const isLive = found && [given.expiresAt, given.createdAt + 86_400_000].every((time) => time > Date.now())
    const texts: [string, unknown][] = found ? Object.entries(given.data) : []
    const invalid = texts.filter(([key, text]) => !key.startsWith('$') && text !== undefined && !isJson(text))
    const reportedKeys = reported
      .map(({ key }) => key)
      .filter((key) => key !== undefined && !key.startsWith('$'))
    if (statusCode !== 200) throw new Error(body)
    if (isNew === isLive) throw new Error(`isNew is ${isNew}`)
    if (!found && given !== undefined && !reported.some(({ reason }) => reason === 'shape'))
      throw new Error('the invalid record was not reported')
    for (const [key] of isLive ? invalid : [])
      if (!reportedKeys.includes(key)) throw new Error(`the invalid value of ${key} was not reported`)
    if (isPolluted()) throw new Error('a prototype was changed')
  })
  await check(t, property, { runs: 1000, what: 'garbage records tried' })
})

void t.test(
  'garbage in a row of the SQLite table neither causes a 5xx nor hides another session',
  { skip: problemOf('better-sqlite3') ?? false },
  async (t) => {
    const Sqlite = createRequire(import.meta.url)('better-sqlite3') as typeof Database
    const database = new Sqlite(':memory:')
    t.teardown(() => void database.close())
    const { app } = await setUp(t, new SqliteStore(database))
    const { cookie } = await signIn(app, { name: 'ada' })
    const { cookie: other } = await signIn(app, { name: 'bob', userId: 'bob' })
    const now = Date.now()
    const put = database.prepare(`INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)`)
    const bytes = fc.uint8Array({ maxLength: 20 }).map((array) => Buffer.from(array))
    const column = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.double({ noNaN: true }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      bytes
    )
    const rowData = fc.oneof(
      text,
      data.map((data) =>
        JSON.stringify(data, (_, it: unknown) => (typeof it === 'bigint' ? String(it) : it))
      ),
      fc.string().map((it) => JSON.stringify({ [`\x01${it}`]: '1' })),
      bytes,
      column
    )
    const time = fc.oneof({ weight: 3, arbitrary: fc.constant(now) }, { weight: 1, arbitrary: column })
    const later = time.map((it) => (it === now ? now + 60_000 : it))
    const user = fc.oneof(fc.constantFrom(null, 'bob', '\x01', '\x01{', Buffer.from('bob')), column)
    const row = fc.tuple(time, rowData, time, time, later, user)
    const property = fc.asyncProperty(row, async (row) => {
      put.run(idOfCookie(cookie), ...row)
      const { statusCode, body } = await app.inject({ url: '/all', headers: { cookie } })
      if (![200, 409].includes(statusCode)) throw new Error(body)
      const list = await app.sessionManager.list('bob')
      if (!list.some(({ id }) => id === idOfCookie(other))) throw new Error('the list omits a session')
      const end = await app.inject({ url: '/logout', headers: { cookie } })
      if (end.statusCode !== 200) throw new Error(end.body)
      if (isPolluted()) throw new Error('a prototype was changed')
    })
    await check(t, property, { runs: 500, what: 'garbage records tried' })
  }
)
