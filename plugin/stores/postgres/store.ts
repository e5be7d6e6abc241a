import { SessionOptionError } from '../../errors.js'
import { storeOptions } from '../../own-options.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../../types.js'
import { decode, encode, encodeChange, encodeData } from '../codec.js'
import { withoutValues } from '../driver-error.js'
import { parseRow, type SessionRow } from '../record.js'
import { migrationOf, statementsOf, type Statement, type Statements } from './sql.js'

/** The part of a `pg` Pool that the store uses. */
export interface PostgresPool {
  query(query: PostgresQuery): Promise<{ readonly rows: unknown[] }>
  /** True after the pool's `end()` has been called. */
  readonly ending?: boolean
}

export interface PostgresQuery {
  /** The name under which each connection prepares the statement. If it is not set, the statement is not prepared. */
  name?: string
  text: string
  values?: unknown[]
}

export interface PostgresStoreOptions {
  /** A `Pool` from `pg`, or any object with the same `query` method. The store never ends the pool. */
  readonly pool: PostgresPool
  /** The name of the table: at most 48 bytes, because the indexes are named after the table. Default `'sessions'`. */
  readonly table?: string
  /** The name of an existing schema. Default: the first schema in the connection's `search_path`. */
  readonly schema?: string
  /** Set this to `false` if the pool connects to a pooler that does not keep prepared statements. Default `true`. */
  readonly prepare?: boolean
}

const OPTIONS = ['pool', 'table', 'schema', 'prepare'] as const
const POOL_HINT = 'use `new PostgresStore({ pool: new pg.Pool({ connectionString }) })`'
/** What users of connect-pg-simple write. */
const ALTERNATIVES = {
  conString: `is unknown; ${POOL_HINT}`,
  conObject: `is unknown; ${POOL_HINT}`,
  connectionString: `is unknown; ${POOL_HINT}`,
  tableName: 'is unknown; use `table`',
  schemaName: 'is unknown; use `schema`',
  prefix: 'is unknown; use `table` or `schema` to keep applications apart',
  createTableIfMissing: 'is unknown; call `await store.migrate()`',
  ttl: 'is unknown; use `maxAge` of the plugin',
  pruneSessionInterval: 'is unknown; use `cleanupInterval` of the plugin'
}
/** The longest name in bytes. PostgreSQL silently truncates longer names, so two different names could become equal. */
const LONGEST_NAME = 63
const LONGEST_TABLE = LONGEST_NAME - '_expires_at_idx'.length
/** How many sessions a sweep deletes in one statement. Such a statement takes a few tens of milliseconds. */
const SWEEP_BATCH = 1000
/** How many times a statement is tried if PostgreSQL rolls it back because of a concurrent statement. */
const ATTEMPTS = 5
/** The SQLSTATEs of a serialization failure and a deadlock. */
const RETRYABLE = new Set(['40001', '40P01'])
/** The SQLSTATE of a unique violation, which means a duplicate id. */
const DUPLICATE = '23505'

/**
 * Keeps sessions in PostgreSQL 14 or newer, for any number of processes and machines. Each session is one row, and each
 * call is one atomic statement. The column `data` is a jsonb object that holds each value as JSON text, so that a value
 * is read exactly as it was written. To query a value, cast its text: `WHERE (data->>'role')::jsonb = '"admin"'`. A
 * key, value or user id that PostgreSQL cannot store, such as one with a NUL, is stored as `\x01` followed by its JSON.
 *
 * If an idle connection is lost, the pool emits `error`. If nothing listens for this event, the process ends.
 */
export class PostgresStore implements SessionStore {
  readonly #pool: PostgresPool
  readonly #table: string
  readonly #migration: string
  readonly #prepare: boolean
  readonly #sql: Statements

  /** @throws {SessionOptionError} if the pool has no `query`, a name is invalid, or an option is unknown. */
  constructor(options: PostgresStoreOptions) {
    if (hasQuery(options)) throw new SessionOptionError('pool', `is missing; ${POOL_HINT}`)
    const { pool, table = 'sessions', schema, prepare = true } = storeOptions(options, OPTIONS, ALTERNATIVES)
    this.#pool = checkedPool(pool)
    const name = quoted('table', table, LONGEST_TABLE)
    this.#table = schema === undefined ? name : `${quoted('schema', schema, LONGEST_NAME)}.${name}`
    this.#migration = migrationOf(this.#table, name)
    this.#prepare = prepare
    this.#sql = statementsOf(this.#table)
  }

  /** Creates the table and its indexes if they are missing. Several processes can call this at the same time. */
  async migrate(): Promise<void> {
    // Several statements in one query run in one transaction, on one connection.
    await this.#pool.query({ text: this.#migration })
  }

