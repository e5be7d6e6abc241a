import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { Pool } from 'pg'
import t, { type Test } from 'tap'
import sessions, { SessionOptionError } from '../../plugin/index.js'
import {
  PostgresStore,
  type PostgresPool,
  type PostgresQuery,
  type PostgresStoreOptions
} from '../../plugin/stores/postgres/store.js'
import { stopClock } from '../../plugin/testing/clock.js'
import { signIn } from '../../plugin/testing/index.js'
import Fastify from 'fastify'
import { addRoutes, makeApp, makeLoggedApp, SECRET } from '../fixtures/app.js'
import { listen } from '../fixtures/diagnostics.js'
import { assertNoLeaks } from '../fixtures/leaks.js'
import {
  countStatements,
  findPostgres,
  makePool,
  makeSchema,
  makeStore,
  recordingPool
} from '../fixtures/postgres.js'
import { makeRecord, spyStore } from '../fixtures/stores.js'

const found = await findPostgres(t)
const { skip } = found
const server = 'server' in found ? found.server : { url: '' }

const LATER = { lastAccessed: 1, expiresAt: 4e12 }
const ID = 'a'.repeat(64)

void t.test('SQL queries can read the data as jsonb', { skip }, async (t) => {
  const pool = makePool(t, server)
  const { store, table } = await makeStore(t, pool)
  const app = await makeApp(t, { store })
  await signIn(app, { role: 'admin', userId: 'ada', cart: { items: [{ id: 7 }] } })
  await signIn(app, { role: 'guest', userId: 'bob' })
  const conditions = [
    `(data->>'role')::jsonb = '"admin"'`,
    `(data->>'cart')::jsonb->'items'->0->>'id' = '7'`,
    `(data->>'cart')::jsonb @> '{"items": [{"id": 7}]}'`,
    `user_id = 'ada' AND expires_at > now() AND created_at <= now() + interval '1 minute'`
  ]
  for (const condition of conditions) {
    const { rows } = await pool.query(`SELECT user_id FROM ${table} WHERE ${condition}`)
    t.same(rows, [{ user_id: 'ada' }], condition)
  }
})

void t.test(
  'the store returns a string unchanged even if jsonb cannot hold it or if it looks like an encoded string',
  { skip },
  async (t) => {
    const { store } = await makeStore(t, makePool(t, server))
    const deep = '['.repeat(2000) + ']'.repeat(2000)
    const texts = [deep, '1e999999', '1E2', '-0', '\x01', '\x01"a"', '"\\u0001"', 'a\0b', '\ud800']
    texts.push(
      '"\\u0000"',
      '"\\ud800"',
      '"\\\\u0000"',
      '{"a":1, "b":2}',
      '{"a":1,"a":2}',
      '{"a\\u0000":1}',
      '"\0"'
    )
    const data = Object.fromEntries(texts.map((text, index) => [`\x01${index}`, text]))
    await store.create(ID, makeRecord({ data, expiresAt: 4e12 }))
    t.same({ ...(await store.get(ID))?.data }, data)
    const remove = Object.keys(data)
    t.equal(await store.update(ID, { set: {}, remove, ...LATER }), 'ok')
    t.same({ ...(await store.get(ID))?.data }, {})
  }
)

void t.test(
  'the store returns all keys and strings unchanged, whatever characters they contain',
  { skip },
  async (t) => {
    const { store } = await makeStore(t, makePool(t, server))
    await store.create(ID, makeRecord({ expiresAt: 4e12 }))
    const string = fc.string({ unit: 'binary' })
    const value = fc.jsonValue({ depthSize: 'small', stringUnit: 'binary' })
    const text = fc.oneof(
      string,
      value.map((json) => JSON.stringify(json))
    )
    const property = fc.asyncProperty(
      fc.dictionary(string, text, { noNullPrototype: false }),
      async (set) => {
        await store.update(ID, { set, remove: [], clear: true, ...LATER })
        const data = (await store.get(ID))?.data ?? {}
        t.strictSame(Object.keys(data).sort(), Object.keys(set).sort())
        for (const [key, text] of Object.entries(set)) t.equal(data[key], text)
      }
    )
    await fc.assert(property, { seed: 1, numRuns: 50 })
  }
)

