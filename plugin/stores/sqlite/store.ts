import { setImmediate as nextTurn } from 'node:timers/promises'
import { SessionOptionError } from '../../errors.js'
import { ownOptions } from '../../own-options.js'
import { checkOptions, type Rule } from '../../rules.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../../types.js'
import { encode, encodeChange, encodeData } from '../codec.js'
import { parseRow, type SessionRow } from '../record.js'
import { Connection } from './connection.js'
import {
  openWith,
  readOnlyProblem,
  requireDatabase,
  type SqliteDatabase,
  type SqliteValue
} from './database.js'
import { DESTROYED, LISTED, setUp, SWEPT, type Statements } from './sql.js'
import { createPace, listInTurns } from './turns.js'

export type { SqliteDatabase, SqliteDriver, SqliteStatement, SqliteValue } from './database.js'

export interface SqliteStoreOptions {
  /** The name of the table. The store creates a missing table. Default `'sessions'`. */
  readonly table?: string
  /**
   * Used only if the store opens the database. With `'normal'`, no write is lost if the process is killed, but a power
   * failure can lose the last writes. With `'full'`, no write is lost, but each one costs an fsync. Default `'normal'`.
   */
  readonly synchronous?: 'normal' | 'full'
  /**
   * Used only if the store opens the database: how many milliseconds a write waits for a lock of another process. The
   * wait blocks the event loop. When one write has waited in vain, the next ones fail without waiting until one of them
   * succeeds. Default 500.
   */
  readonly busyTimeout?: number
  /**
   * Used only if the store opens the database: the library that opens it. If the application itself opens the same file,
   * name its library, or pass its open database instead of the path: when two SQLite libraries of one process use a
   * file, closing it in one of them removes the locks of the other, and sessions are lost. Default: `better-sqlite3` if
   * it is installed, otherwise `node:sqlite`.
   */
  readonly driver?: 'better-sqlite3' | 'node:sqlite'
}

const ALTERNATIVES = { prefix: 'is unknown; use `table` to keep applications apart' }
/** A patch that sets or removes more than this number of keys is applied with `LARGE_PATCH`. */
const LARGE = 100

type ListedRow = SessionRow & { readonly id: string }

/**
 * Keeps sessions in a SQLite file. The sessions outlive the process, and several processes on one machine can share
 * the file. Every write to a session is one statement. The methods are synchronous, except `cleanup`, and except
 * `listByUser` and `destroyByUser` for a user with many sessions.
 *
 * A write throws inside a transaction that the application has begun on the same database handle, because a rollback
 * would undo it. If the store has opened the file, and the file is deleted or replaced, every call throws within about
 * a second.
 */
export class SqliteStore implements SessionStore {
  readonly #connection: Connection
  readonly #statements: Statements
  #closed = false

  /**
   * @param database a file path, or an open database of `better-sqlite3` or `node:sqlite`. A file is opened in WAL mode,
   * and `close()` closes it. An open database keeps its settings and stays open.
   * @throws {SessionOptionError} if the driver is not available, an option is invalid or unknown, or the table has wrong
   * columns.
   */
  constructor(database: string | SqliteDatabase, options?: SqliteStoreOptions) {
    const { table, ...settings } = resolve(options)
    const isOwn = typeof database === 'string'
    const opened = isOwn ? openWith(database, settings) : requireDatabase(database)
    this.#connection = new Connection(opened, isOwn)
    try {
      this.#statements = this.#connection.write(() => setUp(opened, table))
    } catch (error) {
      this.close()
      const problem = `${table} cannot be used: ${(error as Error).message}`
      throw readOnlyProblem(error) ?? new SessionOptionError('table', problem)
    }
  }

  /**
   * Checks that the store can write, and that only one SQLite library of this process has opened the file. The second
   * check works on Linux, for a file that the store has opened in WAL mode, and `cleanup` repeats it.
   * @throws {SessionOptionError} if a check fails. If the database is only locked or full, throws the driver’s error.
   */
  ready(): void {
    const now = Date.now()
    const values = { id: 'ready', version: 1, data: '{}', createdAt: now, lastAccessed: now, userId: null }
    this.#connection.rehearse(() => this.#statements.create.run({ ...values, expiresAt: now, now }))
  }

