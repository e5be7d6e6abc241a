import { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Client, type Pool } from 'pg'
import t, { type Test } from 'tap'
import { PostgresStore, type PostgresPool } from '../../plugin/stores/postgres/store.js'
import { signIn } from '../../plugin/testing/index.js'
import { addRoutes, makeApp } from '../fixtures/app.js'
import { findPostgres, makePool, makeSchema, makeStore, startProxy } from '../fixtures/postgres.js'
import { makeRecord } from '../fixtures/stores.js'

// These tests are about what a connection of a pool can do to the store: die, or carry the state of the application.

const found = await findPostgres(t)
const { skip } = found
const server = 'server' in found ? found.server : { url: '' }

const ID = 'a'.repeat(64)
const LATER = { lastAccessed: 1, expiresAt: 4e12 }
/** The maximum time until the first answer, in ms. */
const RECOVERY = 3000

void t.test(
  'if a firewall forgets all connections of the pool, the app works again within 3 seconds',
  { skip },
  async (t) => {
    const { schema } = await makeStore(t, makePool(t, server))
    const proxy = await startProxy(t, server)
    const pool = makePool(t, proxy, { connectionTimeoutMillis: 2000 })
    const app = addRoutes(await makeApp(t, { store: new PostgresStore({ pool, schema }) }))
    const { cookie } = await signIn(app, { name: 'ada' })
    await Promise.all(Array.from({ length: 10 }, () => pool.query('SELECT pg_sleep(0.1)')))
    t.equal(pool.idleCount, 10)
    proxy.forget()
    const statuses: number[] = []
    const start = performance.now()
    while (statuses.at(-1) !== 200 && performance.now() - start < 2 * RECOVERY)
      statuses.push((await app.inject({ url: '/set?name=bob', headers: { cookie } })).statusCode)
    const took = performance.now() - start
    t.same([...new Set(statuses)], [503, 200])
    t.ok(took < RECOVERY, `first 200 after ${Math.round(took)} ms`)
    t.comment(`dead connections: ${statuses.length - 1} × 503; first 200 after ${Math.round(took)} ms`)
    for (const limit = start + 4 * RECOVERY; proxy.forgotten > 0 && performance.now() < limit;)
      await delay(10)
    t.equal(proxy.forgotten, 0, 'the pool has closed every dead connection')
  }
)

void t.test(
  'a write that gets no answer closes its connection, and connections that work stay in the pool',
  { skip },
  async (t) => {
    const admin = makePool(t, server)
    const { schema, table } = await makeStore(t, admin)
    const pool = makePool(t, server, { max: 3, application_name: schema })
    const store = new PostgresStore({ pool, schema })
    await Promise.all(Array.from({ length: 3 }, () => pool.query('SELECT pg_sleep(0.1)')))
    const pids = async () => {
      const where = 'SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY pid'
      return (await admin.query<{ pid: number }>(where, [schema])).rows.map(({ pid }) => pid)
    }
    const before = await pids()
    const locking = await admin.connect()
    await locking.query(`BEGIN; LOCK TABLE ${table}`)
    await t.rejects(store.destroy(ID), { message: 'Query read timeout' })
    await locking.query('COMMIT')
    locking.release()
    // The store is checking the idle connections.
    for (let tries = 0; pool.idleCount < 2 && tries < 500; tries++) await delay(10)
    t.equal(await store.destroy(ID), false)
    t.equal(pool.totalCount, 2)
    for (let tries = 0; (await pids()).length > 2 && tries < 500; tries++) await delay(10)
    const after = await pids()
    t.equal(after.length, 2)
    t.ok(after.every((pid) => before.includes(pid)))
  }
)

void t.test('the query_timeout of the pool replaces the time limit of the store', { skip }, async (t) => {
  const admin = makePool(t, server)
  const { schema, table } = await makeStore(t, admin)
  const store = new PostgresStore({ pool: makePool(t, server, { query_timeout: 50 }), schema })
  const locking = await admin.connect()
  await locking.query(`BEGIN; LOCK TABLE ${table}`)
  const start = performance.now()
  await t.rejects(store.get(ID), { message: 'Query read timeout' })
  t.ok(performance.now() - start < 1000)
  await locking.query('COMMIT')
  locking.release()
})