void t.test(
  'reading an object or setting a key to an equal object does not write to the store',
  { skip },
  async (t) => {
    const { store } = await makeStore(t, makePool(t, server))
    const spy = spyStore(store)
    const app = await makeApp(t, { store: spy })
    app.get('/user', async ({ session }) => session.get('user'))
    app.get('/same', async ({ session }) => session.set('user', user) ?? 'set')
    const user = { name: 'ada', id: 7, address: { zip: 'x', at: [{ b: 1, a: 1e21 }] }, 10: '\u2028', 9: 0.1 }
    const { cookie } = await signIn(app, { user })
    spy.take()
    const response = await app.inject({ url: '/user', headers: { cookie } })
    t.same(response.json(), user)
    t.same(spy.takeNames(), ['get'])
    await app.inject({ url: '/same', headers: { cookie } })
    t.same(spy.takeNames(), ['get'])
  }
)

void t.test('extending a session does not rewrite its data', { skip }, async (t) => {
  const pool = makePool(t, server)
  const { store, table } = await makeStore(t, pool)
  const big = JSON.stringify(Array.from({ length: 20_000 }, Math.random))
  await store.create(ID, makeRecord({ data: { big }, expiresAt: 4e12 }))
  const chunks = `SELECT array_agg(DISTINCT chunk_id) AS ids FROM ${await toastOf(pool, table)}`
  const before = (await pool.query(chunks)).rows
  await store.update(ID, { set: {}, remove: [], ...LATER })
  t.same((await pool.query(chunks)).rows, before)
})

async function toastOf(pool: Pool, table: string): Promise<string> {
  const { rows } = await pool.query<{ name: string }>(
    'SELECT reltoastrelid::regclass::text AS name FROM pg_class WHERE oid = $1::regclass',
    [table]
  )
  return rows[0]?.name ?? ''
}

const HOSTILE_NAMES = [
  'sessions"; DROP SCHEMA public CASCADE; --',
  `'; SELECT pg_sleep(10); --`,
  '$1',
  '%s',
  'Sitzungen äöü 🔑',
  'select',
  '\\',
  '"',
  'x'.repeat(48)
]

void t.test('the store quotes hostile table and schema names', { skip }, async (t) => {
  const pool = makePool(t, server)
  for (const name of HOSTILE_NAMES) {
    await pool.query(`CREATE SCHEMA "${name.replaceAll('"', '""')}"`)
    const store = new PostgresStore({ pool, table: name, schema: name })
    await store.migrate()
    await store.migrate()
    await store.ready()
    t.equal(await store.create(ID, makeRecord({ userId: 'ada' })), true, name)
    t.equal(await store.update(ID, { set: { a: '1' }, remove: [], lastAccessed: 1, expiresAt: 2 }), 'ok')
    t.equal(await store.cleanup(), 1)
    const where = { text: 'SELECT tablename, count(*)::int FROM pg_indexes WHERE schemaname = $1 GROUP BY 1' }
    t.same((await pool.query({ ...where, values: [name] })).rows, [{ tablename: name, count: 3 }])
    await pool.query(`DROP SCHEMA "${name.replaceAll('"', '""')}" CASCADE`)
  }
})

void t.test(
  'the constructor throws if PostgreSQL does not allow the name of the table or schema',
  async (t) => {
    const pool = { query: async () => ({ rows: [] }) }
    const refused = ['', 'a\0b', 'x\ud800', 'x'.repeat(64), '🔑'.repeat(16), 7, null] as string[]
    for (const name of refused) {
      t.throws(() => new PostgresStore({ pool, schema: name }), /option "schema" is/)
      t.throws(() => new PostgresStore({ pool, table: name }), /option "table" is/)
    }
    t.throws(
      () => new PostgresStore({ pool, table: 'x'.repeat(49) }),
      /"table" is 'x+', but must be a name of 1 to 48 bytes/
    )
    t.ok(new PostgresStore({ pool, schema: 'x'.repeat(63) }))
  }
)

void t.test('stores with different tables can share a pool', { skip }, async (t) => {
  const pool = makePool(t, server, { max: 1 })
  const schema = await makeSchema(t, pool)
  const stores = ['one', 'two'].map((table) => new PostgresStore({ pool, schema, table }))
  for (const [index, store] of stores.entries()) {
    await store.migrate()
    await store.create(ID, makeRecord({ version: index + 5 }))
  }
  for (const [index, store] of stores.entries()) t.equal((await store.get(ID))?.version, index + 5)
})

