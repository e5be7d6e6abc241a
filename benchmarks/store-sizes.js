// Measures how many bytes a session takes in each store. Each session has two short values and a user. Run it with
// `node benchmarks/store-sizes.js` after `npm run build`.
import { Buffer } from 'node:buffer'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { createClient } from 'redis'
import { MemoryStore } from '../dist/index.js'
import { PostgresStore } from '../dist/stores/postgres/store.js'
import { RedisStore } from '../dist/stores/redis/store.js'
import { SqliteStore } from '../dist/stores/sqlite/store.js'
import { startEngines } from './engines.js'

const SESSIONS = 10_000
const DAY = 86_400_000

const { settings, missing, stop } = await startEngines(['redis', 'postgres'])
try {
  for (const [name, reason] of Object.entries(missing)) throw new Error(`${name}: ${reason}`)
  const measured = {
    MemoryStore: await measureMemory(),
    SqliteStore: await measureSqlite(join(settings.folder, 'sessions.db')),
    RedisStore: await measureRedis(settings.redis),
    PostgresStore: await measurePostgres(settings.postgres)
  }
  console.table(
    Object.fromEntries(Object.entries(measured).map(([name, bytes]) => [name, Math.round(bytes)]))
  )
} finally {
  await stop()
}

async function fill(store) {
  const now = Date.now()
  for (let index = 0; index < SESSIONS; index++) {
    await store.create(idOf(index), {
      version: 1,
      data: { userId: `"user-${index}"`, theme: '"dark"' },
      createdAt: now,
      lastAccessed: now,
      expiresAt: now + DAY,
      userId: `user-${index}`
    })
  }
}

/** Returns 64 hex digits that differ early, as the digits of a hash do. */
function idOf(index) {
  return Buffer.from(String(index).padStart(8, '0'))
    .toString('hex')
    .split('')
    .reverse()
    .join('')
    .padEnd(64, '0')
}

async function measureMemory() {
  const store = new MemoryStore()
  globalThis.gc?.()
  const before = process.memoryUsage().heapUsed
  await fill(store)
  globalThis.gc?.()
  return (process.memoryUsage().heapUsed - before) / store.size
}

async function measureSqlite(file) {
  const store = new SqliteStore(file)
  await fill(store)
  await store.close()
  return statSync(file).size / SESSIONS
}

async function measureRedis(url) {
  const client = await createClient({ url, disableOfflineQueue: true }).connect()
  const used = async () => Number(/used_memory:(\d+)/.exec(await client.info('memory'))[1])
  const before = await used()
  await fill(new RedisStore({ client }))
  const bytes = (await used()) - before
  await client.close()
  return bytes / SESSIONS
}

async function measurePostgres(connectionString) {
  const pool = new pg.Pool({ connectionString })
  const store = new PostgresStore({ pool })
  await store.migrate()
  await fill(store)
  const { rows } = await pool.query("SELECT pg_total_relation_size('sessions') AS size")
  await pool.end()
  return Number(rows[0].size) / SESSIONS
}