void t.test(
  'without `schema`, a SET search_path on the pool’s connections does not move the table',
  { skip },
  async (t) => {
    const admin = makePool(t, server)
    const [schema, tenant] = [await makeSchema(t, admin), await makeSchema(t, admin)]
    await new PostgresStore({ pool: admin, schema: tenant }).migrate()
    const pool = makePool(t, server, { options: `-c search_path=${schema}`, max: 2 })
    await new PostgresStore({ pool }).migrate()
    const store = new PostgresStore({ pool })
    const app = addRoutes(await makeApp(t, { store }))
    const { cookie } = await signIn(app, { name: 'ada' })
    const unchecked = new PostgresStore({ pool })
    t.equal(await unchecked.get(ID), undefined)
    await onEachClient(pool, (client) => client.query(`SET search_path = ${tenant}`))
    t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), { name: 'ada' })
    t.equal((await app.inject({ url: '/logout', headers: { cookie } })).statusCode, 200)
    await onEachClient(pool, (client) => client.query('RESET search_path'))
    t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), { name: null })
    t.same((await admin.query(`SELECT id FROM ${schema}.sessions`)).rows, [])
    await onEachClient(pool, (client) => client.query(`SET search_path = ${tenant}`))
    t.equal(await unchecked.create(ID, makeRecord()), true)
    t.same((await admin.query(`SELECT id FROM ${schema}.sessions`)).rows, [{ id: ID }])
  }
)

async function onEachClient(pool: Pool, work: (client: Client) => Promise<unknown>): Promise<void> {
  const clients = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()))
  await Promise.all(clients.map(work))
  for (const client of clients) client.release()
}

void t.test(
  'a store whose ready() failed finds its schema at the next call, and ignores a temporary table',
  { skip },
  async (t) => {
    const admin = makePool(t, server)
    const schema = await makeSchema(t, admin)
    const pool = makePool(t, server, { options: `-c search_path=${schema}`, max: 1 })
    const store = new PostgresStore({ pool })
    await t.rejects(store.ready(), { message: `has no table "${schema}"."sessions"` })
    await new PostgresStore({ pool: admin, schema }).migrate()
    await pool.query('CREATE TEMP TABLE sessions (id int)')
    t.equal(await store.create(ID, makeRecord()), true)
    await pool.query('DROP TABLE pg_temp.sessions')
    t.equal(await store.update(ID, { set: {}, remove: [], ...LATER }), 'ok')
    await pool.query('SET search_path = pg_catalog')
    t.same(
      (await store.listByUser('ada')).map(({ id }) => id),
      []
    )
    t.equal(await store.destroy(ID), true)
    t.equal(await store.destroyByUser('ada'), 0)
    t.equal(await store.cleanup(), 0)
  }
)

const IN_TRANSACTION = /connection is in a transaction of the application.*COMMIT or ROLLBACK/
const PATCH = { set: { a: '1' }, remove: [], ...LATER }

/** Every method that writes, in an order in which each one finds its record. */
const WRITES: Record<string, (store: PostgresStore) => PromiseLike<unknown>> = {
  create: (store) => store.create('b', makeRecord()),
  update: (store) => store.update(ID, PATCH),
  destroy: (store) => store.destroy(ID),
  destroyByUser: (store) => store.destroyByUser('ada'),
  cleanup: (store) => store.cleanup()
}

