import { isDeepStrictEqual } from 'node:util'
import { Redis } from 'ioredis'
import { createClient, RESP_TYPES } from 'redis'
import t, { type Test } from 'tap'
import { SessionOptionError } from '../../plugin/index.js'
import { RedisStore, type IoRedisClient } from '../../plugin/stores/redis/store.js'
import { idOf, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { stopClock, testStore } from '../../plugin/testing/index.js'
import type { SessionRecord } from '../../plugin/types.js'
import { listen } from '../fixtures/diagnostics.js'
import {
  CLIENTS,
  connect,
  freshPrefix,
  intercept,
  sharedRedis,
  startRedis,
  withoutRedis,
  withoutServer
} from '../fixtures/redis.js'
import { assertNoLeaks } from '../fixtures/leaks.js'

const url = withoutRedis === false ? await sharedRedis(t) : ''
const MODULE = new URL('../fixtures/redis.ts', import.meta.url)
const [ID, NEW_ID, OTHER_ID] = [idOf('one'), idOf('two'), idOf('three')]

/** Returns a store with a new key prefix, and a Redis client that can access the keys of the store directly. */
async function setUp(t: Test, options: { client?: (raw: Redis) => IoRedisClient } = {}) {
  const raw = new Redis(url)
  t.teardown(() => raw.disconnect())
  const prefix = freshPrefix()
  const store = new RedisStore({ client: options.client?.(raw) ?? raw, prefix })
  const keyOf = (id: string) => `${prefix}{${id.slice(0, 2)}}:${id}`
  const usersKey = (user: string) => `${prefix}user:.${user}`
  return { raw, prefix, store, keyOf, usersKey }
}

void t.test('the Redis store passes the store contract tests', { skip: withoutRedis }, async (t) => {
  for (const client of CLIENTS) {
    void t.test(`a store that uses ${client} passes the store contract tests`, async (t) => {
      const { run, skipped } = testStore(
        client,
        async () => {
          const argument = { client, urls: [url], prefix: freshPrefix() }
          return { store: await connect(argument), process: { module: MODULE, argument } }
        },
        (name, options, body) => t.test(name, options, body),
        {
          timeout: 60_000,
          unsupported: {
            cleanup: 'Redis removes expired sessions by itself',
            'engine failure': 'redis-failure.test.ts kills the server'
          }
        }
      )
      t.comment(`${client}: ${run.length} cases, ${skipped.length} skipped`)
    })
  }
})

for (const client of CLIENTS) {
  void t.test(`F10: errors of ${client} show no value of a session`, { skip: withoutServer }, async (t) => {
    const server = await startRedis(t)
    const store = await connect({ client, urls: [server.url], prefix: freshPrefix() })
    t.teardown(() => store.close())
    const fail = () => server.command('CONFIG', 'SET', 'maxmemory', '1')
    for (const error of await assertNoLeaks(t, store, fail)) t.match(error.message, /OOM/)
  })
}

void t.test('the store keeps each session under its own key in Redis', { skip: withoutRedis }, async (t) => {
  void t.test('a session is stored as a hash, and its field names separate data from metadata', async (t) => {
    const { raw, store, keyOf, usersKey } = await setUp(t)
    const record = makeRecord({ data: { v: '"a key"', '': '""' }, userId: 'ada' })
    await store.create(ID, record)
    const { n: nonce, ...hash } = await raw.hgetall(keyOf(ID))
    t.match(nonce, /^[\w-]{12}$/, 'the nonce of the write')
    t.strictSame(hash, {
      v: '1',
      c: String(record.createdAt),
      a: String(record.lastAccessed),
      e: String(record.expiresAt),
      u: '.ada',
      '.v': '"a key"',
      '.': '""'
    })
    const [id, expiry] = await raw.zrange(usersKey('ada'), '0', '-1', 'WITHSCORES')
    t.equal(id, ID)
    t.ok(Math.abs(Number(expiry) - record.expiresAt) < 5000, 'the entry expires with the session')
  })

  void t.test('an update writes only the session keys that have changed', async (t) => {
    const { raw, store, keyOf } = await setUp(t)
    await store.create(ID, makeRecord({ data: { a: '1', b: '2' } }))
    await raw.hset(keyOf(ID), '.a', '"set by another client"')
    await store.update(ID, makePatch({ set: { b: '3' } }))
    t.strictSame({ ...(await store.get(ID))?.data }, { a: '"set by another client"', b: '3' })
  })

  void t.test(
    'a session and its entry in the user index expire on time, even if the clocks of the process and of Redis differ',
    async (t) => {
      const { raw, store, keyOf, usersKey } = await setUp(t)
      for (const [user, now] of Object.entries({ past: Date.UTC(2001, 0), future: Date.UTC(2040, 0) })) {
        const id = idOf(user)
        const record = makeRecord({
          createdAt: now,
          lastAccessed: now,
          expiresAt: now + 60_000,
          userId: user
        })
        const clock = stopClock(now)
        await store.create(id, record)
        t.same(await store.get(id), record, 'the session is live')
        await assertTtl(t, raw, [keyOf(id), usersKey(user)], 60_000)
        await store.update(id, makePatch({ expiresAt: now + 90_000 }))
        await assertTtl(t, raw, [keyOf(id), usersKey(user)], 90_000)
        t.equal((await store.listByUser(user)).length, 1)
        clock.move(90_000)
        t.equal(await store.get(id), undefined)
        clock.restore()
      }
    }
  )

  void t.test('stores with different prefixes do not see each other’s sessions', async (t) => {
    const [one, two] = [await setUp(t), await setUp(t)]
    await one.store.create(ID, makeRecord({ userId: 'ada' }))
    t.equal(await two.store.get(ID), undefined)
    t.strictSame(await two.store.listByUser('ada'), [])
    t.equal(await two.store.destroyByUser('ada'), 0)
    t.not(await one.store.get(ID), undefined)
  })

  void t.test('the default key prefix is "sesame:"', async (t) => {
    const keys: string[] = []
    const { raw } = await setUp(t)
    const store = new RedisStore({ client: intercept(raw, (_, [key]) => keys.push(String(key))) })
    await store.get(ID)
    t.strictSame(keys, [`sesame:{${ID.slice(0, 2)}}:${ID}`])
  })

  void t.test('if the server has flushed its script cache, the store sends the script again', async (t) => {
    const { raw, store } = await setUp(t)
    await store.create(ID, makeRecord())
    await raw.script('FLUSH')
    t.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'ok')
    await raw.script('FLUSH')
    t.equal(await store.destroy(ID), true)
  })
})

