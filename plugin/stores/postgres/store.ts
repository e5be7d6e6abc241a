import { SessionOptionError } from '../../errors.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../../types.js'
import { heldUser, fromHeld, recordOf, toHeld, toJson, UNHOLDABLE, type Row } from './data.js'
import { migrationOf, statementsOf, type Statement, type Statements } from './sql.js'

/** What the store needs of a `pg` Pool. */
export interface PostgresPool {
  query(query: PostgresQuery): Promise<{ readonly rows: unknown[] }>
  /** True once the pool was told to end. */
  readonly ending?: boolean
}

export interface PostgresQuery {
  /** The statement is prepared under this name, once a connection; absent: it is not prepared. */
  name?: string
  text: string
  values?: unknown[]
}

export interface PostgresStoreOptions {
  /** A Pool of `pg`, or anything with its `query`. It stays the caller's: the store never ends it. */
  readonly pool: PostgresPool
  /** At most 48 bytes, because its indexes are named after it. Default `'sessions'`. */
  readonly table?: string
  /** A schema that is there. Default: the first of the connection's `search_path`. */
  readonly schema?: string
  /** `false` where a pooler gives each statement another connection and forgets what was prepared. Default `true`. */
  readonly prepare?: boolean
}

/** PostgreSQL cuts longer names off without a word, so that two would be one. */
const LONGEST_NAME = 63
const LONGEST_TABLE = LONGEST_NAME - '_expires_at_idx'.length
/** How many sessions a sweep deletes in one statement: few enough to be done in some tens of milliseconds. */
const SWEEP_BATCH = 1000
/** How often a statement may run that PostgreSQL broke off, unapplied, because another one was in its way. */
const ATTEMPTS = 5
const BROKEN_OFF = new Set(['40001', '40P01'])
const TAKEN = '23505'

/**
 * Sessions in PostgreSQL 14 or newer: for many processes on many machines. One row a session and one statement a call,
 * so that nothing is lost or half done. `data` is jsonb, to be asked by hand: `WHERE data->>'role' = 'admin'`.
 *
 * A value comes back equal, but jsonb has an order of its own for the keys of an object. What jsonb cannot hold, such
 * as a NUL, or a text that is no JSON, is kept as `{"$text": …}`; such a key or user id as `$text:…`.
 *
 * A pool whose idle client loses its connection emits `error`, which ends a process that does not listen to it.
 */
export class PostgresStore implements SessionStore {
  readonly #pool: PostgresPool
  readonly #table: string
  readonly #migration: string
  readonly #prepare: boolean
  readonly #sql: Statements
  #closed = false

  /** @throws {SessionOptionError} for a pool without `query`, and for a name that PostgreSQL cannot hold. */
  constructor({ pool, table = 'sessions', schema, prepare = true }: PostgresStoreOptions) {
    this.#pool = checkedPool(pool)
    const name = quoted('table', table, LONGEST_TABLE)
    this.#table = schema === undefined ? name : `${quoted('schema', schema, LONGEST_NAME)}.${name}`
    this.#migration = migrationOf(this.#table, name)
    this.#prepare = prepare
    this.#sql = statementsOf(this.#table)
  }

  /** Makes the table and its indexes where they are missing. Any number of processes may do it at once. */
  async migrate(): Promise<void> {
    // Several statements in one query are one transaction, and no pool can spread them over its connections.
    await this.#pool.query({ text: this.#migration })
  }

