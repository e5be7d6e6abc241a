import { SessionOptionError } from '../../errors.js'
import { readOnlyProblem, type SqliteDatabase } from './database.js'
import { DatabaseFile } from './file.js'

const IN_TRANSACTION =
  'The application has begun a transaction on the database handle of the session store. A rollback would undo this write. Give SqliteStore the path of the file or a handle of its own'

/** Errors that may go away, so the application can start. */
const TRANSIENT = /is locked|is busy|is full|disk I\/O|out of memory|not open|unable to open/

/**
 * A database and the conditions under which the store uses it. Its methods run `work` at once, and throw an error if a
 * condition does not hold.
 */
export class Connection {
  readonly #database: SqliteDatabase
  /** Undefined for a database that the application has opened. */
  readonly #file: DatabaseFile | undefined
  readonly #isInTransaction: () => boolean
  /** True from when a write has waited for a lock in vain, until a write succeeds. */
  #isBlocked = false

  /** @param isOwn true if the store has opened the database itself. */
  constructor(database: SqliteDatabase, isOwn: boolean) {
    this.#database = database
    this.#file = isOwn ? new DatabaseFile(database) : undefined
    this.#isInTransaction = isOwn ? () => false : transactionCheck(database)
  }

  read<T>(work: () => T): T {
    this.#file?.check()
    return work()
  }

  /**
   * Refuses to write inside a transaction of the application. Bounds how long all writes together wait for a lock of
   * another process, because waiting blocks the event loop: when one write has waited in vain, the next ones do not wait
   * until one of them succeeds.
   */
  write<T>(work: () => T): T {
    this.#file?.check()
    if (this.#isInTransaction()) throw new Error(IN_TRANSACTION)
    if (this.#isBlocked) return this.#writeWithoutWaiting(work)
    try {
      return work()
    } catch (error) {
      this.#isBlocked = isLocked(error)
      throw error
    }
  }

  /**
   * Runs `write` in a transaction and rolls it back.
   * @throws {SessionOptionError} if the store can never write, or if two SQLite libraries use the file.
   */
  rehearse(write: () => unknown): void {
    this.#file?.check(true)
    this.checkLibraries()
    try {
      this.write(() => {
        this.#database.exec('BEGIN')
        try {
          write()
        } finally {
          this.#rollback()
        }
      })
    } catch (error) {
      const { message } = error as Error
      if (message === IN_TRANSACTION || TRANSIENT.test(message)) throw error
      throw (
        readOnlyProblem(error) ??
        new SessionOptionError(
          'table',
          `cannot take sessions (${message}); name another table, which the store creates`
        )
      )
    }
  }

  /** Looks the file up again, as every call does about once a second. */
  checkFile(): void {
    this.#file?.check(true)
  }

  /** @throws {SessionOptionError} if two SQLite libraries use the file. */
  checkLibraries(): void {
    if (this.#file?.isInTwoLibraries() === true)
      throw new SessionOptionError(
        'driver',
        'differs from the SQLite library with which this process has opened the same file. When one of the two closes it, the locks of the other are lost, and then sessions. Set `driver` to the library of the application, or pass its open database to SqliteStore'
      )
  }

  close(): void {
    if (this.#file !== undefined) this.#database.close()
  }

  #writeWithoutWaiting<T>(work: () => T): T {
    const { timeout } = this.#database.prepare('PRAGMA busy_timeout').get({}) as { timeout: number | bigint }
    this.#database.exec('PRAGMA busy_timeout = 0')
    try {
      const result = work()
      this.#isBlocked = false
      return result
    } finally {
      this.#database.exec(`PRAGMA busy_timeout = ${timeout}`)
    }
  }

  #rollback(): void {
    try {
      this.#database.exec('ROLLBACK')
    } catch {
      // SQLite has already ended the transaction, as it does after some errors.
    }
  }
}

/**
 * Returns a function that tells whether a transaction is open. better-sqlite3 has `inTransaction` and node:sqlite has
 * `isTransaction`, but only since Node 22.16. Otherwise, SQLite refuses a `BEGIN` inside a transaction.
 */
function transactionCheck(database: SqliteDatabase): () => boolean {
  const known = database as { readonly inTransaction?: unknown; readonly isTransaction?: unknown }
  if (typeof known.inTransaction === 'boolean') return () => known.inTransaction === true
  if (typeof known.isTransaction === 'boolean') return () => known.isTransaction === true
  return () => {
    try {
      database.exec('BEGIN')
    } catch (error) {
      if (/within a transaction/.test((error as Error).message)) return true
      throw error
    }
    database.exec('COMMIT')
    return false
  }
}

function isLocked(error: unknown): boolean {
  return /database is locked/.test((error as Error).message)
}
