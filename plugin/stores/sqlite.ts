import { createRequire } from 'node:module'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { SessionOptionError } from '../errors.js'
import { storeOptions } from '../own-options.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../types.js'
import { encode, encodeChange, encodeData } from './codec.js'
import { parseRow, type SessionRow } from './record.js'

export interface SqliteStoreOptions {
  /** The name of the table. The store creates a missing table. Default `'sessions'`. */
  readonly table?: string
  /**
   * Used only if the store opens the database. With `'normal'`, no write is lost if the process is killed, but a power
   * failure can lose the last writes. With `'full'`, no write is lost, but each one costs an fsync. Default `'normal'`.
   */
  readonly synchronous?: 'normal' | 'full'
  /**
   * Used only if the store opens the database: how many milliseconds it waits for a write by another process. The wait
   * blocks the event loop. Default 2,000.
   */
  readonly busyTimeout?: number
}

/** A database from `better-sqlite3`, or a `DatabaseSync` of `node:sqlite`. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): SqliteStatement
  close(): unknown
}

export interface SqliteStatement {
  run(values: Record<string, SqliteValue>): { changes: number | bigint }
  get(values: Record<string, SqliteValue>): unknown
  all(values: Record<string, SqliteValue>): unknown[]
}

export type SqliteValue = string | number | null

type Statements = Record<keyof ReturnType<typeof sqlFor>, SqliteStatement>

const OPTIONS = ['table', 'synchronous', 'busyTimeout'] as const
const ALTERNATIVES = { prefix: 'is unknown; use `table` to keep applications apart' }
/** A patch that sets or removes more than this number of keys is applied with `LARGE_PATCH`. */
const LARGE = 100
/** Does the same as json_patch(), in linear instead of quadratic time, but is slower for a small patch. */
const LARGE_PATCH = `(SELECT json_group_object(key, value) FROM (
  SELECT key, value FROM json_each(data) WHERE key NOT IN (SELECT key FROM json_each(:patch))
  UNION ALL SELECT key, value FROM json_each(:patch) WHERE value IS NOT NULL))`

/** The pause between two attempts to use a locked database, in milliseconds. */
const BUSY_PAUSE = 5
/** How many expired sessions a sweep deletes at once, which blocks other writers for a few milliseconds. */
const SWEEP_BATCH = 500

/**
 * Keeps sessions in a SQLite file. The sessions outlive the process, and several processes on one machine can share
 * the file. Every write is one statement, and every method except `cleanup` is synchronous.
 */
export class SqliteStore implements SessionStore {
  readonly #database: SqliteDatabase
  readonly #statements: Statements
  readonly #ownsDatabase: boolean
  #closed = false

  /**
   * @param database a file path, or an open database of `better-sqlite3` or `node:sqlite`. A file is opened in WAL mode
   * with the first available driver, and `close()` closes it. An open database keeps its settings and stays open.
   * @throws {SessionOptionError} if neither driver is available, an option is invalid or unknown, or the table has wrong
   * columns.
   */
  constructor(database: string | SqliteDatabase, options?: SqliteStoreOptions) {
    const { table, ...settings } = resolve(options)
    this.#ownsDatabase = typeof database === 'string'
    this.#database = typeof database === 'string' ? openWith(database, settings) : requireDatabase(database)
    try {
      this.#statements = setUp(this.#database, table)
    } catch (error) {
      this.close()
      throw new SessionOptionError('table', `${table} cannot be used: ${(error as Error).message}`)
    }
  }

  get(id: string): SessionRecord | undefined {
    const row = this.#statements.get.get({ id, now: Date.now() }) as SessionRow | undefined
    return row && parseRow(id, row)
  }