async function assertTtl(t: Test, raw: Redis, keys: readonly string[], life: number): Promise<void> {
  for (const key of keys) {
    const ttl = await raw.pttl(key)
    t.ok(ttl > life - 30_000 && ttl <= life, `${key} expires in ${ttl} ms`)
  }
}

void t.test('a session can have many keys', { skip: withoutRedis }, async (t) => {
  const dataOf = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`key ${index}`, `"${index}"`]))
  for (const client of CLIENTS) {
    const setUp = async (t: Test) => {
      const store = await connect({ client, urls: [url], prefix: freshPrefix() })
      t.teardown(() => store.close())
      return store
    }

    void t.test(`with ${client}, a session can have 100,000 keys of any text`, async (t) => {
      const store = await setUp(t)
      const odd = {
        'a\0': '"\\u0000"',
        '\ud800': '"\\ud800"',
        '"\\\n': '"\u2028\u{1f600}"',
        __proto__x: '""'
      }
      const data = { ...dataOf(100_000), ...odd }
      t.equal(await store.create(ID, makeRecord({ data, userId: 'ada\0"' })), true)
      t.match(await store.get(ID), { userId: 'ada\0"' })
      const set = Object.fromEntries(Object.entries(data).map(([key, text]) => [key, `[${text}]`]))
      t.equal(await store.update(ID, makePatch({ set, ifVersion: 1 })), 'ok')
      t.ok(isEqual((await store.get(ID))?.data, set), 'every value has changed')
      const remove = Object.keys(dataOf(100_000))
      t.equal(await store.update(ID, makePatch({ remove, renameTo: NEW_ID })), 'ok')
      t.ok(
        isEqual(
          (await store.get(NEW_ID))?.data,
          Object.fromEntries(Object.keys(odd).map((key) => [key, set[key]]))
        )
      )
    })

    void t.test(`with ${client}, the time of a write grows in proportion to its keys`, async (t) => {
      const store = await setUp(t)
      await store.create(ID, makeRecord())
      const timeOf = async (count: number): Promise<number> => {
        const patch = makePatch({ set: dataOf(count), clear: true })
        let least = Infinity
        for (let round = 0; round < 5; round++) {
          const start = performance.now()
          await store.update(ID, patch)
          least = Math.min(least, performance.now() - start)
        }
        return least
      }
      const few = await timeOf(4000)
      const ratio = (await timeOf(32_000)) / few
      t.ok(ratio < 32, `8 times as many keys take ${ratio.toFixed(1)} times as long`)
    })
  }
})

/** Compares two large objects. tap would take minutes. */
function isEqual(one: object | undefined, other: object): boolean {
  return isDeepStrictEqual({ ...one }, { ...other })
}

