import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { idOf as anyId, makePatch, makeRecord } from '../../plugin/testing/records.js'
import {
  CLIENTS,
  connect,
  freshPrefix,
  startCluster,
  withoutServer,
  type RedisServer
} from '../fixtures/redis.js'

/** How long a slot moves, in ms. ioredis itself retries for 1.6 s. */
const MOVE = 2200
/** Returns a session id for a name. All these ids are in one cluster slot. */
const idOf = (name: string) => `ab${anyId(name).slice(2)}`
const [ID, NEW_ID, OTHER_ID, LAST_ID] = [idOf('one'), idOf('two'), idOf('three'), idOf('four')]

void t.test(
  'writes wait while a cluster refuses them',
  { skip: withoutServer, timeout: 60_000 },
  async (t) => {
    const servers = await startCluster(t)
    const urls = servers.map(({ url }) => url)
    for (const client of CLIENTS) {
      const setUp = async (t: Test) => {
        const store = await connect({ client, urls, prefix: freshPrefix() })
        t.teardown(() => store.close())
        for (const id of [ID, OTHER_ID]) await store.create(id, makeRecord({ userId: 'ada' }))
        return store
      }

      void t.test(`with ${client}, reads and writes succeed while their slot moves`, async (t) => {
        const store = await setUp(t)
        const move = await startMove(servers, 'ab')
        const rotation = store.update(ID, makePatch({ renameTo: NEW_ID, set: { a: '1' } }))
        t.not(await store.get(ID), undefined, 'a read succeeds at once')
        t.equal(
          await store.create(LAST_ID, makeRecord({ userId: 'ada' })),
          true,
          'a new session is created at once'
        )
        t.equal(
          await store.update(OTHER_ID, makePatch({ set: { a: '2' } })),
          'ok',
          'a write succeeds at once'
        )
        t.equal(await store.get(NEW_ID), undefined, 'the rotation waits')
        await delay(MOVE / 2)
        await move.migrate()
        t.match(await store.get(OTHER_ID), { data: { a: '2' } }, 'a session that has moved is found')
        t.equal(await store.update(OTHER_ID, makePatch({ set: { a: '3' } })), 'ok')
        await delay(MOVE / 2)
        await move.finish()
        t.equal(await rotation, 'ok')
        t.equal(await store.get(ID), undefined)
        t.match(await store.get(NEW_ID), { version: 2, data: { a: '1' } })
        t.equal((await store.listByUser('ada')).length, 3)
        t.equal(await store.destroyByUser('ada'), 3)
      })

      void t.test(
        `with ${client}, reads and writes succeed if a slot has no server for a moment`,
        async (t) => {
          const store = await setUp(t)
          const { slot, owner } = await ownerOf(servers, 'ab')
          for (const server of servers) await server.command('CLUSTER', 'DELSLOTS', slot)
          const calls = [
            store.get(ID),
            store.update(ID, makePatch({ set: { a: '1' } })),
            store.update(OTHER_ID, makePatch({ renameTo: NEW_ID })),
            store.create(LAST_ID, makeRecord())
          ]
          await delay(500)
          for (const server of servers) {
            if (server === owner) await server.command('CLUSTER', 'ADDSLOTS', slot)
            else
              await server.command(
                'CLUSTER',
                'SETSLOT',
                slot,
                'NODE',
                String(await owner.command('CLUSTER', 'MYID'))
              )
          }
          const [record, ...results] = await Promise.all(calls)
          t.match(record, { userId: 'ada' })
          t.strictSame(results, ['ok', 'ok', true])
        }
      )

      void t.test(`with ${client}, a write fails if its slot does not stop moving`, async (t) => {
        const store = await setUp(t)
        const move = await startMove(servers, 'ab')
        t.teardown(async () => {
          await move.migrate()
          await move.finish()
        })
        const began = performance.now()
        await t.rejects(store.update(ID, makePatch({ renameTo: NEW_ID })), { message: /TRYAGAIN|MOVED/ })
        t.ok(performance.now() - began < 10_000)
      })
    }
  }
)

/** Returns the slot of a hash tag, and the server that owns it. */
async function ownerOf(servers: readonly RedisServer[], tag: string) {
  const slot = String(await servers[0]?.command('CLUSTER', 'KEYSLOT', tag))
  for (const owner of servers) {
    const shards = (await owner.command('CLUSTER', 'SLOTS')) as [number, number, [string, number]][]
    const found = shards.find(([from, to]) => from <= Number(slot) && Number(slot) <= to)
    if (found?.[2][1] === owner.port) return { slot, owner }
  }
  throw new Error(`no server has the slot ${slot}`)
}

/** Starts to move the slot of a hash tag to another server, as `redis-cli --cluster reshard` does. */
async function startMove(servers: readonly RedisServer[], tag: string) {
  const { slot, owner } = await ownerOf(servers, tag)
  const target = servers.find((server) => server !== owner) as RedisServer
  const idOfNode = async (server: RedisServer) => String(await server.command('CLUSTER', 'MYID'))
  const to = await idOfNode(target)
  await target.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', await idOfNode(owner))
  await owner.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to)
  return {
    async migrate(): Promise<void> {
      const keys = (await owner.command('CLUSTER', 'GETKEYSINSLOT', slot, '1000')) as string[]
      if (keys.length > 0)
        await owner.command('MIGRATE', '127.0.0.1', String(target.port), '', '0', '5000', 'KEYS', ...keys)
    },
    async finish(): Promise<void> {
      for (const server of [target, owner, ...servers]) {
        await server.command('CLUSTER', 'SETSLOT', slot, 'NODE', to)
      }
    }
  }
}
