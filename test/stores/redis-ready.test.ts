import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisStore } from '../../plugin/stores/redis/store.js'
import { stopClock } from '../../plugin/testing/index.js'
import { CLIENTS, connect, freshPrefix, startCluster, startRedis, withoutServer } from '../fixtures/redis.js'

void t.test('ready() warns of a wrong setup', { skip: withoutServer }, async (t) => {
  const single = [await startRedis(t)]
  const engines = { 'a single server': single, 'a cluster': await startCluster(t) }
  for (const client of CLIENTS) {
    for (const [name, servers] of Object.entries(engines)) {
      const urls = servers.map(({ url }) => url)
      const setUp = async (t: Test) => {
        const store = await connect({ client, urls, prefix: freshPrefix() })
        t.teardown(() => store.close())
        return store
      }

      void t.test(`with ${client} and ${name}, ready() returns no warning for a good setup`, async (t) => {
        t.strictSame(await (await setUp(t)).ready(), [])
      })

      void t.test(`with ${client} and ${name}, ready() warns if Redis may evict keys`, async (t) => {
        const store = await setUp(t)
        const server = servers[servers.length - 1]
        await server?.command('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru')
        t.teardown(() => server?.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction'))
        t.match(await store.ready(), [
          /^Redis has the maxmemory-policy volatile-lru, .*set `maxmemory-policy noeviction`/
        ])
      })

      void t.test(`with ${client} and ${name}, ready() warns if the clock of Redis differs`, async (t) => {
        const store = await setUp(t)
        for (const [ahead, text] of [
          [-6000, 'ahead of'],
          [6000, 'behind']
        ] as const) {
          const clock = stopClock(Date.now() + ahead)
          const warnings = await store.ready()
          clock.restore()
          t.match(warnings, [
            new RegExp(`^The clock of Redis is (5\\.9|6).* s ${text} the clock of this server, .*NTP`)
          ])
        }
        const clock = stopClock(Date.now() + 3000)
        t.strictSame(await store.ready(), [], 'a small difference does not matter')
        clock.restore()
      })
    }
  }

  void t.test('ready() does not fail if the client may not read the eviction policy', async (t) => {
    const [server] = single
    await server?.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
    t.teardown(() => server?.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction'))
    const permissions = ['+@hash', '+@sortedset', '+@keyspace', '+@scripting', '+time']
    await server?.command('ACL', 'SETUSER', 'app', 'on', '>pw', '~*', ...permissions)
    const client = new Redis(Number(server?.port), {
      username: 'app',
      password: 'pw',
      enableReadyCheck: false,
      maxRetriesPerRequest: 0
    })
    t.teardown(() => client.disconnect())
    t.strictSame(await new RedisStore({ client, prefix: freshPrefix() }).ready(), [])
  })

  void t.test('ready() warns if Redis is a read-only replica', async (t) => {
    const master = await startRedis(t)
    for (const client of CLIENTS) {
      const replica = await startRedis(t, '--replicaof', '127.0.0.1', String(master.port))
      const store = await connect({ client, urls: [replica.url], prefix: freshPrefix() })
      t.teardown(() => store.close())
      t.match(await store.ready(), [/^Redis is a read-only replica, .*connect to the master/], client)
      await replica.command('REPLICAOF', 'NO', 'ONE')
      t.strictSame(await store.ready(), [])
    }
  })

  void t.test('ready() warns if ioredis sends a command again', async (t) => {
    const [server] = single
    const port = Number(server?.port)
    const clients: [client: Redis | Cluster, warning: RegExp | undefined][] = [
      [new Redis(port), /`autoResendUnfulfilledCommands: false` and `maxRetriesPerRequest: 0`/],
      [new Redis(port, { maxRetriesPerRequest: 0 }), undefined],
      [new Redis(port, { autoResendUnfulfilledCommands: false }), undefined],
      [new Cluster(engines['a cluster'].map(({ url }) => url)), undefined]
    ]
    for (const [client, warning] of clients) {
      t.teardown(() => client.disconnect())
      const warnings = await new RedisStore({ client, prefix: freshPrefix() }).ready()
      t.match(warnings, warning === undefined ? [] : [warning])
      t.equal(warnings.length, warning === undefined ? 0 : 1)
    }
  })
})