  /**
   * Checks that the store can read its table.
   * @throws {SessionOptionError} if the table is missing or has wrong columns, the pool has ended, or the login fails.
   */
  async ready(): Promise<void> {
    if (this.#pool.ending === true) throw new SessionOptionError('pool', 'was ended: pass an open pool')
    try {
      await this.get('')
    } catch (error) {
      throw fatalError(error as Error, this.#table) ?? error
    }
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    const [row] = await this.#run<SessionRow>(this.#sql.get, [encode(id), Date.now()])
    return row && parseRow(id, row)
  }

  async create(id: string, record: SessionRecord): Promise<boolean> {
    const { version, data, createdAt, lastAccessed, expiresAt, userId } = record
    const values = [encode(id), Date.now(), version, encodeData(data), createdAt, lastAccessed, expiresAt]
    const rows = await this.#run(this.#sql.create, [...values, userId && encode(userId)])
    return rows.length > 0
  }

  async update(id: string, patch: SessionPatch): Promise<UpdateResult> {
    try {
      const [result] = await this.#run<Updated>(this.#sql.update, valuesOf(id, patch))
      if (result?.written === true) return 'ok'
      return result?.found === true ? 'conflict' : 'gone'
    } catch (error) {
      if (codeOf(error) === DUPLICATE) return 'conflict'
      throw error
    }
  }

  async destroy(id: string): Promise<boolean> {
    const [row] = await this.#run<Ended>(this.#sql.destroy, [encode(id), Date.now()])
    return row?.live === true
  }

  async listByUser(userId: string): Promise<StoredSession[]> {
    const rows = await this.#run<SessionRow & { id: string }>(this.#sql.list, [encode(userId), Date.now()])
    return rows.flatMap((row) => {
      const id = decode(row.id)
      const record = parseRow(id, row)
      return record === undefined ? [] : [{ id, record }]
    })
  }

  async destroyByUser(userId: string, except?: string): Promise<number> {
    const spared = except === undefined ? null : encode(except)
    const rows = await this.#run<Ended>(this.#sql.destroyByUser, [encode(userId), Date.now(), spared])
    return rows.filter(({ live }) => live).length
  }

  /** Removes expired sessions in batches. Returns 0 if another process is already removing them. */
  async cleanup(signal?: AbortSignal): Promise<number> {
    let removed = 0
    for (let batch = SWEEP_BATCH; batch === SWEEP_BATCH && signal?.aborted !== true; removed += batch) {
      batch = (await this.#run(this.#sql.cleanup, [Date.now(), SWEEP_BATCH])).length
    }
    return removed
  }

  async #run<R>(statement: Statement, values: unknown[], attempt = 1): Promise<R[]> {
    const { name, text } = statement
    try {
      return rowsOf<R>(await this.#pool.query(this.#prepare ? { name, text, values } : { text, values }))
    } catch (error) {
      if (attempt === ATTEMPTS || !RETRYABLE.has(codeOf(error))) throw error
      return this.#run<R>(statement, values, attempt + 1)
    }
  }
}

function checkedPool(pool: unknown): PostgresPool {
  if (hasQuery(pool)) return pool as PostgresPool
  // Do not quote the value in the message, because it may be a connection string with a password.
  throw new SessionOptionError('pool', `has no query(), so it is not a pool; ${POOL_HINT}`)
}

function hasQuery(pool: unknown): boolean {
  const { query } = Object(pool) as { query?: unknown }
  return typeof query === 'function'
}

function rowsOf<R>(answer: unknown): R[] {
  const { rows } = Object(answer) as { rows?: unknown }
  if (Array.isArray(rows)) return rows as R[]
  throw new SessionOptionError(
    'pool',
    `returned no rows, so it does not look like a pool of pg; ${POOL_HINT}`
  )
}

function quoted(option: string, name: unknown, longest: number): string {
  const isValid =
    typeof name === 'string' && name !== '' && Buffer.byteLength(name) <= longest && encode(name) === name
  if (isValid) return `"${name.replaceAll('"', '""')}"`
  throw SessionOptionError.wrong(option, name, `a name of 1 to ${longest} bytes without NUL`)
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code)
}

/** Returns a `SessionOptionError` for an error that retrying cannot fix, or `undefined` for any other error. */
function fatalError(error: Error, table: string): SessionOptionError | undefined {
  if (error instanceof SessionOptionError) return error
  const problem = problemOf(codeOf(error), table)
  if (problem === undefined) return undefined
  const wrong = new SessionOptionError('store', `${problem} (${error.message})`)
  wrong.cause = withoutValues(error)
  return wrong
}

function problemOf(code: string, table: string): string | undefined {
  switch (code) {
    case '42P01':
      return `has no table ${table}: run \`await store.migrate()\` once`
    case '42703':
    case '42883':
      return `finds another table at ${table}: choose another name, such as \`table: 'web_sessions'\``
    case '42501':
      return `has no permission for ${table}: GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO its role`
    case '28000':
    case '28P01':
    case '3D000':
      return 'cannot log in to PostgreSQL: correct the user, password or database of the pool'
    default:
      return undefined
  }
}

interface Updated {
  readonly found: boolean
  readonly written: boolean
}

interface Ended {
  readonly live: boolean
}

function valuesOf(id: string, patch: SessionPatch): unknown[] {
  const { clear = false, lastAccessed, expiresAt, createdAt, userId, renameTo, ifVersion } = patch
  return [
    encode(id),
    Date.now(),
    ifVersion ?? null,
    renameTo === undefined ? null : encode(renameTo),
    clear,
    encodeChange(patch),
    lastAccessed,
    expiresAt,
    createdAt ?? null,
    userId !== undefined,
    userId && encode(userId)
  ]
}
