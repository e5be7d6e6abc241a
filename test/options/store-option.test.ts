import { createRequire } from 'node:module'
import { Redis, Cluster } from 'ioredis'
import { Client, Pool } from 'pg'
import { createClient, createCluster } from 'redis'
import t from 'tap'
import { MemoryStore, type SessionStore } from '../../plugin/index.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { fromExpressStore } from '../../plugin/stores/express/store.js'
import { PostgresStore } from '../../plugin/stores/postgres/store.js'
import { RedisStore } from '../../plugin/stores/redis/store.js'
import { SqliteStore } from '../../plugin/stores/sqlite/store.js'
import { SECRET } from '../fixtures/app.js'
import { makeFake } from '../fixtures/express.js'
import { open, problemOf } from '../fixtures/sqlite.js'
import { failingStore } from '../fixtures/stores.js'

const REDIS = /is a Redis client, not a store; write `new RedisStore\(\{ client \}\)`/
const POSTGRES =
  /is a pool or client of a database, not a store; for pg, write `new PostgresStore\(\{ pool \}\)`/
const SQLITE = /is a SQLite database, not a store; write `new SqliteStore\(database\)`/
const EXPRESS = /is a store of express-session; write `fromExpressStore\(store\)`/

const expressSession = createRequire(import.meta.url)('express-session') as { MemoryStore: new () => object }
/** What an application may pass instead of a store. Nothing here connects to a server. */
const MISTAKES: Record<string, [make: () => unknown, message: RegExp]> = {
  'an ioredis client': [() => new Redis({ lazyConnect: true }), REDIS],
  'an ioredis cluster': [() => new Cluster([], { lazyConnect: true }), REDIS],
  'a node-redis client': [() => createClient(), REDIS],
  'a node-redis cluster': [() => createCluster({ rootNodes: [] }), REDIS],
  'a pool of pg': [() => new Pool(), POSTGRES],
  'a client of pg': [() => new Client(), POSTGRES],
  'an express-session store': [() => new expressSession.MemoryStore(), EXPRESS],
  'a promise of a store': [async () => new MemoryStore(), /is a promise, not a store; await it first/],
  'the class of a store': [() => MemoryStore, /is a function or a class, not a store; pass an instance/],
  'the name of a store': [
    () => 'redis://:hunter2@db',
    /lacks get, create, update, destroy; a store is a MemoryStore/
  ]
}
for (const driver of ['better-sqlite3', 'node:sqlite'])
  if (problemOf(driver) === undefined)
    MISTAKES[`a database of ${driver}`] = [() => open(':memory:', driver), SQLITE]

for (const [name, [make, message]] of Object.entries(MISTAKES)) {
  void t.test(`${name} as a store is refused, and the error says what to write`, async (t) => {
    for (const option of ['store', 'migrateFrom']) {
      const given = { secret: SECRET, [option]: make() }
      const error = errorOf(() => resolveOptions(given, () => new MemoryStore()))
      t.match(error, { code: 'SESSION_OPTION_INVALID', option, message })
      t.notMatch(error.message, 'hunter2')
    }
  })
}

void t.test(
  'a store without listByUser is refused only with maxSessionsPerUser, which the error names',
  async (t) => {
    const options = { secret: SECRET, store: fromExpressStore(makeFake()) }
    t.ok(resolveOptions(options, () => new MemoryStore()))
    const error = errorOf(() =>
      resolveOptions({ ...options, maxSessionsPerUser: 1 }, () => new MemoryStore())
    )
    t.match(error, { option: 'store', message: /lacks listByUser, which `maxSessionsPerUser` needs$/ })
  }
)