for (const [name, write] of Object.entries(WRITES)) {
  void t.test(
    `${name} refuses a connection that is in a transaction of the application`,
    { skip },
    async (t) => {
      const admin = makePool(t, server)
      const { store: other, schema, table } = await makeStore(t, admin)
      await other.create(ID, makeRecord({ userId: 'ada', expiresAt: 4e12 }))
      await other.create('old', makeRecord({ expiresAt: 5 }))
      const pool = makePool(t, server, { max: 1 })
      const client = new Client({ connectionString: server.url })
      await client.connect()
      t.teardown(() => client.end())
      for (const used of [pool, client]) {
        const store = new PostgresStore({ pool: used, schema })
        const rows = async () => (await admin.query(`SELECT * FROM ${table} ORDER BY id`)).rows as unknown
        const before = await rows()
        await used.query('BEGIN')
        await used.query('CREATE TEMP TABLE own (id int)')
        await t.rejects(Promise.resolve(write(store)), { code: '25001', message: IN_TRANSACTION })
        t.equal((await store.get(ID))?.version, 1, 'reads still work')
        await used.query('COMMIT')
        t.same((await used.query('SELECT count(*)::int AS n FROM own')).rows, [{ n: 0 }])
        t.same(await rows(), before, 'nothing was written')
        await used.query('BEGIN')
        await t.rejects(used.query('SELECT 1 / 0'))
        if (used === client)
          await t.rejects(Promise.resolve(write(store)), { message: IN_TRANSACTION }, 'it has failed')
        await used.query('ROLLBACK')
      }
      await write(new PostgresStore({ pool: client, schema }))
    }
  )
}

void t.test(
  'a logout in a transaction that the application rolls back is answered with 503, and the session lives on',
  { skip },
  async (t) => {
    const { schema } = await makeStore(t, makePool(t, server))
    const pool = makePool(t, server, { max: 1 })
    const app = addRoutes(await makeApp(t, { store: new PostgresStore({ pool, schema }) }))
    const { cookie } = await signIn(app, { name: 'ada' })
    const request = (url: string) => app.inject({ url, headers: { cookie } })
    await pool.query('BEGIN')
    t.equal((await request('/logout')).statusCode, 503)
    await pool.query('ROLLBACK')
    t.same((await request('/read')).json(), { name: 'ada' })
    t.equal((await request('/logout')).statusCode, 200)
    t.same((await request('/read')).json(), { name: null })
  }
)

void t.test(
  'a write that was queued behind a BEGIN of the application does not report success',
  { skip },
  async (t) => {
    const { store: other, schema } = await makeStore(t, makePool(t, server))
    await other.create(ID, makeRecord({ expiresAt: 4e12 }))
    const client = new Client({ connectionString: server.url })
    await client.connect()
    t.teardown(() => client.end())
    const begin = client.query('BEGIN')
    await t.rejects(new PostgresStore({ pool: client, schema }).destroy(ID), { message: IN_TRANSACTION })
    await begin
    await client.query('ROLLBACK')
    t.equal((await other.get(ID))?.version, 1)
  }
)

void t.test('a client that does not know its transaction status is used as it is', { skip }, async (t) => {
  const pool = makePool(t, server)
  const { schema } = await makeStore(t, pool)
  const old: PostgresPool = { query: (query) => pool.query(query) }
  t.equal(await new PostgresStore({ pool: old, schema }).create(ID, makeRecord()), true)
})

void t.test(
  'a connection that reports its loss while it writes is closed, and the write fails',
  async (t) => {
    const lost = new Error('lost')
    const released: unknown[] = []
    const client = Object.assign(new EventEmitter(), {
      query: async () => {
        // Without a listener, emit() throws this error.
        client.emit('error', lost)
        throw lost
      },
      release: (error: unknown) => void released.push(error)
    })
    const pool: PostgresPool = {
      idleCount: 0,
      query: async () => ({ rows: [] }),
      connect: (callback) => callback(undefined, client)
    }
    await t.rejects(new PostgresStore({ pool }).destroy(ID), lost)
    t.same(released, [lost])
    t.equal(client.listenerCount('error'), 0)
  }
)

