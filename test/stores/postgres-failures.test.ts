import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Response } from 'light-my-request'
import type { Pool, PoolClient, PoolConfig } from 'pg'
import t, { type Test } from 'tap'
import { PostgresStore } from '../../plugin/stores/postgres/store.js'
import { signIn } from '../../plugin/testing/index.js'
import { addRoutes, makeApp, setCookieOf } from '../fixtures/app.js'
import { makePool, makeStore, run, startPostgres, type OwnPostgresServer } from '../fixtures/postgres.js'

// These tests make PostgreSQL fail in several ways, so they use a server that no other test file uses.

const found = await startPostgres(t)
const { skip } = found
const server = 'server' in found ? found.server : (undefined as unknown as OwnPostgresServer)

/** The `storeTimeout` of the app, in ms. */
const STORE_TIMEOUT = 500
/** The extra time that a response can take on a busy machine, in ms. */
const SLACK = 2000
/** The maximum time between the recovery of the server and the first response with status 200, in ms. */
const RECOVERY = 1000

interface Failure {
  readonly config?: PoolConfig
  /** The path that is requested during the failure. The default is `/read`. */
  readonly url?: string
  /** Matches the message of the error's `cause`. */
  readonly cause: RegExp
  /** Makes the server fail. Returns a function that makes it work again. */
  fail(pool: Pool, schema: string): Promise<() => Promise<unknown>>
}

const NO_ANSWER = /No answer within 500 ms/

const FAILURES: Record<string, Failure> = {
  'a killed server': {
    cause: /ECONNREFUSED|ECONNRESET|terminat/,
    async fail() {
      await server.kill()
      return () => server.start()
    }
  },
  'a locked table': {
    cause: NO_ANSWER,
    async fail(pool, schema) {
      const client = await pool.connect()
      await client.query(`BEGIN; LOCK TABLE ${schema}.sessions`)
      return async () => {
        await client.query('COMMIT')
        client.release()
      }
    }
  },
  'a suspended server': {
    cause: NO_ANSWER,
    async fail(pool, schema) {
      // Opens all connections of the pool before the server processes are suspended. A connection that is opened later
      // would have a new process, which would not be suspended.
      await Promise.all(Array.from({ length: pool.options.max }, () => pool.query('SELECT pg_sleep(0.1)')))
      const name = `application_name = '${schema}'`
      const { rows } = await pool.query<{ pid: number }>(`SELECT pid FROM pg_stat_activity WHERE ${name}`)
      for (const { pid } of rows) process.kill(pid, 'SIGSTOP')
      return async () => {
        for (const { pid } of rows) process.kill(pid, 'SIGCONT')
      }
    }
  },
  'a pool without a free connection': {
    cause: NO_ANSWER,
    async fail(pool) {
      const clients = await takeAll(pool)
      return async () => {
        for (const client of clients) client.release()
      }
    }
  },
  'a timeout of the pool itself': {
    config: { connectionTimeoutMillis: 200 },
    cause: /timeout exceeded when trying to connect/,
    fail: (pool, schema) => (FAILURES['a pool without a free connection'] as Failure).fail(pool, schema)
  },
  'a read-only replica': {
    url: '/set?name=bob',
    cause: /read-only transaction/,
    async fail() {
      const readOnly = (value: string) =>
        run(server, `ALTER SYSTEM SET default_transaction_read_only = ${value}`).then(() =>
          run(server, 'SELECT pg_reload_conf(), pg_sleep(0.1)')
        )
      await readOnly('on')
      return () => readOnly('off')
    }
  }
}

/** Takes every connection of a pool, one by one. If an attempt times out on a busy machine, it is repeated. */
async function takeAll(pool: Pool): Promise<PoolClient[]> {
  const clients: PoolClient[] = []
  for (let tries = 0; clients.length < pool.options.max; tries++) {
    const client = await pool.connect().catch((error: unknown) => {
      if (tries > 100) throw error
    })
    if (client) clients.push(client)
  }
  return clients
}

for (const [name, failure] of Object.entries(FAILURES)) {
  void t.test(`${name} causes a 503 and does not end any session`, { skip }, async (t) => {
    const { app, pool, schema, causes, cookie } = await setUp(t, failure.config)
    const url = failure.url ?? '/read'
    const repair = await failure.fail(pool, schema)
    const before = performance.now()
    const responses = await Promise.all(Array.from({ length: 5 }, () => send(app, cookie, url)))
    const took = performance.now() - before
    for (const response of responses) assertUnavailable(t, response)
    for (const cause of causes) t.match(cause, failure.cause)
    t.equal(causes.length, 5)
    t.ok(took < STORE_TIMEOUT + SLACK, `answered in ${Math.round(took)} ms`)
    await repair()
    const back = performance.now()
    const first = await firstSuccess(app, cookie)
    const recovery = Math.round(performance.now() - back)
    t.match(first.json(), { name: /ada|bob/ }, 'the session is still there')
    t.ok(recovery < RECOVERY, `works again after ${recovery} ms`)
    t.comment(`${name}: 5 × 503 in ${Math.round(took)} ms; first 200 after ${recovery} ms`)
    t.equal((await send(app, cookie, '/set?name=eve')).statusCode, 200)
  })
}

