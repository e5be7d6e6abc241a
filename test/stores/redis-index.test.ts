import { Cluster, Redis } from 'ioredis'
import { createClient, createCluster } from 'redis'
import t, { type Test } from 'tap'
import { RedisStore, type RedisStoreOptions } from '../../plugin/stores/redis/store.js'
import { idOf as anyId, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { stopClock } from '../../plugin/testing/index.js'
import { eventually, freshPrefix, startCluster, startRedis, withoutServer } from '../fixtures/redis.js'

const MINUTE = 60_000
/** Returns an id. The ids of names that begin with different digits are in different slots of a cluster. */
const idOf = (name: string) => name.slice(0, 2) + anyId(name).slice(2)
const IDS = Array.from({ length: 20 }, (_, index) => idOf(`${index + 10}`))

void t.test(
  'a user’s sessions are found whatever Redis and the clocks do',
  { skip: withoutServer },
  async (t) => {
    const single = await startRedis(t)
    const nodes = await startCluster(t)
    const urls = nodes.map(({ url }) => url)
    const clients: Record<string, () => Promise<[RedisStoreOptions['client'], close: () => unknown]>> = {
      ioredis: async () => closed(new Redis(single.url)),
      'ioredis with a keyPrefix': async () => closed(new Redis(single.url, { keyPrefix: 'a*[b]:' })),
      'an ioredis Cluster': async () => closed(new Cluster([...urls])),
      'an ioredis Cluster with a keyPrefix': async () =>
        closed(new Cluster([...urls], { keyPrefix: 'app:' })),
      'node-redis': async () => destroyed(await createClient({ url: single.url }).connect()),
      'node-redis with a keyPrefix': async () =>
        destroyed(await createClient({ url: single.url, keyPrefix: 'app:' }).connect()),
      'a node-redis cluster': async () =>
        destroyed(await createCluster({ rootNodes: urls.map((url) => ({ url })) }).connect()),
      'a node-redis cluster with a keyPrefix': async () =>
        destroyed(
          await createCluster({ rootNodes: urls.map((url) => ({ url })), keyPrefix: 'app:' }).connect()
        )
    }
    for (const [name, connect] of Object.entries(clients)) {
      const servers = name.toLowerCase().includes('cluster') ? nodes : [single]
      const configure = (policy: string) =>
        Promise.all(servers.map((server) => server.command('CONFIG', 'SET', 'maxmemory-policy', policy)))
      /** Deletes each key that matches, as an eviction does. */
      const evict = (pattern: string) =>
        Promise.all(
          servers.map(async (server) => {
            for (const key of (await server.command('KEYS', pattern)) as string[])
              await server.command('DEL', key)
          })
        )
      const setUp = async (t: Test) => {
        const [client, close] = await connect()
        t.teardown(close)
        const prefix = freshPrefix()
        return { store: new RedisStore({ client, prefix }), prefix }
      }

      void t.test(`with ${name}, destroyByUser() ends the sessions whose index was evicted`, async (t) => {
        const { store, prefix } = await setUp(t)
        await configure('allkeys-lru')
        t.teardown(() => configure('noeviction'))
        for (const id of IDS) await store.create(id, makeRecord({ userId: 'ada' }))
        await store.create(idOf('30'), makeRecord({ userId: 'bob' }))
        await store.create(idOf('31'), makeRecord())
        // One step of a scan reads 1,000 keys.
        const others = Array.from({ length: 1200 }, (_, index) => idOf(`${(index % 90) + 10} ${index}`))
        await Promise.all(others.map((id) => store.create(id, makeRecord())))
        await evict(`*${prefix}user:*`)
        await store.create(idOf('32'), makeRecord({ userId: 'ada' }))
        t.equal(await store.destroyByUser('ada', IDS[7]), 20)
        for (const id of IDS) t.equal((await store.get(id)) !== undefined, id === IDS[7])
        t.equal(await store.get(idOf('32')), undefined)
        t.not(await store.get(idOf('30')), undefined, 'another user is still signed in')
        t.not(await store.get(idOf('31')), undefined)
      })

      void t.test(
        `with ${name}, a process whose clock is 6 minutes ahead removes no entry of a live session`,
        async (t) => {
          const { store } = await setUp(t)
          const [first, second, third] = IDS as [string, string, string]
          await store.create(first, makeRecord({ userId: 'ada' }))
          const clock = stopClock(Date.now() + 6 * MINUTE)
          await store.create(second, makeRecord({ userId: 'ada' }))
          await store.update(second, makePatch({ set: { a: '1' } }))
          clock.restore()
          t.strictSame((await store.listByUser('ada')).map(({ id }) => id).sort(), [first, second].sort())
          await store.create(third, makeRecord({ userId: 'ada' }))
          const ahead = stopClock(Date.now() + 6 * MINUTE)
          await store.destroyByUser('ada')
          ahead.restore()
          for (const id of [first, second, third]) t.equal(await store.get(id), undefined)
        }
      )

      void t.test(
        `with ${name}, an entry lasts as long as its session, whichever process extends it`,
        async (t) => {
          const { store } = await setUp(t)
          const id = String(IDS[0])
          const clock = stopClock(Date.now() + 6 * MINUTE)
          const record = makeRecord({ userId: 'ada', expiresAt: Date.now() + 300 })
          await store.create(id, record)
          clock.restore()
          await store.update(id, makePatch({ expiresAt: Date.now() + MINUTE }))
          // The first entry would have expired by now, as the session itself would have.
          const until = performance.now() + 400
          await eventually('the first expiry has passed', () => performance.now() > until)
          t.not(await store.get(id), undefined)
          t.equal(await store.destroyByUser('ada'), 1)
        }
      )
    }
  }
)

function closed(client: Redis | Cluster): [typeof client, () => unknown] {
  return [client, () => client.disconnect()]
}

function destroyed<C extends RedisStoreOptions['client'] & { destroy(): unknown }>(
  client: C
): [C, () => unknown] {
  return [client, () => client.destroy()]
}