void t.test(
  'without the `schema` option, the table is in the first schema of the search path',
  { skip },
  async (t) => {
    const pool = makePool(t, server)
    const schema = await makeSchema(t, pool)
    const own = makePool(t, server, { options: `-c search_path=${schema}` })
    const store = new PostgresStore({ pool: own, table: 'mine' })
    await store.migrate()
    await store.create(ID, makeRecord())
    t.same((await pool.query(`SELECT id FROM ${schema}.mine`)).rows, [{ id: ID }])
  }
)

void t.test(
  'each connection prepares a statement only once, or not at all with `prepare: false`',
  { skip },
  async (t) => {
    for (const prepare of [true, false]) {
      const pool = makePool(t, server, { max: 1 })
      const { store } = await makeStore(t, pool, { prepare })
      for (let turn = 0; turn < 3; turn++) await store.get(ID)
      const { rows } = await pool.query<{ name: string }>('SELECT name FROM pg_prepared_statements')
      t.equal(rows.length, prepare ? 1 : 0)
      for (const { name } of rows) t.match(name, /^sesame_[0-9a-f]{32}$/)
    }
  }
)

void t.test(
  'eight stores with their own pools can run migrate() at the same time, and each store can run it twice',
  { skip },
  async (t) => {
    const pool = makePool(t, server)
    for (let round = 0; round < 5; round++) {
      const schema = await makeSchema(t, pool)
      const pools = Array.from({ length: 8 }, () => new Pool({ connectionString: server.url, max: 1 }))
      const stores = pools.map((pool) => new PostgresStore({ pool, schema }))
      await Promise.all([...stores, ...stores].map((store) => store.migrate()))
      await Promise.all(stores.map((store) => store.ready()))
      await Promise.all(pools.map((pool) => pool.end()))
    }
  }
)

void t.test('PostgresStore.sql() returns the statements that create the table', { skip }, async (t) => {
  const pool = makePool(t, server)
  const schema = await makeSchema(t, pool)
  const options = { schema, table: 'my "own" sessions' }
  const store = new PostgresStore({ pool, ...options })
  for (let turn = 0; turn < 2; turn++) await pool.query(PostgresStore.sql(options))
  t.same(await store.ready(), [])
  const before = recordingPool(pool)
  await new PostgresStore({ pool: before, ...options }).migrate()
  t.notOk(
    before.queries.some(({ text }) => text.includes('CREATE')),
    'migrate() finds nothing to create'
  )

  const [first = ''] = PostgresStore.sql().split('\n')
  t.equal(first, 'CREATE TABLE IF NOT EXISTS "sessions" (')
  t.throws(() => PostgresStore.sql({ table: 'a.b' }), /option "table" is 'a\.b', but must have no dot/)
  t.throws(() => PostgresStore.sql({ tableName: 'x' } as object), /"tableName" is unknown; use `table`/)
})

void t.test('a failed migration does not leave a transaction open', { skip }, async (t) => {
  const pool = makePool(t, server, { max: 1 })
  const schema = await makeSchema(t, pool)
  await pool.query(`CREATE TABLE ${schema}.other (id int); CREATE VIEW ${schema}.sessions AS SELECT 1 AS id`)
  const store = new PostgresStore({ pool, schema })
  await t.rejects(store.migrate(), { code: /^42/ })
  t.same((await pool.query('SELECT 1 AS works')).rows, [{ works: 1 }])
})

void t.test('queries by user, by expiry and by id use an index', { skip }, async (t) => {
  const pool = makePool(t, server)
  const recorder = recordingPool(pool)
  const schema = await makeSchema(t, pool)
  const store = new PostgresStore({ pool: recorder, schema })
  await store.migrate()
  await fill(pool, schema, 20_000)
  await pool.query(`ANALYZE ${schema}.sessions`)
  recorder.queries.length = 0
  await store.listByUser('user 7')
  await store.destroyByUser('user 7')
  await store.cleanup()
  await store.get(ID)
  const expected = [/user_id_idx/, /user_id_idx/, /expires_at_idx/, /sessions_pkey/]
  const byText = [...new Map(recorder.queries.map((query) => [query.text, query])).values()]
  for (const [index, { text, values }] of byText.entries()) {
    const { rows } = await pool.query<{ 'QUERY PLAN': string }>({
      text: `EXPLAIN ${text}`,
      values: values ?? []
    })
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
    t.match(plan, expected[index] ?? /nothing/)
    t.notMatch(plan, /Seq Scan/)
  }
  t.equal(byText.length, expected.length)
})