void t.test(
  'an app starts while the server is down, and works as soon as the server is up',
  { skip },
  async (t) => {
    const { pool, schema, cookie } = await setUp(t)
    await server.kill()
    const store = new PostgresStore({ pool, schema })
    const app = addRoutes(await makeApp(t, { store, storeTimeout: STORE_TIMEOUT }))
    assertUnavailable(t, await send(app, cookie, '/read'))
    await server.start()
    const back = performance.now()
    t.same((await firstSuccess(app, cookie)).json(), { name: 'ada' })
    const recovery = Math.round(performance.now() - back)
    t.ok(recovery < RECOVERY, `works ${recovery} ms after the server’s start`)
  }
)

void t.test(
  'the app works again after the server has been killed under load and restarted',
  { skip },
  async (t) => {
    const { app, cookie } = await setUp(t)
    const times: { readonly at: number; readonly status: number }[] = []
    let isRunning = true
    const client = async (url: string) => {
      while (isRunning) {
        const response = await send(app, cookie, url)
        times.push({ at: performance.now(), status: response.statusCode })
        if (response.statusCode === 200) continue
        assertUnavailable(t, response)
        await delay(10)
      }
    }
    const clients = Array.from({ length: 5 }, () => [client('/add'), client('/read')]).flat()
    await delay(500)
    await server.kill()
    await delay(500)
    await server.start()
    const back = performance.now()
    await delay(1500)
    isRunning = false
    await Promise.all(clients)
    const count = (wanted: number) => times.filter(({ status }) => status === wanted).length
    const counts = { 200: count(200), 503: count(503), other: times.length - count(200) - count(503) }
    const recovery = Math.round(
      (times.find(({ at, status }) => at > back && status === 200)?.at ?? NaN) - back
    )
    t.comment(`killed under load: ${JSON.stringify(counts)}; first 2xx after ${recovery} ms`)
    t.equal(counts.other, 0)
    t.ok(counts[200] > 0 && counts[503] > 0)
    t.ok(recovery < RECOVERY)
  }
)

void t.test(
  'with onStoreError: anonymous, a request continues without its session if the server is down',
  { skip },
  async (t) => {
    const { pool, schema, cookie } = await setUp(t)
    const store = new PostgresStore({ pool, schema })
    const app = addRoutes(await makeApp(t, { store, storeTimeout: STORE_TIMEOUT, onStoreError: 'anonymous' }))
    await server.kill()
    const response = await send(app, cookie, '/read')
    await server.start()
    t.same(response.json(), { name: null })
    t.equal(setCookieOf(response), undefined)
    // With `onStoreError: 'anonymous'`, every response has the status 200. Only the name in the response shows whether
    // the server is up again.
    let back = await firstSuccess(app, cookie)
    for (const start = performance.now(); performance.now() - start < 10 * RECOVERY; await delay(10)) {
      back = await firstSuccess(app, cookie)
      if (back.json<{ name: unknown }>().name !== null) break
    }
    t.same(back.json(), { name: 'ada' })
  }
)

void t.test(
  'on a replica, the app starts with a warning, reads sessions and answers writes with 503',
  { skip },
  async (t) => {
    const { pool, schema, cookie } = await setUp(t)
    await server.becomeReplica()
    const store = new PostgresStore({ pool, schema })
    t.same(await store.ready(), [
      'PostgreSQL is a replica, so no session can be saved: connect the pool to the primary server'
    ])
    await store.migrate()
    const app = addRoutes(await makeApp(t, { store }))
    t.same((await send(app, cookie, '/read')).json(), { name: 'ada' })
    assertUnavailable(t, await send(app, cookie, '/set?name=bob'))
  }
)

async function setUp(t: Test, config: PoolConfig = {}) {
  const admin = makePool(t, server)
  const { schema } = await makeStore(t, admin)
  const pool = makePool(t, server, { max: 5, application_name: schema, ...config })
  const store = new PostgresStore({ pool, schema })
  const app = addRoutes(await makeApp(t, { store, storeTimeout: STORE_TIMEOUT }))
  const causes: string[] = []
  app.addHook('onError', async (_request, _reply, error) => {
    causes.push(String((error.cause as Error | undefined)?.message))
  })
  const { cookie } = await signIn(app, { name: 'ada' })
  return { app, pool, schema, causes, cookie }
}

/** Asserts that a response is a 503 that sets no cookie and contains no error message from the database driver. */
function assertUnavailable(t: Test, response: Response): void {
  t.strictSame(response.json(), {
    statusCode: 503,
    code: 'SESSION_STORE_UNAVAILABLE',
    error: 'Service Unavailable',
    message: 'Session store unavailable'
  })
  t.equal(setCookieOf(response), undefined)
}

async function firstSuccess(app: FastifyInstance, cookie: string): Promise<Response> {
  for (;;) {
    const response = await send(app, cookie, '/read')
    if (response.statusCode === 200) return response
    checkStatus(response)
    await delay(10)
  }
}

function checkStatus({ statusCode, body }: Response): void {
  if (statusCode !== 503) throw new Error(`${statusCode}: ${body}`)
}

async function send(app: FastifyInstance, cookie: string, url: string): Promise<Response> {
  return await app.inject({ url, headers: { cookie } })
}
