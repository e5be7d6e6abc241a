import { readFileSync, statSync } from 'node:fs'
import type { SqliteDatabase } from './database.js'

/** How often the file is looked up at most, in milliseconds. */
const INTERVAL = 1000

/**
 * The file of a database that the store has opened. If the file is deleted or replaced, the database still works, but
 * no other process and no later one sees its sessions.
 */
export class DatabaseFile {
  readonly #path: string
  readonly #identity: string | undefined
  #checkedAt = Date.now()
  #isLost = false

  /** @param database an open database. A database in memory has no file, and the checks pass. */
  constructor(database: SqliteDatabase) {
    const [main] = database.prepare('PRAGMA database_list').all({}) as [{ file: string }]
    this.#path = main.file
    this.#identity = this.#path === '' ? undefined : identityOf(this.#path)
  }

  /**
   * Looks the file up, but at most once a second unless `always` is true.
   * @throws {Error} if the file has been deleted or replaced, now or at an earlier check.
   */
  check(always = false): void {
    if (this.#identity === undefined) return
    const now = Date.now()
    if (!this.#isLost && (always || Math.abs(now - this.#checkedAt) >= INTERVAL)) {
      this.#isLost = identityOf(this.#path) !== this.#identity
      this.#checkedAt = now
    }
    if (this.#isLost)
      throw new Error(
        `The database file of the session store, ${this.#path}, was deleted or replaced: restart the process to use the file that is there now`
      )
  }

  /**
   * Returns true if two SQLite libraries of this process have the database in use. Each of them maps the beginning of the
   * file `-shm` once, no matter how many connections it has. Only Linux can tell; elsewhere the answer is `false`.
   */
  isInTwoLibraries(maps = '/proc/self/maps'): boolean {
    if (this.#identity === undefined) return false
    return (
      linesOf(maps).filter((line) => /^\S+ \S+ 0+ /.test(line) && line.endsWith(` ${this.#path}-shm`))
        .length > 1
    )
  }
}

/** Returns the device and the inode of a file, or `''` if there is no such file. */
function identityOf(path: string): string {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false })
  return found === undefined ? '' : `${found.dev}:${found.ino}`
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n')
  } catch {
    return []
  }
}
