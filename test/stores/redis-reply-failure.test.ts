import type { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Cluster, Redis } from 'ioredis'
import { createClient, createCluster, createSentinel } from 'redis'
import t, { type Test } from 'tap'
import { RedisStore, type RedisStoreOptions } from '../../plugin/stores/redis/store.js'
import { idOf as anyId, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import { startProxies, type Proxies } from '../fixtures/redis-proxy.js'
import {
  eventually,
  freshPrefix,
  startCluster,
  startRedis,
  startSentinel,
  withoutServer,
  type RedisServer
} from '../fixtures/redis.js'
import { freePort } from '../fixtures/port.js'

/** Returns a session id for a name. All these ids are in one cluster slot. */
const idOf = (name: string) => `ab${anyId(name).slice(2)}`
const [ID, NEW_ID] = [idOf('one'), idOf('two')]

interface Setup {
  readonly proxies: Proxies
  readonly client: RedisStoreOptions['client']
}

/** The clients with settings that send a command again if its reply was lost. */
const RESENDING: Record<string, (t: Test) => Promise<Setup>> = {
  async 'ioredis with its defaults'(t) {
    const proxies = await startProxies(t, [await startRedis(t)])
    const client = new Redis(Number(proxies.ports[0]))
    t.teardown(() => client.disconnect())
    return { proxies, client }
  },
  async 'an ioredis Cluster with its defaults'(t) {
    const servers = await startCluster(t)
    const proxies = await startProxies(t, servers)
    const client = new Cluster(
      proxies.ports.map((port) => ({ host: '127.0.0.1', port })),
      { natMap: natMapOf(servers, proxies) }
    )
    t.teardown(() => client.disconnect())
    return { proxies, client }
  },
  async 'a node-redis Sentinel with its defaults'(t) {
    const master = await startRedis(t)
    await startRedis(t, '--replicaof', '127.0.0.1', String(master.port))
    const sentinel = await startSentinel(t, master)
    const proxies = await startProxies(t, [master])
    const client = createSentinel({
      name: 'sesame',
      sentinelRootNodes: [{ host: '127.0.0.1', port: sentinel.port }],
      nodeAddressMap: natMapOf([master], proxies),
      nodeClientOptions: { socket: { reconnectStrategy: () => 20 } }
    })
    client.on('error', () => undefined)
    await client.connect()
    t.teardown(() => void client.destroy())
    return { proxies, client }
  }
}

/** Maps the address of each server to that of its proxy. */
function natMapOf(servers: readonly RedisServer[], { ports }: Proxies) {
  return Object.fromEntries(
    servers.map(({ port }, index) => [`127.0.0.1:${port}`, { host: '127.0.0.1', port: Number(ports[index]) }])
  )
}

for (const [name, setUp] of Object.entries(RESENDING)) {
  void t.test(
    `with ${name}, a write whose reply was lost is applied once`,
    { skip: withoutServer },
    async (t) => {
      const { proxies, client } = await setUp(t)
      const store = new RedisStore({ client, prefix: freshPrefix() })
      /** Runs `work` and loses the reply to the `nth` script that the client sends. */
      const losing = async <T>(work: () => Promise<T>, nth = 1): Promise<T> => {
        const before = proxies.lost
        proxies.loseReply(nth)
        const result = await work()
        t.equal(proxies.lost, before + 1, 'a reply was lost')
        return result
      }
      const isCluster = store.rotationPrefix !== undefined
      await warmUp(store)

      const record = makeRecord({ userId: 'ada' })
      const { expiresAt } = record
      await t.test('create() returns true', async (t) => {
        t.equal(await losing(() => store.create(ID, record), isCluster ? 2 : 1), true)
        t.equal(await store.create(ID, makeRecord()), false, 'another create() does not')
      })

      await t.test('20 increments count to 20', async (t) => {
        for (let count = 1; count <= 20; count++) {
          const patch = makePatch({ set: { count: String(count) }, ifVersion: count, expiresAt })
          t.equal(await losing(() => store.update(ID, patch)), 'ok')
          t.equal(
            await store.update(ID, patch),
            'conflict',
            'another update() with the same version conflicts'
          )
        }
        t.match(await store.get(ID), { version: 21, data: { count: '20' } })
      })

      await t.test('a rotation returns ok', async (t) => {
        const patch = makePatch({ renameTo: NEW_ID, userId: 'bob' })
        t.equal(await losing(() => store.update(ID, patch), isCluster ? 3 : 1), 'ok')
        t.equal(await store.get(ID), undefined)
        t.match(await store.get(NEW_ID), { version: 21, userId: 'bob' })
        t.equal(await store.update(ID, makePatch({ renameTo: NEW_ID })), 'gone', 'another rotation does not')
        t.equal((await store.listByUser('bob')).length, 1)
      })

      await t.test('destroy() ends the session', async (t) => {
        t.equal(
          await losing(() => store.destroy(NEW_ID)),
          false,
          'the second attempt does not find the session'
        )
        t.equal(await store.get(NEW_ID), undefined)
      })

      await t.test('requests succeed, and each increment counts once', async (t) => {
        const app = addRoutes(await makeApp(t, { store }))
        const browser = new Browser(app)
        for (const path of ['/set?name=ada', '/add', '/add', '/add', '/login', '/add']) {
          const { statusCode } = await losing(() => browser.get(path))
          t.equal(statusCode, 200, path)
        }
        t.equal((await browser.get('/logout')).statusCode, 200)
      })
    }
  )
}

/** Connects to every node, and caches every script. */
async function warmUp(store: RedisStore): Promise<void> {
  for (let index = 0; index < 32; index++) {
    const [id, other] = [anyId(`${index}`), `${anyId(`${index}`).slice(0, 2)}${anyId('other').slice(2)}`]
    await store.create(id, makeRecord({ userId: `user ${index}` }))
    await store.update(id, makePatch({ renameTo: other }))
    await store.destroy(other)
  }
}

/** The settings of docs/stores.md. */
const NODE_REDIS = {
  disableOfflineQueue: true,
  pingInterval: 500,
  socket: { connectTimeout: 1000, socketTimeout: 1500, reconnectStrategy: () => 50 }
}
const IOREDIS = {
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  connectTimeout: 1000,
  socketTimeout: 1500
}

/** The clients of docs/stores.md. Each connects through a proxy for each server. */
const RECOMMENDED: Record<string, (t: Test) => Promise<Setup>> = {
  async ioredis(t) {
    const proxies = await startProxies(t, [await startRedis(t)])
    const settings = { ...IOREDIS, enableOfflineQueue: false, retryStrategy: () => 50 }
    const client = new Redis(Number(proxies.ports[0]), settings)
    return { proxies, client: quiet(t, client, () => client.disconnect()) }
  },
  async 'an ioredis Cluster'(t) {
    const servers = await startCluster(t)
    const proxies = await startProxies(t, servers)
    const client = new Cluster(
      proxies.ports.map((port) => ({ host: '127.0.0.1', port })),
      {
        natMap: natMapOf(servers, proxies),
        enableOfflineQueue: false,
        clusterRetryStrategy: () => 50,
        redisOptions: IOREDIS
      }
    )
    return { proxies, client: quiet(t, client, () => client.disconnect()) }
  },
  async 'node-redis'(t) {
    const proxies = await startProxies(t, [await startRedis(t)])
    const client = createClient({ url: `redis://127.0.0.1:${proxies.ports[0]}`, ...NODE_REDIS })
    quiet(t, client, () => client.destroy())
    await client.connect()
    return { proxies, client }
  },
  async 'a node-redis cluster'(t) {
    const servers = await startCluster(t)
    const proxies = await startProxies(t, servers)
    const client = createCluster({
      rootNodes: proxies.ports.map((port) => ({ url: `redis://127.0.0.1:${port}` })),
      nodeAddressMap: natMapOf(servers, proxies),
      defaults: NODE_REDIS
    })
    quiet(t, client, () => client.destroy())
    await client.connect()
    return { proxies, client }
  }
}

/** Ignores the errors of a client, and closes it when the test ends. */
function quiet<C>(t: Test, client: C, close: () => unknown): C {
  ;(client as EventEmitter).on('error', () => undefined)
  t.teardown(() => void close())
  return client
}

void t.test('a connection that a firewall has forgotten is replaced', { skip: withoutServer }, async (t) => {
  for (const [name, connect] of Object.entries(RECOMMENDED)) {
    for (const outage of [0, 1500]) {
      void t.test(
        `with ${name}, the first 200s arrive within 3 s, after an outage of ${outage} ms`,
        async (t) => {
          const { proxies, client } = await connect(t)
          const store = new RedisStore({ client, prefix: freshPrefix() })
          const app = addRoutes(await makeApp(t, { store, storeTimeout: 500 }))
          const browsers = Array.from({ length: 8 }, () => new Browser(app))
          /** Repeats a request, so that the connection never rests. Returns how long the last browser waited, in ms. */
          const allSucceed = async (path: string): Promise<number> => {
            const start = performance.now()
            const succeeds = async (browser: Browser) => (await browser.get(path)).statusCode === 200
            await Promise.all(
              browsers.map((browser) => eventually('a 200', () => succeeds(browser), 20_000, 20))
            )
            return Math.round(performance.now() - start)
          }
          await allSucceed('/set?name=ada')
          proxies.forget()
          const failed = eventually(
            'a request fails',
            async () => (await browsers[0]?.get('/read'))?.statusCode === 503
          )
          await Promise.all([failed, delay(outage)])
          proxies.serve()
          const took = await allSucceed('/add')
          t.ok(took < 3000, `the first 200s after ${took} ms`)
          t.comment(`${name}: the first 200s after ${took} ms`)
        }
      )
    }
  }
})

void t.test(
  'if Redis replies again after a while, only recent commands are sent',
  { skip: withoutServer },
  async (t) => {
    const server = await startRedis(t)
    // Without `socketTimeout`, the connection stays open.
    const client = createClient({ url: server.url, disableOfflineQueue: true })
    t.teardown(() => client.destroy())
    await client.connect()
    const store = new RedisStore({ client, prefix: freshPrefix() })
    await store.create(ID, makeRecord())
    server.suspend()
    const sent = store.get(ID)
    await delay(700)
    const old = store.update(ID, makePatch({ set: { old: '1' } })).catch((error: unknown) => error)
    await delay(3100)
    const recent = store.update(ID, makePatch({ set: { recent: '1' } }))
    server.resume()
    t.match(await sent, { version: 1 })
    t.match(await old, { message: 'RedisStore: Redis does not reply' })
    t.equal(await recent, 'ok')
    t.match(await store.get(ID), { version: 2, data: { recent: '1' } })
  }
)

void t.test('if Redis is down, registration waits no longer than storeTimeout', async (t) => {
  const port = await freePort()
  for (const client of [new Redis(port), new Cluster([{ host: '127.0.0.1', port }])]) {
    t.teardown(() => client.disconnect())
    client.on('error', () => undefined)
    const start = performance.now()
    await makeApp(t, { store: new RedisStore({ client }), storeTimeout: 200 })
    const took = Math.round(performance.now() - start)
    t.ok(took < 2000, `registered after ${took} ms`)
  }
})