/** Adds sessions of 1,000 users. Every tenth session has expired. */
async function fill(pool: Pool, schema: string, count: number): Promise<void> {
  await pool.query(
    `INSERT INTO ${schema}.sessions SELECT md5(n::text), 1, '{}', now(), now(),
      now() + CASE WHEN n % 10 = 0 THEN -1 ELSE 1 END * interval '1 day', 'user ' || n % 1000
     FROM generate_series(1, $1) AS n`,
    [count]
  )
}

void t.test(
  'a sweep removes expired sessions in batches and stops once its signal aborts',
  { skip },
  async (t) => {
    const pool = makePool(t, server)
    const { schema, table } = await makeStore(t, pool)
    const recorder = recordingPool(pool)
    const left = async () => (await pool.query(`SELECT count(*)::int AS n FROM ${table}`)).rows as unknown
    await fill(pool, schema, 25_000)
    t.equal(await new PostgresStore({ pool: recorder, schema }).cleanup(), 2500)
    t.equal(recorder.queries.length, 3)
    t.same(await left(), [{ n: 22_500 }])
    await pool.query(`UPDATE ${table} SET expires_at = now() - interval '1 day'`)
    const stop = new AbortController()
    const stopping = new PostgresStore({
      pool: { query: (query) => pool.query(query).finally(() => stop.abort()) },
      schema
    })
    t.equal(await stopping.cleanup(stop.signal), 1000)
    t.same(await left(), [{ n: 21_500 }])
  }
)

void t.test(
  'the sessions of a user with 10,000 of them are listed in steps, and ended without listing them',
  { skip },
  async (t) => {
    const pool = makePool(t, server)
    const { schema, table } = await makeStore(t, pool)
    const values = `md5(n::text), 1, '{"a": "1"}', now(), now(), now() + interval '1 day', 'ada'`
    await pool.query(`INSERT INTO ${table} SELECT ${values} FROM generate_series(1, 10000) AS n`)
    const rows: number[] = []
    let turns = 0
    let isListing = true
    const turn = () => {
      turns++
      if (isListing) setImmediate(turn)
    }
    const counting = {
      query: async (query: PostgresQuery) => {
        const answer = await pool.query(query)
        rows.push(answer.rows.length)
        setImmediate(turn)
        return answer
      }
    }
    const store = new PostgresStore({ pool: counting, schema })
    const sessions = await store.listByUser('ada')
    isListing = false
    t.equal(new Set(sessions.map(({ id }) => id)).size, 10_000)
    t.ok(turns >= 20, `other work ran ${turns} times while the sessions were parsed`)
    t.equal(await store.destroyByUser('ada'), 10_000)
    t.ok(Number(rows[0]) < 100 && rows[1] === 1, `the driver read ${rows.join(' and ')} rows`)
  }
)

void t.test('listByUser returns sessions of very different sizes', { skip }, async (t) => {
  const { store } = await makeStore(t, makePool(t, server))
  const sizes = [1, 100_000, 10, 300_000, 20_000, 20_000]
  for (const [index, size] of sizes.entries())
    await store.create(
      `${index}`,
      makeRecord({ userId: 'ada', data: { a: 'x'.repeat(size) }, version: index })
    )
  const found = await store.listByUser('ada')
  t.same(
    found.map(({ id, record }) => [id, record.version, record.data['a']?.length]).sort(),
    sizes.map((size, index) => [String(index), index, size])
  )
  t.same(
    found.map(({ record }) => record),
    await Promise.all(found.map(({ id }) => store.get(id)))
  )
})

void t.test('a sweep pauses between its batches until its signal aborts', { skip }, async (t) => {
  const pool = makePool(t, server)
  const { schema, table } = await makeStore(t, pool)
  await fill(pool, schema, 40_000)
  const spans: number[] = []
  const timed = {
    query: async (query: PostgresQuery) => {
      spans.push(performance.now())
      const answer = await pool.query(query)
      spans.push(performance.now())
      return answer
    }
  }
  const store = new PostgresStore({ pool: timed, schema })
  t.equal(await store.cleanup(), 4000)
  t.equal(spans.length, 10)
  const between = (from: number) => (spans[from + 1] ?? NaN) - (spans[from] ?? NaN)
  for (const batch of [0, 2, 4, 6])
    t.ok(
      between(batch + 1) > 5 * between(batch),
      `${between(batch)} ms, then a pause of ${between(batch + 1)} ms`
    )
  await pool.query(`UPDATE ${table} SET expires_at = now() - interval '1 day'`)
  const stop = new AbortController()
  const slow = {
    query: async (query: PostgresQuery) => {
      const answer = await pool.query(query)
      await delay(200)
      setImmediate(() => stop.abort())
      return answer
    }
  }
  const start = performance.now()
  t.equal(await new PostgresStore({ pool: slow, schema }).cleanup(stop.signal), 1000)
  t.ok(performance.now() - start < 1500, 'the pause of 1.8 s ends early')
  t.equal(await store.cleanup(stop.signal), 0)
})

