import { setTimeout as delay } from 'node:timers/promises'
import { Cluster, Redis } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'
import { RedisStore } from '../../plugin/stores/redis/store.js'
import { testStore } from '../../plugin/testing/index.js'
import { idOf as anyId, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import {
  CLIENTS,
  connect,
  countCommands,
  freshPrefix,
  intercept,
  startCluster,
  startRedis,
  withoutServer
} from '../fixtures/redis.js'

const servers = withoutServer === false ? await startCluster(t) : []
const urls = servers.map(({ url }) => url)
const MODULE = new URL('../fixtures/redis.ts', import.meta.url)

/**
 * Returns a session id for a name. All these ids are in one cluster slot, because a session can be renamed only within
 * its slot.
 */
const idOf = (name: string) => `ab${anyId(name).slice(2)}`
const [ID, NEW_ID, OTHER_ID] = [idOf('one'), idOf('two'), idOf('three')]

/** Returns two stores that share the same keys. `before` runs before every command that the store `watched` sends. */
async function setUp(t: Test, before: (text: string, keys: string[]) => unknown = () => undefined) {
  const raw = new Cluster([...urls])
  t.teardown(() => raw.disconnect())
  const prefix = freshPrefix()
  const store = new RedisStore({ client: raw, prefix })
  const watched = new RedisStore({ client: intercept(raw, before), prefix })
  const entries = (user: string) => raw.zrange(`${prefix}user:.${user}`, '0', '-1', 'WITHSCORES')
  return { raw, prefix, store, watched, entries }
}

void t.test(
  'the Redis store passes the store contract tests on a cluster with three masters',
  { skip: withoutServer },
  async (t) => {
    for (const client of CLIENTS) {
      void t.test(`a store that uses ${client} passes the store contract tests`, async (t) => {
        const { run, skipped } = testStore(
          `${client} cluster`,
          async () => {
            const argument = { client, urls, prefix: freshPrefix() }
            return { store: await connect(argument), process: { module: MODULE, argument } }
          },
          (name, options, body) => t.test(name, options, body),
          {
            timeout: 60_000,
            unsupported: {
              cleanup: 'Redis removes expired sessions by itself',
              'engine failure': 'redis-failure.test.ts kills a master'
            }
          }
        )
        t.comment(`${client} cluster: ${run.length} cases, ${skipped.length} skipped`)
      })
    }
  }
)

void t.test('a session stays in its cluster slot', { skip: withoutServer }, async (t) => {
  for (const client of CLIENTS) {
    void t.test(`with ${client}, a login gives the session a new id in the same cluster slot`, async (t) => {
      const store = await connect({ client, urls, prefix: freshPrefix() })
      t.teardown(() => store.close())
      t.equal(store.rotationPrefix, 2)
      const app = addRoutes(await makeApp(t, { store }))
      app.get('/id', async ({ session }) => session.id)
      for (let round = 0; round < 20; round++) {
        const browser = new Browser(app)
        await browser.get('/set?a=1')
        const before = (await browser.get('/id')).body
        t.equal((await browser.get('/login')).statusCode, 200)
        const after = (await browser.get('/id')).body
        t.not(after, before)
        t.equal(after.slice(0, 2), before.slice(0, 2))
        t.equal(await store.get(before), undefined)
        t.not(await store.get(after), undefined)
      }
      t.equal((await store.listByUser('ada')).length, 20)
      t.equal(await store.destroyByUser('ada'), 20)
    })
  }

  void t.test(
    'renaming a session to an id in another cluster slot throws an error and changes nothing',
    async (t) => {
      const { store, entries } = await setUp(t)
      const elsewhere = `cd${NEW_ID.slice(2)}`
      const record = makeRecord({ userId: 'ada' })
      await store.create(ID, record)
      const patch = makePatch({ renameTo: elsewhere, set: { a: '1' }, userId: 'bob' })
      await t.rejects(store.update(ID, patch), { message: /a rotation keeps the first 2 digits of the id/ })
      t.same(await store.get(ID), record)
      t.equal(await store.get(elsewhere), undefined)
      t.strictSame(await entries('bob'), [])
    }
  )

  void t.test('ready() rejects a client that is connected to only one node of a cluster', async (t) => {
    const nodeRedis = await createClient({ url: urls[0] as string }).connect()
    const ioRedis = new Redis(urls[0] as string)
    t.teardown(() => (nodeRedis.destroy(), ioRedis.disconnect()))
    for (const client of [nodeRedis, ioRedis]) {
      const store = new RedisStore({ client, prefix: freshPrefix() })
      t.equal(store.rotationPrefix, undefined)
      await t.rejects(store.ready(), { code: 'SESSION_OPTION_INVALID', message: /createCluster\(\)/ })
    }
  })

  void t.test('ready() accepts a cluster client', async (t) => {
    for (const client of CLIENTS) {
      const store = await connect({ client, urls, prefix: freshPrefix() })
      t.teardown(() => store.close())
      await t.resolves(store.ready(), client)
    }
  })
})

void t.test('a write to a cluster can safely fail at any step', { skip: withoutServer }, async (t) => {
  const failScript = (fragment: string) => (text: string) => {
    if (text.includes(fragment)) throw new Error('OOM command not allowed')
  }
  // Each of these strings occurs in only one Lua script of the store.
  const CREATE = "return { 'taken' }"
  const ADD_ENTRY = 'enter(KEYS[1]'
  const UPDATE = "'RENAME'"
  const REMOVE_ENTRY = "'ZREM', KEYS[1]"

  void t.test(
    'if creating a session fails, no session is listed for its user, and a second attempt succeeds',
    async (t) => {
      const { store, watched } = await setUp(t, failScript(CREATE))
      await t.rejects(watched.create(ID, makeRecord({ userId: 'ada' })), { message: /OOM/ })
      t.strictSame(await store.listByUser('ada'), [])
      t.equal(await store.destroyByUser('ada'), 0)
      t.equal(await store.create(ID, makeRecord({ userId: 'ada' })), true)
      t.equal((await store.listByUser('ada')).length, 1)
    }
  )

  void t.test(
    'if the entry in the user index cannot be written, no session is created or changed',
    async (t) => {
      const { store, watched } = await setUp(t, failScript(ADD_ENTRY))
      const record = makeRecord({ userId: 'ada' })
      await t.rejects(watched.create(NEW_ID, record), { message: /OOM/ })
      t.equal(await store.get(NEW_ID), undefined)
      await store.create(ID, record)
      const patches = [{ renameTo: NEW_ID }, { userId: 'bob' }, { expiresAt: record.expiresAt + 1000 }]
      for (const patch of patches) {
        await t.rejects(watched.update(ID, makePatch(patch)), { message: /OOM/ })
        t.same(await store.get(ID), record)
      }
    }
  )

  void t.test(
    'if a rename fails after the new entry in the user index has been written, the session stays unchanged',
    async (t) => {
      const { store, watched } = await setUp(
        t,
        (() => {
          let calls = 0
          return (text: string) => {
            if (text.includes(UPDATE) && ++calls === 2) throw new Error('OOM command not allowed')
          }
        })()
      )
      await store.create(ID, makeRecord({ userId: 'ada' }))
      await t.rejects(watched.update(ID, makePatch({ renameTo: NEW_ID })), { message: /OOM/ })
      t.strictSame(
        (await store.listByUser('ada')).map(({ id }) => id),
        [ID]
      )
      t.equal(await store.destroyByUser('ada'), 1)
      t.equal(await store.get(ID), undefined)
    }
  )

  void t.test(
    'a write succeeds even if the old entry in the user index cannot be removed, and that entry is not listed',
    async (t) => {
      const { store, watched, entries } = await setUp(t, failScript(REMOVE_ENTRY))
      await store.create(ID, makeRecord({ userId: 'ada' }))
      t.equal(await watched.update(ID, makePatch({ userId: 'bob', renameTo: NEW_ID })), 'ok')
      t.equal((await entries('ada')).length, 2)
      t.strictSame(await store.listByUser('ada'), [])
      t.equal(await store.destroyByUser('ada'), 0)
      t.equal((await store.listByUser('bob')).length, 1)
      t.equal(await watched.destroy(NEW_ID), true)
      t.equal((await entries('bob')).length, 2)
      t.strictSame(await store.listByUser('bob'), [])
    }
  )

  void t.test('destroyByUser() also ends a session that is rotated twice during the call', async (t) => {
    const moves: [string, string][] = [
      [ID, NEW_ID],
      [NEW_ID, OTHER_ID]
    ]
    const { store, watched } = await setUp(t, async (text) => {
      const move = text.includes("'DEL', KEYS[1]") ? moves.shift() : undefined
      if (move !== undefined) await store.update(move[0], makePatch({ renameTo: move[1] }))
    })
    await store.create(ID, makeRecord({ userId: 'ada' }))
    t.equal(await watched.destroyByUser('ada'), 1)
    for (const id of [ID, NEW_ID, OTHER_ID]) t.equal(await store.get(id), undefined)
  })

  void t.test(
    'if the user of a session changes between two steps of a write, the session is listed for the new user',
    async (t) => {
      const users = ['bob', 'eve']
      const { store, watched } = await setUp(t, async (text) => {
        const userId = text.includes(ADD_ENTRY) ? users.shift() : undefined
        if (userId !== undefined) await store.update(ID, makePatch({ userId }))
      })
      await store.create(ID, makeRecord({ userId: 'ada' }))
      t.equal(await watched.update(ID, makePatch({ renameTo: NEW_ID })), 'ok')
      t.strictSame(
        (await store.listByUser('eve')).map(({ id }) => id),
        [NEW_ID]
      )
    }
  )

  void t.test(
    'if a session is removed from its user and then assigned to that user again, it stays in the user index',
    async (t) => {
      let release = () => undefined as void
      const held = new Promise<void>((resolve) => (release = resolve))
      const { store, watched, entries } = await setUp(t, (text) =>
        text.includes(REMOVE_ENTRY) ? held : undefined
      )
      await store.create(ID, makeRecord({ userId: 'ada' }))
      t.equal(await watched.update(ID, makePatch({ userId: null })), 'ok')
      t.strictSame(await store.listByUser('ada'), [])
      t.equal(await store.update(ID, makePatch({ userId: 'ada' })), 'ok')
      release()
      await delay(50)
      t.equal((await entries('ada')).length, 2, 'one id and its score')
      t.equal(await store.destroyByUser('ada'), 1)
    }
  )

  void t.test(
    'creating a session with an existing id does not shorten the lifetime of the entry in the user index',
    async (t) => {
      const { store, entries } = await setUp(t)
      const record = makeRecord({ userId: 'ada' })
      await store.create(ID, record)
      const before = await entries('ada')
      t.equal(await store.create(ID, { ...record, expiresAt: record.expiresAt - 60_000 }), false)
      t.strictSame(await entries('ada'), before)
    }
  )

  void t.test(
    'the removal of an entry does not affect a session that is then created with the same id',
    async (t) => {
      const { raw, store, entries } = await setUp(t)
      const record = makeRecord({ userId: 'ada' })
      await Promise.all(raw.nodes('master').map((node) => node.script('FLUSH')))
      await store.create(idOf('other'), record)
      await store.create(ID, record)
      await store.destroy(ID)
      await store.create(ID, record)
      t.ok((await entries('ada')).includes(ID))
    }
  )

  void t.test('an entry in the user index never expires before its session', async (t) => {
    const { raw, store, prefix, entries } = await setUp(t)
    const record = makeRecord({ userId: 'ada' })
    await store.create(ID, record)
    const expiresAt = record.expiresAt + 60_000
    await store.update(ID, makePatch({ expiresAt }))
    const extended = await entries('ada')
    t.ok(Math.abs(Number(extended[1]) - expiresAt) < 5000, 'the entry is extended with the session')
    t.ok((await raw.pttl(`${prefix}user:.ada`)) > 60_000)
    await store.update(ID, makePatch({ expiresAt: record.expiresAt }))
    t.strictSame(await entries('ada'), extended)
  })
})

void t.test('requests make as few round trips to Redis as possible', { skip: withoutServer }, async (t) => {
  const steps: [name: string, path: string, single: number, cluster: number][] = [
    ['an anonymous request', '/empty', 0, 0],
    ['a new session without a user', '/set?a=1', 1, 1],
    ['a read', '/read', 1, 1],
    ['a changed key', '/set?a=2', 2, 2],
    ['an increment', '/add', 2, 2],
    ['a rotation without a user', '/rotate', 2, 2],
    ['a login: a rotation with a new user', '/login', 2, 4],
    ['a read by a user', '/read', 1, 1],
    ['a changed key by a user', '/set?a=3', 2, 2],
    ['a rotation by a user', '/rotate', 2, 5],
    ['a logout of a user', '/logout', 2, 3],
    ['a new session', '/set?a=1', 1, 1],
    ['a logout without a user', '/logout', 2, 2]
  ]
  const single = [await startRedis(t)]
  for (const client of CLIENTS) {
    for (const [engine, nodes] of Object.entries({ 'a single server': single, 'a cluster': servers })) {
      void t.test(
        `with ${client} and ${engine}, a request makes as few round trips as possible`,
        async (t) => {
          const store = await connect({ client, urls: nodes.map(({ url }) => url), prefix: freshPrefix() })
          t.teardown(() => store.close())
          const app = addRoutes(await makeApp(t, { store }))
          app.get('/rotate', async ({ session }) => (session.regenerate(), 'rotate'))
          await warmUp(app)
          const browser = new Browser(app)
          for (const [name, path, one, many] of steps) {
            const count = await countCommands(nodes, () => browser.get(path))
            t.equal(count, engine === 'a cluster' ? many : one, name)
            t.comment(`${client}, ${engine}: ${name}: ${count}`)
          }
        }
      )
      void t.test(
        `with ${client} and ${engine}, a write with idleTimeout also extends the lifetime of the index entry`,
        async (t) => {
          const store = await connect({ client, urls: nodes.map(({ url }) => url), prefix: freshPrefix() })
          t.teardown(() => store.close())
          const app = addRoutes(await makeApp(t, { store, idleTimeout: 600 }))
          app.get('/rotate', async ({ session }) => (session.regenerate(), 'rotate'))
          await warmUp(app)
          const browser = new Browser(app)
          await browser.get('/login')
          // Redis stores expiry times in whole milliseconds. The write must happen at least 1 ms after the login, or
          // the new expiry time could equal the old one.
          await delay(20)
          const count = await countCommands(nodes, () => browser.get('/set?a=1'))
          t.equal(count, engine === 'a cluster' ? 4 : 2)
        }
      )
    }
  }
})

/** Sends requests until every node has cached every Lua script. */
async function warmUp(app: Awaited<ReturnType<typeof makeApp>>): Promise<void> {
  const browsers = Array.from({ length: 40 }, () => new Browser(app))
  for (const path of ['/set?a=1', '/login', '/rotate', '/logout']) {
    await Promise.all(browsers.map((browser) => browser.get(path)))
  }
}
