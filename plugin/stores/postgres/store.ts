import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import { SessionOptionError } from '../../errors.js'
import { storeOptions } from '../../own-options.js'
import type {
  Awaitable,
  SessionPatch,
  SessionRecord,
  SessionStore,
  StoredSession,
  UpdateResult
} from '../../types.js'
import { decode, encode, encodeChange, encodeData } from '../codec.js'
import { parseRow, type SessionRow } from '../record.js'
import { fatalError, warningsOf, type State } from './problems.js'
import {
  codeOf,
  createQueries,
  DUPLICATE,
  POOL_HINT,
  SLOW_QUERY_TIMEOUT,
  type PostgresPool,
  type Queries
} from './queries.js'
import { COMPLETE, definitionOf, migrationOf, SCHEMA, STATE, statementsOf, type Statements } from './sql.js'

export type { PostgresPool, PostgresQuery } from './queries.js'

export interface PostgresStoreOptions {
  /**
   * A `Pool` from `pg`, or any object with the same `query` method. The store never ends the pool. A query fails after
   * 1,500 milliseconds, or after the pool's `query_timeout`. A write fails if its connection is in a transaction of the
   * application, because a rollback would undo the write.
   */
  readonly pool: PostgresPool
  /** The name of the table: at most 48 bytes, because the indexes are named after the table. Default `'sessions'`. */
  readonly table?: string
  /**
   * The name of an existing schema. Default: the first schema in the `search_path` that has the table. The first call
   * finds this schema, and a later change of the `search_path` does not matter.
   */
  readonly schema?: string
  /** Set this to `false` if the pool connects to a pooler that does not keep prepared statements. Default `true`. */
  readonly prepare?: boolean
}