void t.test(
  'only one process at a time sweeps expired sessions, and it does not wait for locked rows',
  { skip },
  async (t) => {
    const pool = makePool(t, server)
    const recorder = recordingPool(pool)
    const { schema, table } = await makeStore(t, pool)
    const store = new PostgresStore({ pool: recorder, schema })
    await fill(pool, schema, 100)
    await store.get(ID)
    const other = await pool.connect()
    t.teardown(() => other.release())
    await other.query(`BEGIN; SELECT id FROM ${table} WHERE expires_at < now() LIMIT 1 FOR UPDATE`)
    t.equal(await store.cleanup(), 9, 'a locked row is left for the next sweep')
    await other.query('ROLLBACK')
    const lock = /pg_try_advisory_xact_lock\((-?\d+)\)/.exec(recorder.queries.at(-1)?.text ?? '')?.[1]
    await other.query(`BEGIN; SELECT pg_advisory_xact_lock(${String(lock)})`)
    t.equal(await store.cleanup(), 0, 'another process is sweeping')
    await other.query('ROLLBACK')
    t.equal(await store.cleanup(), 1)
  }
)

void t.test(
  'eight concurrent sweeps remove and count each expired session exactly once',
  { skip },
  async (t) => {
    const pool = makePool(t, server)
    const { store, schema, table } = await makeStore(t, pool)
    await fill(pool, schema, 20_000)
    const counts = await Promise.all(Array.from({ length: 8 }, () => store.cleanup()))
    const rest = await store.cleanup()
    t.equal(
      [...counts, rest].reduce((sum, count) => sum + count),
      2000
    )
    t.same((await pool.query(`SELECT count(*)::int AS n FROM ${table}`)).rows, [{ n: 18_000 }])
  }
)

const NOT_POOLS: Record<string, unknown> = {
  undefined,
  null: null,
  'a connection string': 'postgres://ada:secret@db/app',
  'an empty object': {}
}

for (const [name, pool] of Object.entries(NOT_POOLS)) {
  void t.test(`${name} is rejected as a pool, and the error does not contain the value`, async (t) => {
    t.throws(() => new PostgresStore({ pool } as PostgresStoreOptions), {
      code: 'SESSION_OPTION_INVALID',
      message: /^(?!.*secret).*option "pool" has no query\(\).*new pg\.Pool/
    })
  })
}

/** Returns a pool whose server refuses every statement with the given SQLSTATE code. */
function refusing(code: string): PostgresPool {
  return { query: () => Promise.reject(Object.assign(new Error('refused'), { code })) }
}

interface Wrong {
  readonly message: RegExp
  readonly pool: (t: Test, pool: Pool, schema: string) => Promise<PostgresPool>
}

const WRONG: Record<string, Wrong> = {
  'a missing table': {
    message: /has no table "sesame_\w+"\."sessions": run `await store\.migrate\(\)` once/,
    pool: async (_t, pool) => pool
  },
  'a table with other columns': {
    message: /finds another table at "sesame_\w+"\."sessions": choose another name/,
    async pool(_t, pool, schema) {
      await pool.query(`CREATE TABLE ${schema}.sessions (id text)`)
      return pool
    }
  },
  'an ended pool': {
    message: /option "pool" was ended/,
    async pool() {
      const pool = new Pool({ connectionString: server.url })
      await pool.end()
      return pool
    }
  },
  'a pool of another database': {
    message: /option "pool" returned no rows, so it does not look like a pool of pg/,
    pool: async () => ({ query: async () => [[], []] }) as unknown as PostgresPool
  },
  'a user that the server refuses': {
    message: /cannot log in to PostgreSQL.*refused/,
    pool: async () => refusing('28000')
  },
  'a wrong password': {
    message: /cannot log in to PostgreSQL.*refused/,
    pool: async () => refusing('28P01')
  },
  'a missing database': {
    message: /cannot log in to PostgreSQL: correct the user, password or database.*"nowhere"/,
    pool: async (t) => makePool(t, server, { connectionString: server.url.replace(/\/[^/]*$/, '/nowhere') })
  },
  'a role without permissions': {
    message: /has no permission for "sesame_\w+"\."sessions": GRANT SELECT/,
    pool: (t, pool, schema) => poolOfRole(t, pool, schema, '')
  },
  'a role that may only read': {
    message: /has no permission for "sesame_\w+"\."sessions": GRANT SELECT, INSERT, UPDATE, DELETE ON/,
    pool: (t, pool, schema) => poolOfRole(t, pool, schema, 'SELECT')
  },
  'a role that may not delete': {
    message: /has no permission for "sesame_\w+"\."sessions": GRANT SELECT, INSERT, UPDATE, DELETE ON/,
    pool: (t, pool, schema) => poolOfRole(t, pool, schema, 'SELECT, INSERT, UPDATE')
  }
}

