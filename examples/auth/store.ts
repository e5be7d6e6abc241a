import type { SessionStore } from 'fastify-sesame'

export interface OpenStore {
  /** The session store. It is absent if sessions are kept in memory. */
  readonly store?: SessionStore
  /** Closes the connections to the database. Call this function after the application has been closed. */
  readonly close: () => Promise<unknown>
}

/**
 * Opens the store that the environment variable `STORE` names. A database driver is loaded only if the store needs it.
 */
export async function openStore(name: string): Promise<OpenStore> {
  if (name === 'memory') return { close: async () => undefined }
  if (/^sqlite:./.test(name)) return openSqlite(name.slice('sqlite:'.length))
  if (/^postgres(ql)?:\/\//.test(name)) return openPostgres(name)
  if (/^rediss?:\/\//.test(name)) return openRedis(name)
  throw new Error(`STORE is "${name}", but must be memory, sqlite:FILE, postgres://… or redis://…`)
}

async function openSqlite(file: string): Promise<OpenStore> {
  const { SqliteStore } = await import('fastify-sesame/stores/sqlite')
  const store = new SqliteStore(file)
  return { store, close: async () => store.close() }
}

async function openPostgres(connectionString: string): Promise<OpenStore> {
  const { PostgresStore } = await import('fastify-sesame/stores/postgres')
  const { default: pg } = await import('pg')
  const pool = new pg.Pool({ connectionString, connectionTimeoutMillis: 2000 })
  pool.on('error', (error) => console.error(error.message))
  const store = new PostgresStore({ pool })
  await store.migrate()
  return { store, close: () => pool.end() }
}

async function openRedis(url: string): Promise<OpenStore> {
  const { RedisStore } = await import('fastify-sesame/stores/redis')
  const { createClient } = await import('redis')
  const client = createClient({ url, disableOfflineQueue: true, socket: { reconnectStrategy: () => 50 } })
  client.on('error', (error: Error) => console.error(error.message))
  await client.connect()
  return { store: new RedisStore({ client }), close: () => client.close() }
}