void t.test('malformed session records in Redis are treated as absent', { skip: withoutRedis }, async (t) => {
  const malformed: Record<string, (raw: Redis, key: string) => Promise<unknown>> = {
    'a string': (raw, key) => raw.set(key, '{"cookie":{}}'),
    'a list': (raw, key) => raw.rpush(key, 'v'),
    'a hash with other fields': (raw, key) => raw.hset(key, { v: '1', name: 'ada' }),
    'a hash with invalid times': (raw, key) => raw.hset(key, { v: 'x', c: 'y', a: '1', e: 'never' })
  }
  for (const [name, put] of Object.entries(malformed)) {
    void t.test(
      `if the key of a session contains ${name}, the session is reported, treated as absent and not changed`,
      async (t) => {
        const { raw, store, keyOf, usersKey } = await setUp(t)
        const reports = listen(t, 'invalid-record')
        await put(raw, keyOf(ID))
        await raw.zadd(usersKey('ada'), String(Date.now() + 60_000), ID)
        await store.create(OTHER_ID, makeRecord({ userId: 'ada' }))
        const before = await raw.dump(keyOf(ID))
        t.equal(await store.get(ID), undefined)
        t.equal(await store.update(ID, makePatch({ set: { a: '1' }, clear: true })), 'gone')
        t.equal(await store.destroy(ID), false)
        t.same(reports, Array(3).fill({ id: ID, reason: 'shape' }))
        t.strictSame(
          (await store.listByUser('ada')).map(({ id }) => id),
          [OTHER_ID]
        )
        t.equal(await store.create(ID, makeRecord()), false)
        t.equal(await store.update(OTHER_ID, makePatch({ renameTo: ID })), 'conflict')
        t.equal(await store.destroyByUser('ada'), 1)
        t.equal(await raw.dump(keyOf(ID)), before)
      }
    )
  }

  void t.test('an absent session is not reported as malformed', async (t) => {
    const { store } = await setUp(t)
    const reports = listen(t, 'invalid-record')
    await store.get(ID)
    await store.update(ID, makePatch())
    await store.destroy(ID)
    t.strictSame(reports, [])
  })

  void t.test(
    'an unknown field of a session is ignored, and an update with `clear: true` does not remove it',
    async (t) => {
      const { raw, store, keyOf } = await setUp(t)
      await store.create(ID, makeRecord())
      await raw.hset(keyOf(ID), { '': '1', other: '2', __proto__x: '3', ',zz': '4' })
      await store.update(ID, makePatch({ clear: true, set: { a: '1' } }))
      const { data } = (await store.get(ID)) as SessionRecord
      t.strictSame({ ...data }, { a: '1' })
      t.equal(await raw.hget(keyOf(ID), 'other'), '2')
    }
  )

  void t.test('an error other than WRONGTYPE is not treated as an absent session', async (t) => {
    const { raw } = await setUp(t)
    const store = new RedisStore({
      client: intercept(raw, () => {
        throw new Error('BUSY Redis is busy')
      })
    })
    await t.rejects(store.get(ID), { message: 'BUSY Redis is busy' })
    await t.rejects(store.update(ID, makePatch()), { message: 'BUSY Redis is busy' })
  })
})

