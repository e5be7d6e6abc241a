import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Response } from 'light-my-request'
import t, { type Test } from 'tap'
import type { SessionOptions } from '../../plugin/index.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import { listen } from '../fixtures/diagnostics.js'
import {
  CLIENTS,
  connect,
  eventually,
  freshPrefix,
  startCluster,
  startRedis,
  masterOf,
  startSentinel,
  withoutServer,
  type ClientName,
  type RedisServer
} from '../fixtures/redis.js'

/** The `storeTimeout` of the app, in ms. */
const STORE_TIMEOUT = 500
/** The maximum time between the recovery of Redis and the first successful response, in ms. */
const RECOVERY = 1000
/**
 * The maximum time between a failover by Sentinel and the first successful response, in ms. node-redis needs about a
 * second to reach the new master.
 */
const SENTINEL_RECOVERY = { 'node-redis': 3000, ioredis: RECOVERY }

const unhandled: unknown[] = []
process.on('unhandledRejection', (reason) => unhandled.push(reason))

interface Log {
  readonly msg: string
  readonly err?: { readonly code?: string; readonly message: string }
}

/** Returns an app that uses the given Redis servers, together with its store and its log. */
async function setUp(
  t: Test,
  client: ClientName,
  servers: readonly RedisServer[],
  options: Partial<SessionOptions> = {},
  found: { readonly sentinel?: number } = {}
) {
  const logs: Log[] = []
  const urls = servers.map(({ url }) => url)
  const store = await connect({ client, urls, prefix: freshPrefix(), ...found })
  const stream = { write: (line: string) => void logs.push(JSON.parse(line) as Log) }
  const app = await makeApp(
    t,
    { store, storeTimeout: STORE_TIMEOUT, ...options },
    { logger: { level: 'warn', stream } }
  )
  addRoutes(app)
  return { app, store, logs }
}

async function signedIn(app: FastifyInstance): Promise<Browser> {
  const browser = new Browser(app)
  await firstSuccess(browser, '/set?name=ada')
  return browser
}

/** Asserts that a response is a 503 that arrived in time, sets no cookie and contains no error from the driver. */
function assertUnavailable(t: Test, response: Response, took: number): void {
  const { statusCode, headers, body } = response
  t.equal(statusCode, 503)
  t.equal(headers['set-cookie'], undefined, 'no cookie is set')
  t.same(JSON.parse(body), {
    statusCode: 503,
    code: 'SESSION_STORE_UNAVAILABLE',
    error: 'Service Unavailable',
    message: 'Session store unavailable'
  })
  t.ok(took < STORE_TIMEOUT + 2000, `answered after ${Math.round(took)} ms`)
}

async function timed(work: () => Promise<Response>): Promise<[Response, number]> {
  const start = performance.now()
  return [await work(), performance.now() - start]
}

/** Repeats a request until the response is a 200. Returns how long this took, in ms. */
async function firstSuccess(browser: Browser, path: string): Promise<number> {
  const start = performance.now()
  await eventually(`a 200 from ${path}`, async () => (await browser.get(path)).statusCode === 200)
  return performance.now() - start
}

interface Outage {
  readonly name: string
  readonly args?: readonly string[]
  /** The paths of requests that fail during the outage. */
  readonly fails: readonly string[]
  /** The paths of requests that still succeed during the outage. */
  readonly works?: readonly string[]
  readonly options?: Partial<SessionOptions>
  begin(server: RedisServer): unknown
  end(server: RedisServer): unknown
}

const WRITES = ['/set?name=eve', '/add', '/login']
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always']

const OUTAGES: readonly Outage[] = [
  {
    name: 'a Redis killed with -9 causes a 503 until it is restarted',
    args: DURABLE,
    fails: ['/read', ...WRITES, '/logout'],
    begin: (server) => server.kill(),
    end: (server) => server.restart()
  },
  {
    name: 'a Redis that hangs with open connections causes a 503',
    fails: ['/read', ...WRITES.slice(0, 1)],
    begin: (server) => server.suspend(),
    end: (server) => server.resume()
  },
  {
    name: 'a pause of writes causes a 503, also for the reads that wait behind a write',
    fails: [...WRITES.slice(0, 1), '/read'],
    begin: (server) => server.command('CLIENT', 'PAUSE', '600000', 'WRITE'),
    end: (server) => server.command('CLIENT', 'UNPAUSE')
  },
  {
    name: 'a Redis that is out of memory causes a 503 for writes, and reads still work',
    fails: WRITES,
    works: ['/read'],
    begin: (server) => server.command('CONFIG', 'SET', 'maxmemory', '1'),
    end: (server) => server.command('CONFIG', 'SET', 'maxmemory', '0')
  },
  {
    name: 'a read-only replica causes a 503 for writes, and reads still work',
    args: ['--replica-serve-stale-data', 'yes'],
    fails: [...WRITES, '/logout'],
    works: ['/read'],
    begin: (server) => server.command('REPLICAOF', '127.0.0.1', '1'),
    end: (server) => server.command('REPLICAOF', 'NO', 'ONE')
  }
]

