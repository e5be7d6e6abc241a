import { RedisStore as ConnectRedis } from 'connect-redis'
import type { FastifyInstance } from 'fastify'
import { createClient } from 'redis'
import t, { type Test } from 'tap'
import { MemoryStore, requireAuth, type SessionStore } from '../../plugin/index.js'
import { fromExpressStore } from '../../plugin/stores/express/store.js'
import { PostgresStore } from '../../plugin/stores/postgres/store.js'
import { SqliteStore, type SqliteDatabase } from '../../plugin/stores/sqlite/store.js'
import { Browser, makeApp } from '../fixtures/app.js'
import { makeFake } from '../fixtures/express.js'
import { countStatements, findPostgres, makePool, makeStore, recordingPool } from '../fixtures/postgres.js'
import {
  CLIENTS,
  connect,
  countCommands,
  freshPrefix,
  startCluster,
  startRedis,
  withoutServer
} from '../fixtures/redis.js'
import { makeFolder, open, workingDriver } from '../fixtures/sqlite.js'
import { spyStore } from '../fixtures/stores.js'

// 10,000 requests without a session. The tests count the calls to the store, and what the store's backend receives.

const REQUESTS = 10_000
const AT_ONCE = 50
const PROMPT = 'Please login to continue'

interface Backend {
  readonly store: SessionStore
  /** Returns how many statements or commands of this store the backend receives while `work` runs. */
  count(work: () => Promise<void>): Promise<number>
}

interface Engine {
  readonly skip: string | false
  open(t: Test): Promise<Backend>
}

const postgres = await findPostgres(t)
const redis = withoutServer === false ? [await startRedis(t)] : []
const cluster = withoutServer === false ? await startCluster(t) : []

const ENGINES: Record<string, Engine> = {
  memory: { skip: false, open: openMemory },
  SQLite: { skip: false, open: openSqlite },
  PostgreSQL: { skip: postgres.skip, open: openPostgres },
  ...redisOf('Redis', redis),
  ...redisOf('Redis Cluster', cluster),
  'an express-session store': { skip: false, open: openFake },
  'connect-redis': { skip: withoutServer, open: openConnectRedis }
}

async function openMemory(): Promise<Backend> {
  const store = new MemoryStore()
  return {
    store,
    async count(work) {
      const before = store.size
      await work()
      return store.size - before
    }
  }
}

async function openSqlite(t: Test): Promise<Backend> {
  const { path, remove } = makeFolder()
  const database = open(path, workingDriver())
  t.teardown(() => (database.close(), remove()))
  let executed = 0
  const store = new SqliteStore(watched(database, () => executed++))
  return { store, count: counting(() => executed) }
}

/** Calls `onStatement` whenever a statement of the database is executed. */
function watched(database: SqliteDatabase, onStatement: () => void): SqliteDatabase {
  return {
    exec: (sql) => (onStatement(), database.exec(sql)),
    close: () => database.close(),
    prepare(sql) {
      const statement = database.prepare(sql)
      return {
        run: (values) => (onStatement(), statement.run(values)),
        get: (values) => (onStatement(), statement.get(values)),
        all: (values) => (onStatement(), statement.all(values))
      }
    }
  }
}

async function openPostgres(t: Test): Promise<Backend> {
  if (!('server' in postgres)) throw new Error('there is no server')
  const pool = makePool(t, postgres.server)
  const recorder = recordingPool(pool)
  const table = 'visits'
  const { schema } = await makeStore(t, pool, { table })
  const store = new PostgresStore({ pool: recorder, schema, table })
  const executed = await countStatements(pool, table)
  return {
    store,
    count: counting(async () => ((await executed()) || 0) + recorder.queries.length)
  }
}

function redisOf(engine: string, servers: readonly { url: string; port: number }[]): Record<string, Engine> {
  const urls = servers.map(({ url }) => url)
  const engines = CLIENTS.map((client): [string, Engine] => [
    `${engine} with ${client}`,
    {
      skip: withoutServer,
      async open() {
        const prefix = freshPrefix()
        const store = await connect({ client, urls, prefix })
        return { store, count: (work) => countCommands(servers, work, prefix) }
      }
    }
  ])
  return Object.fromEntries(engines)
}

async function openFake(): Promise<Backend> {
  const fake = makeFake()
  return { store: fromExpressStore(fake), count: counting(() => fake.calls.length) }
}

async function openConnectRedis(t: Test): Promise<Backend> {
  const client = await createClient({ url: String(redis[0]?.url) }).connect()
  t.teardown(() => client.close())
  const prefix = freshPrefix()
  const store = fromExpressStore(new ConnectRedis({ client, prefix }))
  return { store, count: (work) => countCommands(redis, work, prefix) }
}