void t.test('reads that fail together check the idle connections once', async (t) => {
  const checks: unknown[] = []
  const pool: PostgresPool = {
    idleCount: 3,
    query: async ({ text }) => {
      if (text !== 'SELECT 1') throw new Error('lost')
      checks.push(text)
      return { rows: [] }
    }
  }
  const store = new PostgresStore({ pool, schema: 'public' })
  await Promise.all([t.rejects(store.get(ID), /lost/), t.rejects(store.get(ID), /lost/)])
  t.equal(checks.length, 3)
})

void t.test('a write fails if the pool has no connection for it', { skip }, async (t) => {
  const { schema } = await makeStore(t, makePool(t, server))
  const pool = makePool(t, server, { max: 1, connectionTimeoutMillis: 50 })
  const client = await pool.connect()
  await t.rejects(new PostgresStore({ pool, schema }).destroy(ID), { message: /timeout exceeded/ })
  client.release()
})

void t.test('a connection that is lost during a write does not end the process', { skip }, async (t) => {
  const admin = makePool(t, server)
  const { schema, table } = await makeStore(t, admin)
  const pool = makePool(t, server, { application_name: schema })
  const store = new PostgresStore({ pool, schema })
  const locking = await admin.connect()
  await locking.query(`BEGIN; LOCK TABLE ${table}`)
  const write = t.rejects(store.destroy(ID), { code: '57P01' })
  // The write has reached PostgreSQL as soon as it waits for the table.
  const end = `SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
    WHERE application_name = $1 AND wait_event_type = 'Lock'`
  for (let ended = 0; ended === 0;) ended = (await admin.query(end, [schema])).rows.length
  await write
  await locking.query('COMMIT')
  locking.release()
  t.equal(await store.destroy(ID), false)
})

void t.test(
  '200 parallel writes of one session under serializable isolation all succeed and keep their connections',
  { skip },
  async (t) => {
    const options = '-c default_transaction_isolation=serializable'
    const pool = makePool(t, server, { max: 40, options })
    const { store } = await makeStore(t, pool)
    await Promise.all(Array.from({ length: 40 }, () => pool.query('SELECT pg_sleep(0.1)')))
    let connections = 0
    pool.on('connect', () => connections++)
    const app = addRoutes(await makeApp(t, { store, storeTimeout: 20_000 }))
    const { cookie } = await signIn(app, { name: 'ada' })
    const send = (index: number) => app.inject({ url: `/set?k${index}=1`, headers: { cookie } })
    const responses = await Promise.all(Array.from({ length: 200 }, (_, index) => send(index)))
    t.equal(responses.filter(({ statusCode }) => statusCode !== 200).length, 0)
    t.equal(connections, 0)
  }
)

void t.test('a connection that has lost its prepared statements costs no error', { skip }, async (t) => {
  const pool = makePool(t, server, { max: 1 })
  const { store, table } = await makeStore(t, pool)
  const client = new Client({ connectionString: server.url })
  await client.connect()
  t.teardown(() => client.end())
  for (const [index, used] of [pool, client].entries()) {
    const own = new PostgresStore({ pool: used, schema: table.replace('.sessions', '') })
    const id = `${ID}${index}`
    await own.create(id, makeRecord({ expiresAt: 4e12 }))
    for (const text of [
      'DISCARD ALL',
      `ALTER TABLE ${table} ADD column${index} int, ALTER user_id TYPE text`
    ]) {
      await own.get(id)
      await own.update(id, PATCH)
      await used.query(text)
      t.ok(await own.get(id), text)
      await used.query('DISCARD ALL')
      t.equal(await own.update(id, PATCH), 'ok', text)
    }
    await used.query('DISCARD ALL')
    t.equal(await own.destroy(id), true)
  }
  t.equal(await store.cleanup(), 0)
})

void t.test('an unknown prepared statement is not retried forever', async (t: Test) => {
  const queries: object[] = []
  const query = async (query: object) => {
    queries.push({ ...query })
    throw Object.assign(new Error('prepared statement does not exist'), { code: '26000' })
  }
  await t.rejects(new PostgresStore({ pool: { query } }).get(ID), { code: '26000' })
  t.same(
    queries.map((query) => 'name' in query),
    [true, false]
  )
})
