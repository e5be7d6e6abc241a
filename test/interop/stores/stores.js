// The stores. `open` gets the engine's URL and a folder. It returns the store and how to close it.
// `needs` and `notes` go into the results: what an application must know, and why a check does not pass.
import { createRequire } from 'node:module'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import expressSession from 'express-session'

const require = createRequire(import.meta.url)

export const stores = {
  memorystore: {
    notes: { 'a failing store gives 503 and keeps the cookie': 'Its memory cannot fail.' },
    open() {
      const store = new (require('memorystore')(expressSession))({ checkPeriod: 60_000 })
      return { store, close: () => store.stopInterval() }
    }
  },

  'connect-redis': {
    engine: 'redis',
    client: 'redis',
    async open({ url }) {
      const [{ RedisStore }, { createClient }] = [await import('connect-redis'), await import('redis')]
      const client = createClient({ url }).on('error', () => {})
      await client.connect()
      return { store: new RedisStore({ client }), close: () => client.destroy() }
    }
  },

  'connect-pg-simple': {
    engine: 'postgres',
    client: 'pg',
    open({ url }) {
      const pool = makePool(url)
      const store = new (require('connect-pg-simple')(expressSession))({ pool, createTableIfMissing: true })
      return { store, close: () => Promise.all([store.close(), pool.end()]) }
    }
  },

  'connect-session-knex': {
    engine: 'postgres',
    client: 'knex',
    open({ url }) {
      const { ConnectSessionKnexStore } = require('connect-session-knex')
      const knex = require('knex')({ client: 'pg', connection: url, log: { warn() {}, error() {} } })
      return { store: new ConnectSessionKnexStore({ knex }), close: () => knex.destroy() }
    }
  },

  'connect-typeorm': {
    engine: 'postgres',
    client: 'typeorm',
    needs:
      'Listen for `unhandledRejection`. If the database fails while a session is removed, the store leaves a rejection ' +
      'unhandled, which ends the process.',
    async open({ url }) {
      const { DataSource, EntitySchema } = require('typeorm')
      const entity = new EntitySchema({
        name: 'Session',
        columns: {
          id: { primary: true, type: 'varchar', length: 255 },
          expiredAt: { type: 'bigint' },
          json: { type: 'text' },
          destroyedAt: { type: 'timestamp', deleteDate: true, nullable: true }
        }
      })
      const source = new DataSource({ type: 'postgres', url, entities: [entity], synchronize: true })
      await source.initialize()
      const { TypeormStore } = require('connect-typeorm')
      const store = new TypeormStore({ cleanupLimit: 2 }).connect(source.getRepository(entity))
      return { store, close: () => source.destroy() }
    }
  },

  'express-mysql-session': {
    engine: 'mariadb',
    needs:
      'Call `await store.onReady()` before you register the plugin. Before that, the table does not exist.',
    async open({ url }) {
      const { hostname: host, port, username: user } = new URL(url)
      const MySQLStore = require('express-mysql-session')(expressSession)
      const store = new MySQLStore({ host, port: Number(port), user, database: 'test' })
      await store.onReady()
      return { store, close: () => store.close() }
    }
  },

  'connect-session-sequelize': {
    engine: 'mariadb',
    client: 'sequelize',
    needs:
      'Pass a model whose `sid` is `STRING(64)`, because the default one is too short. Otherwise registration fails.',
    async open({ url }) {
      const { DataTypes, Sequelize } = require('sequelize')
      const db = new Sequelize(url, { logging: false })
      const model = {
        sid: { type: DataTypes.STRING(64), primaryKey: true },
        expires: DataTypes.DATE,
        data: DataTypes.TEXT
      }
      db.define('Session', model)
      const SequelizeStore = require('connect-session-sequelize')(expressSession.Store)
      const store = new SequelizeStore({ db, table: 'Session' })
      await store.sync()
      return { store, close: () => (store.stopExpiringSessions(), db.close()) }
    }
  },

  'connect-sqlite3': {
    client: 'sqlite3',
    open({ folder }) {
      const sqlite3 = require('sqlite3')
      const db = new sqlite3.Database(join(folder, 'sessions.db'))
      const store = new (require('connect-sqlite3')(expressSession))({ db })
      const close = () => new Promise((resolve) => db.close(resolve))
      return { store, close, breakStore: close }
    }
  },

  'better-sqlite3-session-store': {
    client: 'better-sqlite3',
    notes: {
      'the process ends by itself after closing everything':
        'Its timer keeps the process running, and it has no method that stops the timer. End the process with `process.exit()`.'
    },
    open({ folder }) {
      const client = new (require('better-sqlite3'))(join(folder, 'sessions.db'))
      const store = new (require('better-sqlite3-session-store')(expressSession))({ client })
      return { store, close: () => client.close(), breakStore: () => client.close() }
    }
  },

  'session-file-store': {
    needs:
      'Set `retries: 0`. Otherwise the store looks for a missing file six times, which takes 0.3 s at each new session.',
    open({ folder }) {
      const path = join(folder, 'sessions')
      const FileStore = require('session-file-store')(expressSession)
      const store = new FileStore({ path, retries: 0, logFn: () => {} })
      const breakStore = () => rename(path, `${path}-before`).then(() => writeFile(path, 'not a folder'))
      return { store, close: () => {}, breakStore }
    }
  }
}

function makePool(connectionString) {
  const { Pool } = require('pg')
  return new Pool({ connectionString }).on('error', () => {})
}