/** Returns a function that returns by how much a count grows while `work` runs. */
function counting(count: () => number | Promise<number>): Backend['count'] {
  return async (work) => {
    const before = await count()
    await work()
    return (await count()) - before
  }
}

/** Adds a login page that shows flash messages, a guarded page, and a form with a CSRF token. */
function addPages(app: FastifyInstance): void {
  app.get('/login', async ({ session }) => ({
    error: session.getFlash('error') ?? null,
    info: session.getFlash('info') ?? null
  }))
  app.get('/private', { preHandler: requireAuth() }, async () => 'private')
  app.get('/form', async (_request, reply) => ({ token: reply.generateCsrf() }))
  app.post('/form', { preHandler: app.csrfProtection }, async ({ session }, reply) => {
    session.setFlash('info', 'Thank you')
    return reply.redirect('/login', 303)
  })
  app.post('/login', { preHandler: app.csrfProtection }, async ({ session }, reply) => {
    session.login('ada')
    return reply.redirect(session.takeReturnTo(), 303)
  })
}

const HTML = { accept: 'text/html' }
const PAGES = ['/login', '/private', '/form'] as const

/** Sends one request for each page, as a crawler that keeps no cookies. Returns what it has seen. */
async function crawl(app: FastifyInstance): Promise<unknown[]> {
  const seen: unknown[] = []
  for (const url of PAGES) {
    const { statusCode, cookies } = await new Browser(app).get(url, HTML)
    seen.push([statusCode, ...cookies.map(({ name }) => name)])
  }
  return seen
}

const CRAWLED = [[200], [302, 'session_id_visitor'], [200, 'session_id_visitor']]

/** Sends five requests as a browser that keeps its cookies. Returns what it has seen, and the browser. */
async function visit(app: FastifyInstance): Promise<{ browser: Browser; seen: unknown[] }> {
  const browser = new Browser(app)
  const guarded = await browser.get('/private', HTML)
  const prompt = await browser.get('/login', HTML)
  const form = await browser.get('/form', HTML)
  const sent = await post(browser, '/form', form.json<{ token: string }>().token)
  const thanks = await browser.get('/login', HTML)
  const statuses = [guarded, form, sent].map(({ statusCode }) => statusCode)
  return { browser, seen: [...statuses, prompt.json(), thanks.json(), [...browser.cookies.keys()]] }
}

const VISITED = [
  ...[302, 200, 303],
  { error: PROMPT, info: null },
  { error: null, info: 'Thank you' },
  ['session_id_visitor']
]

function post(browser: Browser, url: string, token: string): ReturnType<Browser['request']> {
  return browser.request({ method: 'POST', url, headers: { 'x-csrf-token': token } })
}

/** Sends at least `REQUESTS` requests and returns their number. Half of them come from crawlers. */
async function sendCrowd(t: Test, app: FastifyInstance): Promise<number> {
  let sent = 0
  const work = async (): Promise<void> => {
    while (sent < REQUESTS) {
      const isCrawler = sent < REQUESTS / 2
      sent += isCrawler ? CRAWLED.length : 5
      const seen = isCrawler ? await crawl(app) : (await visit(app)).seen
      const expected = isCrawler ? CRAWLED : VISITED
      if (JSON.stringify(seen) !== JSON.stringify(expected)) t.same(seen, expected)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  return sent
}

for (const [name, { skip, open }] of Object.entries(ENGINES)) {
  void t.test(`F5: 10,000 requests without a session make no store call: ${name}`, { skip }, async (t) => {
    const { store, count } = await open(t)
    const spy = spyStore(store)
    const app = await makeApp(t, { store: spy, cleanupInterval: 0 })
    addPages(app)
    await app.ready()
    spy.take()
    let sent = 0
    const began = performance.now()
    const received = await count(async () => void (sent = await sendCrowd(t, app)))
    t.comment(`${name}: ${sent} requests in ${Math.round(performance.now() - began)} ms`)
    t.ok(sent >= REQUESTS)
    t.same(spy.take(), [], 'no store call')
    t.equal(received, 0, 'the backend received nothing')

    // The counts above are not blind: a login is one store call, and the backend receives it.
    const { browser } = await visit(app)
    const { token } = (await browser.get('/form')).json<{ token: string }>()
    const login = async (): Promise<void> => {
      t.match(await post(browser, '/login', token), { statusCode: 303, headers: { location: '/private' } })
    }
    t.ok((await count(login)) > 0)
    t.same(spy.takeNames(), ['create'])
    t.equal((await browser.get('/private')).body, 'private')
    t.same([...browser.cookies.keys()], ['session_id'])
  })
}
