import { createRequire } from 'node:module'
import { location } from '#location'
import { SessionOptionError } from '../../errors.js'

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

/** The pause between two attempts to use a locked database, in milliseconds. */
const BUSY_PAUSE = 5

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

export interface OpenSettings {
  readonly synchronous: string
  readonly busyTimeout: number
  readonly driver?: string | undefined
}

/** @internal Opens the database file at a path with the given driver, or else with the first available driver. */
export function openWith(
  path: string,
  settings: OpenSettings,
  drivers = driversOf(createRequire(location), (name) => process.getBuiltinModule(name))
): SqliteDatabase {
  const database = loadFirst(drivers, settings.driver)(path)
  try {
    database.exec(`PRAGMA busy_timeout = ${settings.busyTimeout}`)
    retryWhileLocked(() => database.exec('PRAGMA journal_mode = WAL'), settings.busyTimeout)
    database.exec(`PRAGMA synchronous = ${settings.synchronous}`)
  } catch (error) {
    database.close()
    throw readOnlyProblem(error) ?? error
  }
  return database
}

/** Returns an error that says what to do if the failed statement could not write to a read-only database. */
export function readOnlyProblem(error: unknown): SessionOptionError | undefined {
  const { message } = error as Error
  if (!/readonly/.test(message)) return undefined
  return new SessionOptionError(
    'store',
    `is a SqliteStore that cannot write (${message}): open the database for reading and writing, and give this process write access to the file and its folder`
  )
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

function loadFirst(
  drivers: Readonly<Record<string, SqliteDriver>>,
  wanted: string | undefined
): ReturnType<SqliteDriver> {
  const reasons: string[] = []
  for (const [name, load] of Object.entries(drivers)) {
    if (wanted !== undefined && name !== wanted) continue
    try {
      return load()
    } catch (error) {
      reasons.push(`${name}: ${(error as Error).message.split('\n', 1).join('')}`)
    }
  }
  const [option, problem] =
    wanted === undefined
      ? ['store', 'is a SqliteStore, but there is no SQLite']
      : ['driver', `is '${wanted}', which cannot be loaded`]
  const advice = 'npm install better-sqlite3, or use Node 22.13 or later'
  throw new SessionOptionError(option, `${problem} (${reasons.join('; ')}): ${advice}`)
}

/** @throws {SessionOptionError} if `database` is not an open database. */
export function requireDatabase(database: SqliteDatabase): SqliteDatabase {
  const given = database as { prepare?: unknown; exec?: unknown } | null | undefined
  if (typeof given?.prepare === 'function' && typeof given.exec === 'function') return database
  // Do not quote the value in the message, because it may contain a password.
  throw new SessionOptionError(
    'database',
    'has no prepare() and exec(); it must be a path, or an open database of better-sqlite3 or node:sqlite'
  )
}