/** Creates the table and returns a pool whose role has only these privileges on it. */
async function poolOfRole(t: Test, pool: Pool, schema: string, privileges: string): Promise<Pool> {
  await new PostgresStore({ pool, schema }).migrate()
  await pool.query(`CREATE ROLE ${schema} LOGIN`)
  t.teardown(() => pool.query(`DROP OWNED BY ${schema}; DROP ROLE ${schema}`))
  if (privileges !== '')
    await pool.query(
      `GRANT USAGE ON SCHEMA ${schema} TO ${schema}; GRANT ${privileges} ON ${schema}.sessions TO ${schema}`
    )
  return makePool(t, server, { options: `-c role=${schema}` })
}

void t.test('with all privileges on the table, a role can use it and call migrate()', { skip }, async (t) => {
  const admin = makePool(t, server)
  const schema = await makeSchema(t, admin)
  const pool = await poolOfRole(t, admin, schema, 'SELECT, INSERT, UPDATE, DELETE')
  const store = new PostgresStore({ pool, schema })
  await store.migrate()
  t.same(await store.ready(), [])
  t.equal(await store.create(ID, makeRecord()), true)
  t.equal(await store.update(ID, { set: { a: '1' }, remove: [], ...LATER }), 'ok')
  t.equal(await store.destroy(ID), true)
})

const INCOMPLETE = {
  'without a table': 'DROP TABLE %',
  'without a column': 'ALTER TABLE % DROP created_at',
  'with a column of another type': 'ALTER TABLE % ALTER version TYPE int',
  'without an index on the expiry': 'DROP INDEX %_expires_at_idx',
  'without an index on the users': 'DROP INDEX %_user_id_idx',
  'without a primary key': 'ALTER TABLE % DROP CONSTRAINT sessions_pkey'
}

for (const [name, sql] of Object.entries(INCOMPLETE)) {
  void t.test(`migrate() fails for a role that may not create anything ${name}`, { skip }, async (t) => {
    const admin = makePool(t, server)
    const schema = await makeSchema(t, admin)
    const pool = await poolOfRole(t, admin, schema, 'SELECT, INSERT, UPDATE, DELETE')
    await admin.query(sql.replaceAll('%', `${schema}.sessions`))
    await t.rejects(new PostgresStore({ pool, schema }).migrate(), { code: '42501' })
  })
}

void t.test('the table’s name is refused if it contains a schema', async (t) => {
  const pool = { query: async () => ({ rows: [] }) }
  t.throws(() => new PostgresStore({ pool, table: 'auth.sessions' }), {
    code: 'SESSION_OPTION_INVALID',
    message: /"table" is 'auth.sessions', but must have no dot.*`schema: 'auth', table: 'sessions'`/
  })
  t.throws(() => new PostgresStore({ pool, table: 'db.auth.sessions' }), { code: 'SESSION_OPTION_INVALID' })
  t.ok(new PostgresStore({ pool, schema: 'a.b' }))
})

void t.test('ready() warns if the transactions of the pool are read-only', { skip }, async (t) => {
  const admin = makePool(t, server)
  const { schema } = await makeStore(t, admin)
  const pool = makePool(t, server, { options: '-c default_transaction_read_only=on' })
  const store = new PostgresStore({ pool, schema })
  const { lines } = await makeLoggedApp(t, { store })
  t.match(
    lines.join('\n'),
    /fastify-sesame: PostgreSQL runs the transactions.*`default_transaction_read_only`/
  )
})