void t.test('the index of sessions by user is kept up to date', { skip: withoutRedis }, async (t) => {
  void t.test(
    'an index entry whose session is gone is not listed, and the user’s next login removes the entry',
    async (t) => {
      const { raw, store, keyOf, usersKey } = await setUp(t)
      await store.create(ID, makeRecord({ userId: 'ada' }))
      await raw.del(keyOf(ID))
      t.strictSame(await store.listByUser('ada'), [])
      t.equal(await store.destroyByUser('ada'), 0)
      await raw.zadd(usersKey('ada'), String(Date.now() - 60_000), ID)
      await store.create(OTHER_ID, makeRecord({ userId: 'ada' }))
      t.strictSame(await raw.zrange(usersKey('ada'), '0', '-1'), [OTHER_ID])
    }
  )

  void t.test(
    'if the index of a user contains another user’s session, that session is neither listed nor ended',
    async (t) => {
      const { raw, store, usersKey } = await setUp(t)
      await store.create(ID, makeRecord({ userId: 'bob' }))
      await raw.zadd(usersKey('ada'), String(Date.now() + 60_000), ID)
      t.strictSame(await store.listByUser('ada'), [])
      t.equal(await store.destroyByUser('ada'), 0)
      t.not(await store.get(ID), undefined)
    }
  )

  void t.test(
    'a logout, a rotation and a change of user remove the old entry from the user index',
    async (t) => {
      const { raw, store, usersKey } = await setUp(t)
      for (const id of [ID, OTHER_ID]) await store.create(id, makeRecord({ userId: 'ada' }))
      await store.destroy(ID)
      await store.update(OTHER_ID, makePatch({ renameTo: NEW_ID }))
      t.strictSame(await raw.zrange(usersKey('ada'), '0', '-1'), [NEW_ID])
      await store.update(NEW_ID, makePatch({ userId: 'bob' }))
      t.equal(await raw.exists(usersKey('ada')), 0)
      await store.destroyByUser('bob')
      t.equal(await raw.exists(usersKey('bob')), 0)
    }
  )

  void t.test('destroyByUser() also ends a session that is rotated twice during the call', async (t) => {
    const moves: [string, string][] = [
      [ID, NEW_ID],
      [NEW_ID, OTHER_ID]
    ]
    const { raw, store, prefix } = await setUp(t)
    const racing = new RedisStore({
      prefix,
      client: intercept(raw, async (text) => {
        const move = text.includes("'DEL'") ? moves.shift() : undefined
        if (move !== undefined) await store.update(move[0], makePatch({ renameTo: move[1] }))
      })
    })
    await store.create(ID, makeRecord({ userId: 'ada' }))
    t.equal(await racing.destroyByUser('ada'), 1)
    for (const id of [ID, NEW_ID, OTHER_ID]) t.equal(await store.get(id), undefined)
  })

  void t.test('listing or ending 1,000 sessions of a user sends at most 64 commands at a time', async (t) => {
    let inFlight = 0
    let most = 0
    let rounds = 0
    const count = <A extends unknown[]>(call: (...args: A) => Promise<unknown>) => {
      return async (...args: A): Promise<unknown> => {
        if (inFlight++ === 0) rounds++
        most = Math.max(most, inFlight)
        return call(...args).finally(() => inFlight--)
      }
    }
    const { store } = await setUp(t, {
      client: (raw) => ({
        hgetall: count((key: string) => raw.hgetall(key)),
        eval: count((text: string, n: number, ...rest: string[]) => raw.eval(text, n, ...rest)),
        evalsha: (sha, n, ...rest) => count(async () => raw.evalsha(sha, n, ...rest))()
      })
    })
    const ids = Array.from({ length: 1000 }, (_, index) => idOf(`${index}`))
    await Promise.all(ids.map((id) => store.create(id, makeRecord({ userId: 'ada' }))))
    rounds = most = 0
    t.equal((await store.listByUser('ada')).length, 1000)
    t.equal(rounds, 1 + 16, 'one round trip for the index, and one for each 64 sessions')
    t.equal(await store.destroyByUser('ada', ids[0]), 999)
    t.equal(rounds, 17 + 2 + 16, 'also one for the eviction policy')
    t.equal(most, 64)
    t.strictSame(
      (await store.listByUser('ada')).map(({ id }) => id),
      [ids[0]]
    )
  })
})

void t.test('the store supports various Redis client settings', { skip: withoutRedis }, async (t) => {
  const clients = {
    'ioredis with a keyPrefix': async () => new Redis(url, { keyPrefix: freshPrefix() }),
    'ioredis with autopipelining': async () => new Redis(url, { enableAutoPipelining: true }),
    'ioredis with stringNumbers': async () => new Redis(url, { stringNumbers: true }),
    'redis that returns Buffers': async () =>
      createClient({ url, commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } }).connect(),
    'redis that returns Buffers and has no offline queue': async () =>
      createClient({
        url,
        disableOfflineQueue: true,
        commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } }
      }).connect(),
    'redis with RESP2': async () => createClient({ url, RESP: 2 }).connect(),
    'an older redis without type mappings': async () => {
      const client = await createClient({ url }).connect()
      return {
        hGetAll: (key: string) => client.hGetAll(key),
        eval: client.eval.bind(client),
        evalSha: client.evalSha.bind(client),
        destroy: () => client.destroy()
      }
    }
  }
  for (const [name, makeClient] of Object.entries(clients)) {
    void t.test(`the store works with ${name}`, async (t) => {
      const client = await makeClient()
      t.teardown(() => ('destroy' in client ? client.destroy() : client.disconnect()))
      const store = new RedisStore({ client, prefix: freshPrefix() })
      await store.ready()
      const record = makeRecord({ data: { __proto__x: '1', n: '2' }, userId: 'ada' })
      t.equal(await store.create(ID, record), true)
      t.equal(await store.create(ID, record), false)
      t.same(await store.get(ID), record)
      t.equal(await store.update(ID, makePatch({ renameTo: NEW_ID, set: { n: '3' }, ifVersion: 1 })), 'ok')
      t.strictSame(
        (await store.listByUser('ada')).map(({ id, record: { data } }) => [id, data['n']]),
        [[NEW_ID, '3']]
      )
      t.equal(await store.destroyByUser('ada'), 1)
      t.equal(await store.destroy(NEW_ID), false)
    })
  }
})

