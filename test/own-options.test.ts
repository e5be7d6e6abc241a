import t from 'tap'
import { MemoryStore, requireAuth, type SessionOptions } from '../plugin/index.js'
import { fastifySession } from '../plugin/migrate/index.js'
import { resolveOptions } from '../plugin/options/resolve.js'
import { COOKIE_OPTIONS, CSRF_OPTIONS, OPTIONS } from '../plugin/options/table.js'
import { ownOptions } from '../plugin/own-options.js'
import { PostgresStore } from '../plugin/stores/postgres/store.js'
import { RedisStore } from '../plugin/stores/redis/store.js'
import { SqliteStore } from '../plugin/stores/sqlite/store.js'
import { addRoutes, Browser, makeApp, SECRET } from './fixtures/app.js'
import { polluted } from './fixtures/pollution.js'
import { open, workingDriver } from './fixtures/sqlite.js'
import { makeRecord } from './fixtures/stores.js'
import { CountingStore } from './migrate/fixtures/old-apps.js'

/** For each option, a valid value that differs from its default. */
const OTHER: Record<string, unknown> = {
  secret: 'o'.repeat(32),
  cookieName: 'other',
  maxAge: 60,
  idleTimeout: 60,
  cookie: { secure: false },
  idLength: 16,
  cleanupInterval: 60,
  store: new MemoryStore(),
  migrateFrom: new MemoryStore(),
  properties: true,
  userKey: 'other',
  maxSessionsPerUser: 1,
  onLimit: 'reject',
  maxSize: 60,
  clearSiteData: true,
  csrf: { token: false },
  onStoreError: 'anonymous',
  storeTimeout: 60,
  schema: { properties: {} },
  path: '/other',
  domain: 'evil.test',
  secure: false,
  httpOnly: false,
  sameSite: 'none',
  partitioned: true,
  persistent: false,
  protect: 'all',
  header: 'other',
  field: 'other',
  trustedOrigins: ['https://evil.test'],
  token: false,
  decorate: false,
  // These are properties of the table of options, not options.
  default: 60,
  description: 'other'
}

/** Resolves options and reads every option, while the prototype of all objects may be polluted. */
function resolve(given: Partial<SessionOptions>): Record<string, unknown> {
  const store = new MemoryStore()
  const resolved = resolveOptions({ secret: SECRET, ...given }, () => store)
  const read = (from: object, names: object) =>
    Object.fromEntries(Object.keys(names).map((name) => [name, Reflect.get(from, name)]))
  const { cookie, csrf, store: used, secrets } = resolved
  return {
    ...read(resolved, OPTIONS),
    cookie: read(cookie, COOKIE_OPTIONS),
    csrf: read(csrf, CSRF_OPTIONS),
    store: used === store,
    secret: secrets.map((key) => key.export().toString())
  }
}

void t.test('an option that is only on Object.prototype counts for nothing', async (t) => {
  const plain = resolve({})
  const partial = resolve({ cookie: { path: '/a' }, csrf: { field: 'a' } })
  for (const [name, value] of Object.entries(OTHER)) {
    t.same(await polluted(name, value, () => resolve({})), plain, name)
    const given = () => resolve({ cookie: { path: '/a' }, csrf: { field: 'a' } })
    t.same(await polluted(name, value, given), partial, `${name}, beside other options of its group`)
  }
  const names = Object.keys({ ...OPTIONS, ...COOKIE_OPTIONS, ...CSRF_OPTIONS })
  t.same(
    names.filter((name) => !(name in OTHER)),
    []
  )
  const withoutSecret = () => resolveOptions({} as SessionOptions, () => new MemoryStore())
  await t.rejects(polluted('secret', SECRET, withoutSecret), { option: 'secret', message: /is missing/ })
})

void t.test('a domain that is only on Object.prototype is not sent with the cookie', async (t) => {
  const app = addRoutes(await polluted('domain', 'evil.test', () => makeApp(t)))
  const { headers } = await polluted('domain', 'evil.test', () =>
    app.inject('/set?name=ada').then((reply) => reply)
  )
  t.match(headers['set-cookie'], /^session_id=[^;]+; Max-Age=\d+; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
})

void t.test('an option of a store that is only on Object.prototype counts for nothing', async (t) => {
  const record = makeRecord()
  const sizeOf = () => {
    const store = new MemoryStore()
    for (const id of ['a', 'b']) store.create(id, record)
    return store.size
  }
  t.equal(await polluted('maxSessions', 1, sizeOf), 2)

  const tablesOf = () => {
    const database = open(':memory:', workingDriver())
    t.ok(new SqliteStore(database, {}))
    return database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all({})
  }
  t.same(await polluted('table', 'other', tablesOf), [{ name: 'sessions' }])

  const sent: unknown[] = []
  const queryOf = async () => {
    const pool = { query: async (query: object) => ({ rows: [], sent: sent.push({ ...query }) }) }
    await new PostgresStore({ pool }).get('a')
  }
  for (const [name, value] of Object.entries({ table: 'other', schema: 'other', prepare: false }))
    await polluted(name, value, queryOf)
  t.match(sent, Array(3).fill({ name: /^sesame_/, text: /FROM "sessions"/ }))

  const keys: string[] = []
  const client = {
    hgetall: async (key: string) => ({ sent: String(keys.push(key)) }),
    eval: async () => undefined,
    evalsha: async () => undefined
  }
  await polluted('prefix', 'other:', () => new RedisStore({ client }).get('abc'))
  t.same(keys, ['sesame:{ab}:abc'])
  t.throws(() => new RedisStore(undefined as never), { message: /"client" is undefined/ })
})

void t.test('an option of requireAuth that is only on Object.prototype counts for nothing', async (t) => {
  const statuses = async () => {
    const app = addRoutes(await makeApp(t))
    app.get('/guarded', { preHandler: requireAuth({}) }, async () => 'guarded')
    const browser = new Browser(app)
    const visit = async (accept: string) => {
      const { statusCode, headers, body } = await browser.get('/guarded', { accept })
      return [statusCode, headers.location ?? body]
    }
    const before = [await visit('text/html'), await visit('application/json')]
    await browser.get('/set?userId=ada')
    return [...before, await visit('text/html')]
  }
  const plain = await statuses()
  t.match(plain, [
    [302, '/login'],
    [401, /Please login/],
    [200, 'guarded']
  ])
  const options = {
    userKey: 'other',
    loginPath: '/evil',
    message: 'evil',
    freshWithin: 1e-9,
    check: () => false
  }
  for (const [name, value] of Object.entries(options))
    t.same(await polluted(name, value, statuses), plain, name)
})

void t.test('ownOptions() returns the own properties in an object without a prototype', async (t) => {
  const given = JSON.parse('{"a":1,"__proto__":{"b":2}}') as Record<string, unknown>
  const own = ownOptions(given)
  t.equal(Object.getPrototypeOf(own), null)
  t.same(Object.keys(own), ['a', '__proto__'])
  t.equal(own['b'], undefined)
  t.same(Object.keys(ownOptions(undefined)), [])
})

void t.test(
  'an option of another session library that is only on Object.prototype counts for nothing',
  async (t) => {
    const store = new CountingStore()
    const make = (): object => ({ ...fastifySession({ secret: SECRET, store }) })
    const plain = JSON.stringify(make())
    const values = {
      cookieName: 'x',
      cookie: { path: '/x' },
      path: '/x',
      domain: 'x',
      keep: true,
      until: new Date(1)
    }
    for (const [name, value] of Object.entries(values))
      t.equal(await polluted(name, value, () => JSON.stringify(make())), plain, name)
  }
)