void t.test(
  'ready() warns if the clock of the process is more than 5 seconds from PostgreSQL’s',
  { skip },
  async (t) => {
    const { store } = await makeStore(t, makePool(t, server))
    t.same(await store.ready(), [])
    for (const [seconds, text] of [
      [90, '90 s ahead of the clock of PostgreSQL, so sessions end too early'],
      [-3600, '3600 s behind the clock of PostgreSQL, so sessions end too late']
    ] as const) {
      const clock = stopClock(Date.now() + seconds * 1000)
      t.teardown(() => clock.restore())
      const [warning, ...others] = await store.ready()
      clock.restore()
      const shown = warning?.replace(/\b(89|3601) s/, (found) => (found === '89 s' ? '90 s' : '3600 s'))
      t.equal(shown, `the clock of this process is ${text}: synchronize both clocks with NTP`)
      t.same(others, [])
    }
  }
)

void t.test(
  'a sweep goes by PostgreSQL’s clock, so a process whose clock is ahead ends no live session',
  { skip },
  async (t) => {
    const { store } = await makeStore(t, makePool(t, server))
    const hour = 3_600_000
    await store.create(ID, makeRecord({ expiresAt: Date.now() + 24 * hour }))
    await store.create('b', makeRecord({ expiresAt: Date.now() - 1 }))
    const clock = stopClock(Date.now() + 25 * hour)
    t.teardown(() => clock.restore())
    t.equal(await store.cleanup(), 1)
    clock.restore()
    t.ok(await store.get(ID))
  }
)

void t.test('a pool that returns no rows ends no session and gives no warning', async (t) => {
  const store = new PostgresStore({ pool: { query: async () => ({ rows: [] }) } })
  t.same(await store.ready(), [])
  t.equal(await store.destroyByUser('ada'), 0)
  t.equal(await store.cleanup(), 0)
  t.same(await store.listByUser('ada'), [])
})

for (const [name, { message, pool }] of Object.entries(WRONG)) {
  void t.test(
    `with ${name}, registration fails and the error message says how to fix it`,
    { skip },
    async (t) => {
      const admin = makePool(t, server)
      const schema = await makeSchema(t, admin)
      const store = new PostgresStore({ pool: await pool(t, admin, schema), schema })
      const app = Fastify()
      await t.rejects(async () => app.register(sessions, { secret: SECRET, store }), { message })
      await t.rejects(store.ready(), SessionOptionError)
    }
  )
}

void t.test('ready() does not report an unreachable server as an option error', async (t) => {
  const away = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  const store = new PostgresStore({ pool: { query: () => Promise.reject(away) } })
  await t.rejects(store.ready(), away)
})

void t.test('a store is ready after migrate()', { skip }, async (t) => {
  const { store } = await makeStore(t, makePool(t, server))
  await store.ready()
  const app = addRoutes(await makeApp(t, { store }))
  t.equal((await app.inject('/set?name=ada')).statusCode, 200)
})

const MALFORMED: Record<string, string> = {
  'an array': `'f', 1, '[]', now(), now(), now() + interval '1 day', 'ada'`,
  'a number': `'f', 1, '5', now(), now(), now() + interval '1 day', 'ada'`,
  'a JSON null': `'f', 1, 'null', now(), now(), now() + interval '1 day', 'ada'`,
  'no data': `'f', 1, NULL, now(), now(), now() + interval '1 day', 'ada'`,
  'no version': `'f', NULL, '{}', now(), now(), now() + interval '1 day', 'ada'`,
  'no expiry': `'f', 1, '{}', now(), now(), NULL, 'ada'`,
  'an infinite expiry': `'f', 1, '{}', now(), now(), 'infinity', 'ada'`,
  'a malformed key': `'f', 1, '{"\\u0001no": "1"}', now(), now(), now() + interval '1 day', 'ada'`,
  'a value that is not text': `'f', 1, '{"a": 1}', now(), now(), now() + interval '1 day', 'ada'`,
  'a malformed text': `'f', 1, '{"a": "\\u0001no"}', now(), now(), now() + interval '1 day', 'ada'`
}