for (const client of CLIENTS) {
  void t.test(
    `with ${client}, failures of Redis do not lose sessions`,
    { skip: withoutServer, timeout: 280_000 },
    async (t) => {
      for (const outage of OUTAGES) void t.test(outage.name, (t) => runOutage(t, client, outage))

      void t.test('a logout still works if Redis is out of memory', async (t) => {
        const server = await startRedis(t)
        const { app } = await setUp(t, client, [server])
        const browser = await signedIn(app)
        const { cookie } = browser
        await server.command('CONFIG', 'SET', 'maxmemory', '1')
        t.equal((await browser.get('/logout')).statusCode, 200)
        t.same((await app.inject({ url: '/read', headers: { cookie } })).json(), { name: null })
      })

      void t.test(
        'with onStoreError: anonymous, a request continues without its session if Redis is down',
        async (t) => {
          const server = await startRedis(t, ...DURABLE)
          const { app } = await setUp(t, client, [server], { onStoreError: 'anonymous' })
          const browser = await signedIn(app)
          await server.kill()
          const response = await browser.get('/read')
          t.same([response.statusCode, response.json()], [200, { name: null }])
          t.equal(response.headers['set-cookie'], undefined)
          await server.restart()
          await eventually('the session is back', async () => {
            return (await browser.get('/read')).json<{ name: unknown }>().name === 'ada'
          })
        }
      )

      void t.test('an app starts while Redis is down, and works as soon as Redis is up', async (t) => {
        const server = await startRedis(t)
        await server.kill()
        const { app, logs } = await setUp(t, client, [server])
        t.match(logs[0]?.msg, /the session store is not ready/)
        const browser = new Browser(app)
        t.equal(
          (await browser.get('/empty')).statusCode,
          200,
          'a request without a session does not use the store'
        )
        assertUnavailable(t, ...(await timed(() => browser.get('/set?name=ada'))))
        await server.restart()
        const took = await firstSuccess(browser, '/set?name=ada')
        t.ok(took < RECOVERY, `the first 2xx after ${Math.round(took)} ms`)
        t.same((await browser.get('/read')).json(), { name: 'ada' })
      })

      void t.test('the app works again after Redis has been killed under load and restarted', async (t) => {
        const server = await startRedis(t, ...DURABLE)
        const { app } = await setUp(t, client, [server])
        const load = await startLoad(t, app)
        await load.waitFor(200, 200)
        await server.kill()
        await load.waitFor(503, 50)
        await server.restart()
        const back = await load.timeToSuccess()
        await load.waitFor(200, 200)
        await finishLoad(t, `${client}, killed under load`, load, back)
      })
    }
  )
}

async function runOutage(t: Test, client: ClientName, outage: Outage): Promise<void> {
  const server = await startRedis(t, ...(outage.args ?? []))
  const { app, logs } = await setUp(t, client, [server], outage.options)
  const failures = listen(t, 'store-failure')
  const browser = await signedIn(app)
  await outage.begin(server)
  for (const path of outage.fails) {
    assertUnavailable(t, ...(await timed(() => browser.get(path))))
  }
  for (const path of outage.works ?? []) await firstSuccess(browser, path)
  t.equal(failures.length, outage.fails.length)
  t.equal(logs.filter(({ err }) => err?.code === 'SESSION_STORE_UNAVAILABLE').length, outage.fails.length)
  t.ok(
    failures.every((failure) => (failure as { error: unknown }).error instanceof Error),
    'subscribers get the driver’s error'
  )
  await outage.end(server)
  const took = await firstSuccess(browser, '/add')
  t.ok(took < RECOVERY, `the first 2xx after ${Math.round(took)} ms`)
  t.comment(`${client}, ${outage.name}: the first 2xx ${Math.round(took)} ms after the engine’s return`)
  t.match((await browser.get('/read')).json(), { name: /ada|eve/ }, 'nobody was logged out')
  t.equal((await browser.get('/logout')).statusCode, 200)
}

/** Starts browsers that send requests without a pause. Each browser alternates between reads and increments. */
async function startLoad(t: Test, app: FastifyInstance, size = 8) {
  const counts = new Map<number, number>()
  const cookies: unknown[] = []
  const browsers = await Promise.all(Array.from({ length: size }, () => signedIn(app)))
  let isRunning = true
  const count = (status: number) => counts.get(status) ?? 0
  const work = async (browser: Browser): Promise<void> => {
    for (let turn = 0; isRunning; turn++) {
      const { statusCode, headers } = await browser.get(turn % 2 === 0 ? '/read' : '/add')
      counts.set(statusCode, count(statusCode) + 1)
      if (headers['set-cookie'] !== undefined) cookies.push(headers['set-cookie'])
      // Without this delay, the loop would use all CPU time while requests fail immediately.
      if (statusCode !== 200) await delay(5)
    }
  }
  const working = browsers.map(work)
  const waitFor = (status: number, more: number) => {
    const before = count(status)
    return eventually(`${more} more responses with ${status}`, () => count(status) >= before + more)
  }
  const stop = async (): Promise<void> => {
    isRunning = false
    await Promise.all(working)
  }
  t.teardown(stop)
  return {
    counts,
    cookies,
    browsers,
    stop,
    waitFor,
    async timeToSuccess(): Promise<number> {
      const start = performance.now()
      await waitFor(200, 1)
      return performance.now() - start
    }
  }
}