  create(id: string, record: SessionRecord): boolean {
    const { version, data, createdAt, lastAccessed, expiresAt, userId } = record
    return this.#writes('create', {
      id,
      version,
      data: encodeData(data),
      createdAt,
      lastAccessed,
      expiresAt,
      userId: userId && encode(userId),
      now: Date.now()
    })
  }

  update(id: string, patch: SessionPatch): UpdateResult {
    const now = Date.now()
    if (this.#write(id, patch, now)) return 'ok'
    if (patch.ifVersion === undefined && patch.renameTo === undefined) return 'gone'
    return this.#statements.exists.get({ id, now }) === undefined ? 'gone' : 'conflict'
  }

  destroy(id: string): boolean {
    return this.#writes('destroy', { id, now: Date.now() })
  }

  listByUser(userId: string): StoredSession[] {
    const rows = this.#statements.list.all({ userId: encode(userId), now: Date.now() }) as (SessionRow & {
      id: string
    })[]
    return rows.flatMap((row) => {
      const record = parseRow(row.id, row)
      return record === undefined ? [] : [{ id: row.id, record }]
    })
  }

  destroyByUser(userId: string, except?: string): number {
    const values = { userId: encode(userId), except: except ?? null, now: Date.now() }
    return Number(this.#statements.destroyByUser.run(values).changes)
  }

  /** Removes expired sessions in batches and yields to the event loop between them. */
  async cleanup(signal?: AbortSignal): Promise<number> {
    let removed = 0
    for (;;) {
      const { changes } = this.#statements.cleanup.run({ now: Date.now(), batch: SWEEP_BATCH })
      removed += Number(changes)
      if (changes < SWEEP_BATCH) return removed
      await nextTurn()
      if (this.#closed || signal?.aborted === true) return removed
    }
  }

  /** Stops a running sweep and closes the database if the store opened it. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#ownsDatabase) this.#database.close()
  }

  #write(id: string, patch: SessionPatch, now: number): boolean {
    const { lastAccessed, expiresAt, createdAt, userId, renameTo } = patch
    const values = {
      id,
      now,
      ...changeOf(patch),
      lastAccessed,
      expiresAt,
      ifVersion: patch.ifVersion ?? null
    }
    if (createdAt === undefined && userId === undefined && renameTo === undefined) {
      return this.#writes('write', values)
    }
    return this.#writes('move', {
      ...values,
      createdAt: createdAt ?? null,
      setsUser: userId === undefined ? 0 : 1,
      userId: (userId && encode(userId)) ?? null,
      renameTo: renameTo ?? id
    })
  }

  #writes(statement: keyof Statements, values: Record<string, SqliteValue>): boolean {
    return Number(this.#statements[statement].run(values).changes) > 0
  }
}

/** Loads a driver. Returns a function that opens the database file at a path. Throws if the driver is not available. */
export type SqliteDriver = () => (path: string) => SqliteDatabase

type DatabaseClass = new (path: string) => SqliteDatabase

/**
 * @internal Returns the drivers by name, in order of preference: an installed package comes before Node's own module.
 * `load` is `require`, and `builtin` is `process.getBuiltinModule`.
 */
export function driversOf(
  load: (name: string) => unknown,
  builtin: (name: string) => unknown
): Readonly<Record<string, SqliteDriver>> {
  return {
    'better-sqlite3': () => {
      const Database = load('better-sqlite3') as DatabaseClass
      // Opening a database loads the native binary. That throws if the binary was built for another version of Node.
      new Database(':memory:').close()
      return (path) => new Database(path)
    },
    'node:sqlite': () => {
      const sqlite = builtin('node:sqlite') as { DatabaseSync: DatabaseClass } | undefined
      if (sqlite === undefined) throw new Error(`not in Node ${process.version}`)
      return (path) => new sqlite.DatabaseSync(path)
    }
  }
}

/** @internal Opens the database file at a path with the first available driver. */
export function openWith(
  path: string,
  settings: { readonly synchronous: string; readonly busyTimeout: number },
  drivers = driversOf(requireFrom(import.meta.url), (name) => process.getBuiltinModule(name))
): SqliteDatabase {
  const database = loadFirst(drivers)(path)
  database.exec(`PRAGMA busy_timeout = ${settings.busyTimeout}`)
  retryWhileLocked(() => database.exec('PRAGMA journal_mode = WAL'), settings.busyTimeout)
  database.exec(`PRAGMA synchronous = ${settings.synchronous}`)
  return database
}

/** Returns `require`. `import.meta.url` is undefined in a CommonJS bundle, where `__filename` exists instead. */
function requireFrom(file: string = __filename): NodeJS.Require {
  return createRequire(file)
}

/** Retries `work`, because SQLite does not apply its own busy timeout when the journal mode is changed. */
function retryWhileLocked(work: () => unknown, busyTimeout: number): void {
  const until = performance.now() + busyTimeout
  for (;;) {
    try {
      work()
      return
    } catch (error) {
      if (!/locked|busy/.test((error as Error).message) || performance.now() >= until) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BUSY_PAUSE)
    }
  }
}

function loadFirst(drivers: Readonly<Record<string, SqliteDriver>>): ReturnType<SqliteDriver> {
  const reasons: string[] = []
  for (const [name, load] of Object.entries(drivers)) {
    try {
      return load()
    } catch (error) {
      reasons.push(`${name}: ${(error as Error).message.split('\n', 1).join('')}`)
    }
  }
  throw new SessionOptionError(
    'store',
    `is a SqliteStore, but there is no SQLite (${reasons.join('; ')}): npm install better-sqlite3, or use Node 22.13 or later`
  )
}

function resolve(options: SqliteStoreOptions | undefined): Required<SqliteStoreOptions> {
  const {
    table = 'sessions',
    synchronous = 'normal',
    busyTimeout = 2000
  } = storeOptions(options, OPTIONS, ALTERNATIVES)
  if (typeof table !== 'string' || table === '' || table.includes('\0')) {
    throw SessionOptionError.wrong('table', table, 'a table name without NUL')
  }
  if (!['normal', 'full'].includes(synchronous)) {
    throw SessionOptionError.wrong('synchronous', synchronous, "'normal' or 'full'")
  }
  if (!Number.isInteger(busyTimeout) || busyTimeout < 0) {
    throw SessionOptionError.wrong('busyTimeout', busyTimeout, 'a whole number of milliseconds')
  }
  return { table, synchronous, busyTimeout }
}

function requireDatabase(database: SqliteDatabase): SqliteDatabase {
  const given = database as { prepare?: unknown; exec?: unknown } | null | undefined
  if (typeof given?.prepare === 'function' && typeof given.exec === 'function') return database
  // Do not quote the value in the message, because it may contain a password.
  throw new SessionOptionError(
    'database',
    'has no prepare() and exec(); it must be a path, or an open database of better-sqlite3 or node:sqlite'
  )
}

function setUp(database: SqliteDatabase, table: string): Statements {
  // In a table without a rowid, a lookup by id searches one B-tree instead of two.
  database.exec(`CREATE TABLE IF NOT EXISTS ${quoted(table)} (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, data TEXT NOT NULL, created_at INTEGER NOT NULL,
    last_accessed INTEGER NOT NULL, expires_at INTEGER NOT NULL, user_id TEXT) WITHOUT ROWID`)
  database.exec(`CREATE INDEX IF NOT EXISTS ${quoted(`${table}_expiry`)} ON ${quoted(table)} (expires_at)`)
  database.exec(`CREATE INDEX IF NOT EXISTS ${quoted(`${table}_user`)} ON ${quoted(table)} (user_id)
    WHERE user_id IS NOT NULL`)
  const statements = Object.entries(sqlFor(quoted(table))).map(([name, sql]) => [name, database.prepare(sql)])
  return Object.fromEntries(statements) as Statements
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/**
 * The column `data` is a JSON object whose values are strings. A JSON merge patch can therefore express every change: a
 * string sets a key, and null removes a key. The statement `write` changes no indexed column except the expiry.
 */
function sqlFor(table: string) {
  const live = `FROM ${table} WHERE expires_at > :now AND`
  const row =
    'version, data, created_at AS createdAt, last_accessed AS lastAccessed, expires_at AS expiresAt, user_id AS userId'
  const change = `version = version + (:patch IS NOT NULL),
    data = CASE WHEN :patch IS NULL THEN data WHEN :clear THEN :patch WHEN :large THEN ${LARGE_PATCH}
      ELSE json_patch(data, :patch) END,
    last_accessed = :lastAccessed, expires_at = :expiresAt`
  const where = 'id = :id AND expires_at > :now AND (:ifVersion IS NULL OR version = :ifVersion)'
  return {
    get: `SELECT ${row} ${live} id = :id`,
    exists: `SELECT 1 ${live} id = :id`,
    create: `INSERT INTO ${table} (id, version, data, created_at, last_accessed, expires_at, user_id)
      VALUES (:id, :version, :data, :createdAt, :lastAccessed, :expiresAt, :userId)
      ON CONFLICT (id) DO UPDATE SET version = excluded.version, data = excluded.data,
        created_at = excluded.created_at, last_accessed = excluded.last_accessed,
        expires_at = excluded.expires_at, user_id = excluded.user_id
      WHERE ${table}.expires_at <= :now`,
    write: `UPDATE ${table} SET ${change} WHERE ${where}`,
    // If the record at the new id has expired, it is replaced. If it is live, nothing is written.
    move: `UPDATE OR REPLACE ${table} SET ${change}, id = :renameTo,
      created_at = coalesce(:createdAt, created_at),
      user_id = CASE WHEN :setsUser THEN :userId ELSE user_id END
      WHERE ${where} AND (:renameTo = :id OR NOT EXISTS (SELECT 1 ${live} id = :renameTo))`,
    destroy: `DELETE ${live} id = :id`,
    list: `SELECT id, ${row} ${live} user_id = :userId`,
    destroyByUser: `DELETE ${live} user_id = :userId AND id IS NOT :except`,
    cleanup: `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE expires_at <= :now LIMIT :batch)`
  }
}

interface Change {
  /** A JSON merge patch, or `null` if the data does not change. */
  readonly patch: string | null
  readonly clear: 0 | 1
  readonly large: 0 | 1
}

function changeOf(patch: SessionPatch): Change {
  const { set, remove, clear } = patch
  const isLarge = remove.length > LARGE || Object.keys(set).length > LARGE
  return { patch: encodeChange(patch), clear: clear === true ? 1 : 0, large: isLarge ? 1 : 0 }
}