  get(id: string): SessionRecord | undefined {
    const row = this.#connection.read(() => this.#statements.get.get({ id, now: Date.now() }))
    return row === undefined ? undefined : parseRow(id, row as SessionRow)
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
    const row = this.#connection.read(() => this.#statements.exists.get({ id, now }))
    return row === undefined ? 'gone' : 'conflict'
  }

  destroy(id: string): boolean {
    return this.#writes('destroy', { id, now: Date.now() })
  }

  /** Reads 50 sessions or more in several turns of the event loop. */
  listByUser(userId: string): StoredSession[] | Promise<StoredSession[]> {
    const user = encode(userId)
    const sessions = this.#list('list', { userId: user, now: Date.now() })
    if (sessions.length < LISTED) return sessions.flatMap(parseListed)
    return listInTurns(
      () => this.#idsOf(user),
      (ids) =>
        this.#list('listIds', { userId: user, now: Date.now(), ids: JSON.stringify(ids) }).flatMap(
          parseListed
        )
    )
  }

  /** Ends 200 sessions or more in several turns of the event loop. If it throws, some of them may have ended. */
  destroyByUser(userId: string, except?: string): number | Promise<number> {
    const values = { userId: encode(userId), except: except ?? null }
    const { removed, live } = this.#destroyBatch(values)
    return removed < DESTROYED ? live : this.#destroyRest(values, live)
  }

  /** Removes expired sessions in batches and yields to the event loop between them. */
  async cleanup(signal?: AbortSignal): Promise<number> {
    this.#connection.checkFile()
    let removed = 0
    for (;;) {
      const changes = this.#run('cleanup', { now: Date.now() })
      removed += changes
      if (changes < SWEPT) break
      await nextTurn()
      if (this.#closed || signal?.aborted === true) return removed
    }
    this.#connection.checkLibraries()
    return removed
  }

  /** Stops a running sweep and closes the database if the store opened it. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#connection.close()
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

  #writes(statement: keyof Statements, values: Values): boolean {
    return this.#run(statement, values) > 0
  }

  /** Returns the number of rows that the statement has changed. */
  #run(statement: keyof Statements, values: Values): number {
    return this.#connection.write(() => Number(this.#statements[statement].run(values).changes))
  }

  #list(statement: 'list' | 'listIds', values: Values): ListedRow[] {
    return this.#connection.read(() => this.#statements[statement].all(values) as ListedRow[])
  }

  #idsOf(userId: string): string[] {
    const row = this.#connection.read(() => this.#statements.idsOfUser.get({ userId }))
    return JSON.parse((row as { ids: string }).ids) as string[]
  }

  #destroyBatch(values: Values): { removed: number; live: number } {
    const rows = this.#connection.write(() =>
      this.#statements.destroyByUser.all({ ...values, now: Date.now() })
    ) as { live: number | bigint }[]
    return { removed: rows.length, live: rows.filter(({ live }) => Number(live) === 1).length }
  }

  async #destroyRest(values: Values, already: number): Promise<number> {
    const pace = createPace()
    let count = already
    for (;;) {
      await pace()
      const { removed, live } = this.#destroyBatch(values)
      count += live
      if (removed < DESTROYED) return count
    }
  }
}

type Values = Record<string, SqliteValue>

function parseListed(row: ListedRow): StoredSession[] {
  const record = parseRow(row.id, row)
  return record === undefined ? [] : [{ id: row.id, record }]
}

type Resolved = Required<Omit<SqliteStoreOptions, 'driver'>> & Pick<SqliteStoreOptions, 'driver'>

const RULES: Readonly<Record<keyof SqliteStoreOptions, Rule>> = {
  table: {
    want: 'a table name without NUL',
    accepts: (value) => typeof value === 'string' && value !== '' && !value.includes('\0')
  },
  synchronous: {
    want: "'normal' or 'full'",
    accepts: (value) => value === 'normal' || value === 'full'
  },
  busyTimeout: {
    want: 'a whole number of milliseconds',
    accepts: (value) => Number.isInteger(value) && (value as number) >= 0
  },
  driver: {
    want: "'better-sqlite3' or 'node:sqlite'",
    accepts: (value) => value === 'better-sqlite3' || value === 'node:sqlite'
  }
}

function resolve(options: SqliteStoreOptions | undefined): Resolved {
  const given = ownOptions(options)
  checkOptions(given, RULES, '', ALTERNATIVES)
  const { table = 'sessions', synchronous = 'normal', busyTimeout = 500, driver } = given
  return { table, synchronous, busyTimeout, ...(driver !== undefined && { driver }) }
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