type Load = Awaited<ReturnType<typeof startLoad>>

async function finishLoad(
  t: Test,
  name: string,
  load: Load,
  back: number,
  recovery = RECOVERY
): Promise<void> {
  await load.stop()
  t.strictSame([...load.counts.keys()].sort(), [200, 503], 'every status is 200 or 503')
  t.strictSame(load.cookies, [], 'no cookie was set')
  t.ok(back < recovery, `the first 2xx after ${Math.round(back)} ms`)
  for (const browser of load.browsers) {
    t.same((await browser.get('/read')).json(), { name: 'ada' }, 'nobody was logged out')
  }
  const counts = [...load.counts].map(([status, count]) => `${count} × ${status}`).join(', ')
  t.comment(`${name}: ${counts}; the first 2xx ${Math.round(back)} ms after the engine’s return`)
}

void t.test(
  'a cluster works again after a master has been killed under load',
  { skip: withoutServer, timeout: 280_000 },
  async (t) => {
    const servers = await startCluster(t, { withReplicas: true })
    const alive = new Set(servers)
    for (const [index, client] of CLIENTS.entries()) {
      void t.test(`with ${client}, the replica of the killed master takes over`, async (t) => {
        const { app } = await setUp(t, client, servers)
        const [master, replica] = [servers[index] as RedisServer, servers[index + 3] as RedisServer]
        alive.delete(master)
        await failOver(t, `${client}, cluster`, app, master, replica, async () => {
          const info = await replica.command('INFO', 'replication')
          return String(info).includes('role:master') && everyNodeUp([...alive])
        })
      })
    }
  }
)

for (const client of CLIENTS) {
  void t.test(
    `with ${client} and Sentinel, the replica takes over if the master is killed under load`,
    { skip: withoutServer, timeout: 280_000 },
    async (t) => {
      const master = await startRedis(t)
      const replica = await startRedis(t, '--replicaof', '127.0.0.1', String(master.port))
      const sentinel = await startSentinel(t, master)
      const { app } = await setUp(t, client, [master], {}, { sentinel: sentinel.port })
      const hasTakenOver = async () => (await masterOf(sentinel)) === replica.port
      await failOver(t, `${client}, Sentinel`, app, master, replica, hasTakenOver, SENTINEL_RECOVERY[client])
    }
  )
}

/** Kills a master under load. Waits until its replica has taken over and every browser receives a 200 again. */
async function failOver(
  t: Test,
  name: string,
  app: FastifyInstance,
  master: RedisServer,
  replica: RedisServer,
  hasTakenOver: () => Promise<boolean>,
  recovery = RECOVERY
): Promise<void> {
  const load = await startLoad(t, app)
  await load.waitFor(200, 200)
  // Replication is asynchronous, so writes could be lost when the master is killed. Wait until the replica has all
  // writes.
  const written = await offsetOf(master)
  await eventually('the replica has all writes', async () => (await offsetOf(replica)) >= written)
  await master.kill()
  const start = performance.now()
  await load.waitFor(503, 1)
  await eventually('the replica is the master', hasTakenOver)
  const failover = performance.now() - start
  const back = await eventuallyAll(load.browsers)
  await load.waitFor(200, 200)
  await finishLoad(t, `${name}, failover after ${Math.round(failover)} ms`, load, back, recovery)
}

/** Returns the replication offset of a server, which grows with every write that the server receives. */
async function offsetOf(server: RedisServer): Promise<number> {
  const info = String(await server.command('INFO', 'replication'))
  return Number(/(?:slave|master)_repl_offset:(\d+)/.exec(info)?.[1])
}

async function everyNodeUp(servers: readonly RedisServer[]): Promise<boolean> {
  const infos = await Promise.all(servers.map((server) => server.command('CLUSTER', 'INFO')))
  return infos.every((info) => String(info).includes('cluster_state:ok'))
}

/**
 * Waits until every browser has received a 200. One browser is not enough, because the sessions are on different
 * masters. Returns how long this took, in ms.
 */
async function eventuallyAll(browsers: readonly Browser[]): Promise<number> {
  const times = await Promise.all(browsers.map((browser) => firstSuccess(browser, '/read')))
  return Math.max(...times)
}

void t.test(
  'the tests in this file have caused no unhandled promise rejection',
  async (t) => void t.strictSame(unhandled, [])
)