/** Options that a store does not have, and what the error says. */
const UNKNOWN: [make: (options: never) => unknown, option: string, message: RegExp][] = [
  [(options) => new MemoryStore(options), 'max', /use `maxSessions`/],
  [(options) => new MemoryStore(options), 'ttl', /use `maxAge` of the plugin/],
  [(options) => new MemoryStore(options), 'checkPeriod', /use `cleanupInterval` of the plugin/],
  [(options) => new MemoryStore(options), 'prefix', /is unknown; the options here are maxSessions$/],
  [(options) => new SqliteStore(':memory:', options), 'prefix', /use `table` to keep applications apart/],
  [(options) => new SqliteStore(':memory:', options), 'path', /are table, synchronous, busyTimeout, driver$/],
  [(options) => new PostgresStore(options), 'conString', /use `new PostgresStore\(\{ pool: new pg\.Pool\(/],
  [(options) => new PostgresStore(options), 'tableName', /use `table`$/],
  [(options) => new PostgresStore(options), 'prefix', /use `table` or `schema`/],
  [(options) => new PostgresStore(options), 'createTableIfMissing', /call `await store\.migrate\(\)`/],
  [(options) => new PostgresStore(options), 'other', /are pool, table, schema, prepare$/],
  [(options) => new RedisStore(options), 'url', /use `client` with a client: .*createClient/],
  [(options) => new RedisStore(options), 'ttl', /use `maxAge` of the plugin/],
  [(options) => new RedisStore(options), 'keyPrefix', /are client, prefix$/]
]

void t.test('an unknown option of a store is refused, and the error says what to use instead', async (t) => {
  for (const [make, option, message] of UNKNOWN) {
    const error = errorOf(() => make({ [option]: 'hunter2' } as never))
    t.match(error, { code: 'SESSION_OPTION_INVALID', option, message })
    t.notMatch(error.message, 'hunter2')
    t.notMatch(
      String(errorOf(() => make({ [option]: undefined } as never))),
      'is unknown',
      'undefined is no option'
    )
  }
})

void t.test('a client or a pool instead of the options of its store is refused', async (t) => {
  for (const client of [new Redis({ lazyConnect: true }), createClient()])
    t.match(
      errorOf(() => new RedisStore(client as never)),
      {
        option: 'client',
        message: /is missing; use `new RedisStore\(\{ client \}\)`/
      }
    )
  t.match(
    errorOf(() => new PostgresStore(new Pool() as never)),
    {
      option: 'pool',
      message: /is missing; use `new PostgresStore\(\{ pool: /
    }
  )
})

void t.test('a missing or wrong client or pool is named correctly, and its value is not shown', async (t) => {
  t.match(
    errorOf(() => new RedisStore(undefined as never)).message,
    '"client" is undefined; it must be a client'
  )
  t.match(errorOf(() => new PostgresStore(undefined as never)).message, '"pool" has no query()')
  for (const wrong of [undefined, null, 'hunter2', 7, true, Symbol('hunter2'), 1n, () => 'hunter2', {}, []]) {
    const errors = [
      () => new RedisStore({ client: wrong } as never),
      () => new PostgresStore({ pool: wrong } as never)
    ]
    for (const { message } of errors.map(errorOf)) {
      t.match(message, /"(client|pool)" (is|has no) /)
      t.notMatch(message, /\ban? (undefined|null|object)\b|hunter2/)
    }
  }
})

void t.test('every kind of store is accepted', async (t) => {
  const stores: SessionStore[] = [
    new MemoryStore({ maxSessions: 1 }),
    new SqliteStore(':memory:', { table: 'a', synchronous: 'full', busyTimeout: 1 }),
    new PostgresStore({ pool: new Pool(), table: 'a', schema: 'b', prepare: false }),
    new RedisStore({ client: createClient(), prefix: 'a:' }),
    fromExpressStore(makeFake()),
    failingStore(() => false)
  ]
  for (const store of stores) {
    const options = { secret: SECRET, store }
    t.equal(resolveOptions(options, () => new MemoryStore()).store, store)
  }
})

function errorOf(work: () => unknown): Error {
  try {
    work()
  } catch (error) {
    return error as Error
  }
  return new Error('no error')
}