void t.test('an invalid option causes an error whose message says how to fix it', async (t) => {
  const method = async (): Promise<unknown> => undefined
  const wrong: [name: string, options: object, message: RegExp][] = [
    ['no client', {}, /"client" is undefined; it must be a client: .*createClient\(\{ url \}\)/],
    ['a URL', { client: 'redis://localhost' }, /"client" is a string; it must be a client/],
    ['null', { client: null }, /"client" is null; it must be a client/],
    ['an object', { client: { get: method } }, /"client" has no hgetall, eval, evalsha; .*new Redis\(url\)/],
    [
      'a cluster client without nodes',
      { client: { hgetall: method, eval: method, evalsha: method, slots: [] } },
      /"client" has no nodes;/
    ],
    ['no scripts', { client: { hGetAll: method } }, /"client" has no eval, evalSha;/],
    [
      'a prefix with braces',
      { client: { hgetall: method, eval: method, evalsha: method }, prefix: 'a{b}' },
      /"prefix"/
    ],
    [
      'a prefix that is not a string',
      { client: {}, prefix: 1 },
      /"prefix" is 1, but must be a string without/
    ]
  ]
  for (const [name, options, message] of wrong) {
    t.throws(() => new RedisStore(options as never), { constructor: SessionOptionError, message }, name)
  }
})

void t.test(
  'ready() throws an option error for a problem that retrying cannot fix',
  { skip: withoutServer },
  async (t) => {
    const server = await startRedis(t)

    void t.test('ready() rejects a client that has never been connected', async (t) => {
      const store = new RedisStore({ client: createClient({ url: server.url }) })
      await t.rejects(store.ready(), { code: 'SESSION_OPTION_INVALID', message: /await client\.connect\(\)/ })
    })

    void t.test(
      'ready() rejects a user who is not allowed to run scripts or to access the keys',
      async (t) => {
        await server.command('ACL', 'SETUSER', 'reader', 'on', '>pw', '~*', '+@read', '+info')
        await server.command('ACL', 'SETUSER', 'other', 'on', '>pw', '~other:*', '+@all')
        await server.command('ACL', 'SETUSER', 'typist', 'on', '>pw', '~*', '+@scripting', '+@hash', '+info')
        for (const username of ['reader', 'other', 'typist']) {
          const client = new Redis(server.port, { username, password: 'pw' })
          t.teardown(() => client.disconnect())
          const expected = { code: 'SESSION_OPTION_INVALID', message: /ACL SETUSER/, cause: Error }
          const error = await new RedisStore({ client }).ready().catch((error: unknown) => error)
          t.match(error, expected, username)
          t.notMatch((error as Error).cause, { command: Object }, 'the command is not kept')
        }
      }
    )

    void t.test('ready() rejects a client without the required password', async (t) => {
      const locked = await startRedis(t, '--requirepass', 'secret')
      const client = new Redis(locked.port, { enableReadyCheck: false })
      t.teardown(() => client.disconnect())
      client.on('error', () => undefined)
      await t.rejects(new RedisStore({ client }).ready(), { message: /`username` and `password`/ })
    })

    void t.test('ready() does not report an unreachable server as an option error', async (t) => {
      const client = new Redis(1, { lazyConnect: true, maxRetriesPerRequest: 0 })
      t.teardown(() => client.disconnect())
      client.on('error', () => undefined)
      const error = await new RedisStore({ client }).ready().catch((error: unknown) => error)
      t.not(error instanceof SessionOptionError, true)
      t.ok(error instanceof Error)
    })
  }
)

void t.test(
  'the store does not set a timeout for commands if the client has no offline queue',
  { skip: withoutRedis },
  async (t) => {
    const signals = t.capture(AbortSignal, 'timeout', (milliseconds: number) => {
      t.ok(milliseconds > 0)
      return new AbortController().signal
    })
    for (const disableOfflineQueue of [true, false]) {
      const client = await createClient({ url, disableOfflineQueue }).connect()
      t.teardown(() => client.destroy())
      const store = new RedisStore({ client, prefix: freshPrefix() })
      signals()
      await store.create(ID, makeRecord())
      await store.get(ID)
      t.equal(signals().length > 0, !disableOfflineQueue)
    }
  }
)