  /**
   * Whether the table can be read.
   * @throws {SessionOptionError} when it is missing or not ours, the pool has ended, or the login is refused.
   */
  async ready(): Promise<void> {
    if (this.#pool.ending === true)
      throw new SessionOptionError('pool', 'was ended: give a pool that is open')
    try {
      await this.get('')
    } catch (error) {
      throw hopeless(error as Error, this.#table) ?? error
    }
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    const [row] = await this.#run<Row>(this.#sql.get, [toHeld(id), Date.now()])
    return row && recordOf(id, row)
  }

  async create(id: string, record: SessionRecord): Promise<boolean> {
    const { version, data, createdAt, lastAccessed, expiresAt, userId } = record
    const values = [toHeld(id), Date.now(), version, toJson(data), createdAt, lastAccessed, expiresAt]
    const rows = await this.#run(this.#sql.create, [...values, heldUser(userId)])
    return rows.length > 0
  }

  async update(id: string, patch: SessionPatch): Promise<UpdateResult> {
    try {
      const [result] = await this.#run<Updated>(this.#sql.update, valuesOf(id, patch))
      if (result?.written === true) return 'ok'
      return result?.found === true ? 'conflict' : 'gone'
    } catch (error) {
      if (codeOf(error) === TAKEN) return 'conflict'
      throw error
    }
  }

  async destroy(id: string): Promise<boolean> {
    const [row] = await this.#run<Ended>(this.#sql.destroy, [toHeld(id), Date.now()])
    return row?.live === true
  }

  async listByUser(userId: string): Promise<StoredSession[]> {
    const rows = await this.#run<Row & { id: string }>(this.#sql.list, [toHeld(userId), Date.now()])
    return rows.flatMap((row) => {
      const id = fromHeld(row.id)
      const record = recordOf(id, row)
      return record === undefined ? [] : [{ id, record }]
    })
  }

  async destroyByUser(userId: string, except?: string): Promise<number> {
    const spared = except === undefined ? null : toHeld(except)
    const rows = await this.#run<Ended>(this.#sql.destroyByUser, [toHeld(userId), Date.now(), spared])
    return rows.filter(({ live }) => live).length
  }

  /** In batches, by one process at a time: another one that is at it leaves nothing to do, and 0 comes back. */
  async cleanup(): Promise<number> {
    let removed = 0
    for (let batch = SWEEP_BATCH; batch === SWEEP_BATCH && !this.#closed; removed += batch) {
      batch = (await this.#run(this.#sql.cleanup, [Date.now(), SWEEP_BATCH])).length
    }
    return removed
  }

  /** Stops a sweep that is under way. The pool is the caller's to end. */
  close(): void {
    this.#closed = true
  }

  async #run<R>(statement: Statement, values: unknown[], attempt = 1): Promise<R[]> {
    const { name, text } = statement
    try {
      return rowsOf<R>(await this.#pool.query(this.#prepare ? { name, text, values } : { text, values }))
    } catch (error) {
      if (attempt === ATTEMPTS || !BROKEN_OFF.has(codeOf(error))) throw error
      return this.#run<R>(statement, values, attempt + 1)
    }
  }
}

function checkedPool(pool: unknown): PostgresPool {
  const { query } = Object(pool) as { query?: unknown }
  if (typeof query === 'function') return pool as PostgresPool
  // Not inspected: it may well be a connection string with its password.
  throw new SessionOptionError('pool', `has no query(), so it is no pool; ${POOL_LINE}`)
}

const POOL_LINE = 'it must be one of pg: `new PostgresStore({ pool: new pg.Pool({ connectionString }) })`'

function rowsOf<R>(answer: unknown): R[] {
  const { rows } = Object(answer) as { rows?: unknown }
  if (Array.isArray(rows)) return rows as R[]
  throw new SessionOptionError('pool', `answers without rows, so it is no pool of PostgreSQL; ${POOL_LINE}`)
}

/** A name that is nothing but a name, whatever is in it. */
function quoted(option: string, name: unknown, longest: number): string {
  const isFine =
    typeof name === 'string' && name !== '' && Buffer.byteLength(name) <= longest && !UNHOLDABLE.test(name)
  if (isFine) return `"${name.replaceAll('"', '""')}"`
  throw SessionOptionError.wrong(option, name, `a name of 1 to ${longest} bytes without NUL`)
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code)
}

/** What no waiting mends, as an error of registration. */
function hopeless(error: Error, table: string): SessionOptionError | undefined {
  if (error instanceof SessionOptionError) return error
  const problem = problemOf(codeOf(error), table)
  if (problem === undefined) return undefined
  const wrong = new SessionOptionError('store', `${problem} (${error.message})`)
  wrong.cause = error
  return wrong
}

function problemOf(code: string, table: string): string | undefined {
  switch (code) {
    case '42P01':
      return `has no table ${table}: run \`await store.migrate()\` once`
    case '42703':
    case '42883':
      return `finds another table at ${table}: choose a name of its own, such as \`table: 'web_sessions'\``
    case '42501':
      return `may not read ${table}: GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO its role`
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
  const {
    set,
    remove,
    clear = false,
    lastAccessed,
    expiresAt,
    createdAt,
    userId,
    renameTo,
    ifVersion
  } = patch
  const data = toJson(set)
  return [
    toHeld(id),
    Date.now(),
    ifVersion ?? null,
    renameTo === undefined ? null : toHeld(renameTo),
    clear,
    remove.map(toHeld),
    data,
    clear || remove.length > 0 || data !== '{}',
    lastAccessed,
    expiresAt,
    createdAt ?? null,
    userId !== undefined,
    heldUser(userId ?? null)
  ]
}