const OPTIONS = ['pool', 'table', 'schema', 'prepare'] as const
/** The errors for options of connect-pg-simple. */
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
/** How long a sweep pauses after a batch, as a multiple of the time that the batch took. */
const SWEEP_PAUSE = 9

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
  readonly #queries: Queries
  readonly #name: string
  readonly #schema: string | undefined
  /** The name of the table, with its schema if that is known. */
  #table: string
  /** The statements for the table, or `undefined` if the next call has to find the schema first. */
  #sql: Statements | undefined

  /** @throws {SessionOptionError} if the pool has no `query`, a name is invalid, or an option is unknown. */
  constructor(options: PostgresStoreOptions) {
    if (hasQuery(options)) throw new SessionOptionError('pool', `is missing; ${POOL_HINT}`)
    const { pool, table = 'sessions', schema, prepare = true } = storeOptions(options, OPTIONS, ALTERNATIVES)
    this.#pool = checkedPool(pool)
    this.#queries = createQueries(this.#pool, prepare)
    this.#name = quotedTable(table)
    this.#schema = schema === undefined ? undefined : quotedSchema(schema)
    this.#table = this.#schema === undefined ? this.#name : `${this.#schema}.${this.#name}`
    // Only a pool has several connections, whose search_path may differ. Its schema is found at the first call.
    if (schema !== undefined || pool.idleCount === undefined) this.#sql = statementsOf(this.#table)
  }

  /**
   * Returns the SQL statements that create the table and its indexes, for a migration tool of your own. They change
   * nothing that exists already. Without `schema`, they name no schema.
   * @throws {SessionOptionError} if a name is invalid or an option is unknown.
   */
  static sql(options: Pick<PostgresStoreOptions, 'table' | 'schema'> = {}): string {
    const { table = 'sessions', schema } = storeOptions(options, ['table', 'schema'], ALTERNATIVES)
    const name = quotedTable(table)
    return definitionOf(schema === undefined ? name : `${quotedSchema(schema)}.${name}`, name)
  }

  /**
   * Creates the table and its indexes if they are missing. Several processes can call this at the same time. If nothing
   * is missing, the role does not need the permission to create anything.
   */
  async migrate(): Promise<void> {
    await this.#findSchema()
    const [check] = await this.#queries.read<{ isComplete: boolean }>(COMPLETE, [this.#table])
    if (check?.isComplete === true) return
    await this.#queries.migrate(migrationOf(this.#table, this.#name))
    await this.#findSchema()
  }

  /**
   * Checks that the store can use its table. Returns a warning if the connection is read-only for now, or if the clock
   * of this process differs from PostgreSQL's by more than 5 seconds.
   * @throws {SessionOptionError} if the table is missing or has wrong columns, the role may not read or write it, the
   * pool has ended, or the login fails.
   */
  async ready(): Promise<string[]> {
    if (this.#pool.ending === true) throw new SessionOptionError('pool', 'was ended: pass an open pool')
    try {
      await this.#findSchema()
      await this.get('')
      const asked = Date.now()
      const [state] = await this.#queries.read<State>(STATE, [this.#table])
      return state === undefined ? [] : warningsOf(state, this.#table, asked, Date.now())
    } catch (error) {
      throw fatalError(error as Error, this.#table) ?? error
    }
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    const sql = await this.#statements()
    const [row] = await this.#queries.read<SessionRow>(sql.get, [encode(id), Date.now()])
    return row && parseRow(id, row)
  }

  async create(id: string, record: SessionRecord): Promise<boolean> {
    const { version, data, createdAt, lastAccessed, expiresAt, userId } = record
    const sql = await this.#statements()
    const values = [encode(id), Date.now(), version, encodeData(data), createdAt, lastAccessed, expiresAt]
    const rows = await this.#queries.write(sql.create, [...values, userId && encode(userId)])
    return rows.length > 0
  }

  async update(id: string, patch: SessionPatch): Promise<UpdateResult> {
    const sql = await this.#statements()
    try {
      const [result] = await this.#queries.write<Updated>(sql.update, valuesOf(id, patch))
      if (result?.written === true) return 'ok'
      return result?.found === true ? 'conflict' : 'gone'
    } catch (error) {
      if (codeOf(error) === DUPLICATE) return 'conflict'
      throw error
    }
  }

  async destroy(id: string): Promise<boolean> {
    const sql = await this.#statements()
    const [row] = await this.#queries.write<{ live: boolean }>(sql.destroy, [encode(id), Date.now()])
    return row?.live === true
  }

  /** Parses thousands of sessions in steps, so that other requests can run between them. */
  async listByUser(userId: string): Promise<StoredSession[]> {
    const sql = await this.#statements()
    const parts = await this.#queries.read<{ rows: string }>(sql.list, [encode(userId), Date.now()])
    const sessions: StoredSession[] = []
    for (const [index, { rows }] of parts.entries()) {
      if (index > 0) await nextTurn()
      sessions.push(...sessionsIn(rows))
    }
    return sessions
  }

  async destroyByUser(userId: string, except?: string): Promise<number> {
    const spared = except === undefined ? null : encode(except)
    const sql = await this.#statements()
    const values = [encode(userId), Date.now(), spared]
    return countIn(await this.#queries.write<Counted>(sql.destroyByUser, values))
  }

  /**
   * Removes the sessions that have expired by the clock of PostgreSQL. Works in batches and pauses after each of them,
   * so that requests stay fast. Returns 0 if another process is already removing them.
   */
  async cleanup(signal?: AbortSignal): Promise<number> {
    const sql = await this.#statements()
    let removed = 0
    while (signal?.aborted !== true) {
      const start = performance.now()
      const count = countIn(
        await this.#queries.write<Counted>(sql.cleanup, [SWEEP_BATCH], SLOW_QUERY_TIMEOUT)
      )
      removed += count
      if (count < SWEEP_BATCH) break
      const pause = (performance.now() - start) * SWEEP_PAUSE
      await delay(pause, undefined, signal && { signal }).catch(() => undefined)
    }
    return removed
  }

  #statements(): Awaitable<Statements> {
    return this.#sql ?? this.#findSchema()
  }

  /**
   * Finds the schema of the table, so that each statement can name it. Otherwise, a `SET search_path` on one connection
   * would send the statements of that connection to another table. Until the table exists, each call looks again.
   */
  async #findSchema(): Promise<Statements> {
    if (this.#schema !== undefined && this.#sql !== undefined) return this.#sql
    this.#sql = undefined
    const [row] = await this.#queries.read<Schemas>(SCHEMA, [this.#name])
    const schema = row?.found ?? row?.current
    if (schema != null) this.#table = `${inQuotes(schema)}.${this.#name}`
    const sql = statementsOf(this.#table)
    if (row?.found != null) this.#sql = sql
    return sql
  }
}

/** The schema that has the table, and the schema in which the table would be created. Either may not exist. */
interface Schemas {
  readonly found: string | null
  readonly current: string | null
}

/** A row of the statement `list`. */
type ListedRow = readonly [
  id: string,
  version: number,
  data: string,
  createdAt: number,
  lastAccessed: number,
  expiresAt: number,
  userId: string
]

function sessionsIn(json: string): StoredSession[] {
  return (JSON.parse(json) as ListedRow[]).flatMap(
    ([name, version, data, createdAt, lastAccessed, expiresAt, userId]) => {
      const id = decode(name)
      const record = parseRow(id, { version, data, createdAt, lastAccessed, expiresAt, userId })
      return record === undefined ? [] : [{ id, record }]
    }
  )
}

interface Updated {
  readonly found: boolean
  readonly written: boolean
}

interface Counted {
  readonly count: number
}

function countIn([row]: Counted[]): number {
  return row?.count ?? 0
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

/** PostgreSQL allows a dot in a name, but a dot in a table's name almost always separates the schema from the table. */
function quotedTable(table: string): string {
  const name = quoted('table', table, LONGEST_TABLE)
  const [schema, ...rest] = table.split('.')
  if (rest.length === 0) return name
  const [given, first, second] = [table, schema, rest.join('.')].map((text) => inspect(text))
  throw new SessionOptionError(
    'table',
    `is ${given}, but must have no dot; for a table in another schema, use \`schema: ${first}, table: ${second}\``
  )
}

function quotedSchema(schema: string): string {
  return quoted('schema', schema, LONGEST_NAME)
}

function quoted(option: string, name: unknown, longest: number): string {
  const isValid =
    typeof name === 'string' && name !== '' && Buffer.byteLength(name) <= longest && encode(name) === name
  if (isValid) return inQuotes(name)
  throw SessionOptionError.wrong(option, name, `a name of 1 to ${longest} bytes without NUL`)
}

function inQuotes(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
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