for (const [name, values] of Object.entries(MALFORMED)) {
  void t.test(`a row with ${name} is treated as absent and reported`, { skip }, async (t) => {
    const pool = makePool(t, server)
    const { store, table } = await makeStore(t, pool)
    await pool.query(`ALTER TABLE ${table} DROP CONSTRAINT sessions_data_check, ALTER data DROP NOT NULL,
      ALTER version DROP NOT NULL, ALTER expires_at DROP NOT NULL`)
    await pool.query(`INSERT INTO ${table} VALUES (${values})`)
    await store.create(ID, makeRecord({ userId: 'ada' }))
    const reports = listen(t, 'invalid-record')
    t.equal(await store.get('f'), undefined)
    t.same(reports, [{ id: 'f', reason: 'shape' }])
    t.same(
      (await store.listByUser('ada')).map(({ id }) => id),
      [ID]
    )
    t.equal(reports.length, 2)
  })
}

void t.test('the table constraints reject malformed rows', { skip }, async (t) => {
  const pool = makePool(t, server)
  const { table } = await makeStore(t, pool)
  for (const values of Object.values(MALFORMED).slice(0, 6))
    await t.rejects(pool.query(`INSERT INTO ${table} VALUES (${values})`), { code: /^23/ })
})

void t.test('the store retries a rolled-back statement up to four times', async (t) => {
  for (const code of ['40001', '40P01']) {
    let failures = 4
    let calls = 0
    const pool = {
      query: async () => {
        calls++
        if (failures-- > 0) throw Object.assign(new Error('rolled back'), { code })
        return { rows: [] }
      }
    }
    const store = new PostgresStore({ pool })
    t.equal(await store.get(ID), undefined)
    t.equal(calls, 5)
    failures = 5
    await t.rejects(Promise.resolve(store.get(ID)), { code })
    t.equal(calls, 10)
  }
})

void t.test('concurrent updates all succeed under serializable isolation', { skip }, async (t) => {
  const options = '-c default_transaction_isolation=serializable'
  const { store } = await makeStore(t, makePool(t, server, { options }))
  await store.create(ID, makeRecord({ data: {} }))
  const keys = ['a', 'b', 'c']
  const patch = (key: string) => ({ set: { [key]: '1' }, remove: [], ...LATER })
  await Promise.all(keys.map((key) => store.update(ID, patch(key))))
  t.same(Object.keys((await store.get(ID))?.data ?? {}).sort(), keys)
})

/** Statements that make writes fail with errors that quote the row. `%` is the name of the table. */
const REFUSALS = {
  'the detail': 'ALTER TABLE % ADD CONSTRAINT refused CHECK (version < 0) NOT VALID',
  'the message': `CREATE FUNCTION %_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'refused %', NEW.data; END$$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON % FOR EACH ROW EXECUTE FUNCTION %_refuse()`
}

for (const [place, sql] of Object.entries(REFUSALS)) {
  void t.test(`F10: errors of pg that quote a row in ${place} show no value of it`, { skip }, async (t) => {
    const pool = makePool(t, server)
    const { store, table } = await makeStore(t, pool)
    const fail = () => pool.query(sql.replaceAll(/(?<!refused )%/g, table))
    for (const error of await assertNoLeaks(t, store, fail))
      t.match(error, { message: /refused/, name: 'error', code: /23514|P0001/ })
  })
}

void t.test('a request makes as few round trips to PostgreSQL as possible', { skip }, async (t) => {
  const pool = makePool(t, server)
  const { schema } = await makeStore(t, pool)
  const recorder = recordingPool(pool)
  const app = addRoutes(await makeApp(t, { store: new PostgresStore({ pool: recorder, schema }) }))
  const count = await countStatements(pool, schema)
  const roundTrips: string[] = []
  const send = async (name: string, url: string, cookie: string | undefined, expected: number) => {
    recorder.queries.length = 0
    const before = await count()
    const response = await app.inject({ url, headers: cookie === undefined ? {} : { cookie } })
    t.equal(response.statusCode, 200)
    t.equal(recorder.queries.length, expected, name)
    const executed = (await count()) - before
    if (Number.isFinite(executed)) t.equal(executed, expected, `${name}, as counted by the engine`)
    roundTrips.push(`${name}: ${recorder.queries.length} (engine: ${executed})`)
    return response.cookies.map(({ name, value }) => `${name}=${value}`).join('; ')
  }
  await send('anonymous', '/empty', undefined, 0)
  const cookie = await send('new session', '/set?name=ada', undefined, 1)
  await send('read', '/read', cookie, 1)
  await send('read and change of a key', '/set?name=bob', cookie, 2)
  await send('read and update()', '/add', cookie, 2)
  const rotated = await send('read and rotation', '/login', cookie, 2)
  await send('read and logout', '/logout', rotated, 2)
  t.comment(`round trips — ${roundTrips.join(', ')}`)
})
