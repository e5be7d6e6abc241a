import { copyFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { SqliteStore, type SqliteDatabase } from '../../plugin/stores/sqlite/store.js'
import { driversOf, openWith } from '../../plugin/stores/sqlite/database.js'
import { DatabaseFile } from '../../plugin/stores/sqlite/file.js'
import { idOf, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { stopClock } from '../fixtures/clock.js'
import { makeFolder, open, problemOf, workingDriver } from '../fixtures/sqlite.js'

const LOST =
  /database file of the session store, .*sessions\.db, was deleted or replaced: restart the process/
const TWO_LIBRARIES = { code: 'SESSION_OPTION_INVALID', message: /"driver" differs from the SQLite library/ }
/** On Windows, an open file cannot be deleted. */
const skip = process.platform === 'win32' && 'an open file cannot be deleted'

void t.test(
  'if the database file was deleted, the sweep notices it and every later call fails',
  { skip },
  async (t) => {
    const { store, path } = makeStore(t)
    store.create(idOf('a'), makeRecord({ userId: 'ada' }))
    rmSync(path)
    await t.rejects(store.cleanup(), LOST)
    t.throws(() => store.get(idOf('a')), LOST)
    t.throws(() => store.create(idOf('b'), makeRecord()), LOST)
    t.throws(() => store.update(idOf('a'), makePatch()), LOST)
    t.throws(() => store.destroy(idOf('a')), LOST)
    t.throws(() => store.listByUser('ada'), LOST)
    t.throws(() => store.destroyByUser('ada'), LOST)
    t.throws(() => store.ready(), LOST)
  }
)

void t.test(
  'if the database file was replaced, ready() notices it and every later call fails',
  { skip },
  async (t) => {
    const { store, path } = makeStore(t)
    const other = makeStore(t)
    store.ready()
    other.store.close()
    renameSync(other.path, path)
    t.throws(() => store.ready(), LOST)
    t.throws(() => store.get(idOf('a')), LOST)
    // The file is not used again, even if the old one is back.
    await t.rejects(store.cleanup(), LOST)
  }
)

void t.test(
  'without a sweep, a call notices within a second that the file was deleted',
  { skip },
  async (t) => {
    const clock = stopClock(t)
    const { store, path } = makeStore(t)
    rmSync(path)
    clock.move(999)
    t.equal(store.get(idOf('a')), undefined)
    clock.move(1)
    t.throws(() => store.get(idOf('a')), LOST)
  }
)

void t.test('a database in memory and an open database have no file that is checked', { skip }, async (t) => {
  for (const name of [':memory:', '']) {
    const store = new SqliteStore(name)
    t.teardown(() => store.close())
    store.ready()
    t.equal(await store.cleanup(), 0)
  }
  const { path, remove } = makeFolder()
  t.teardown(remove)
  const database = open(path, workingDriver())
  t.teardown(() => database.close())
  const store = new SqliteStore(database)
  rmSync(path)
  t.equal(await store.cleanup(), 0)
})

const linux = process.platform !== 'linux' && 'works only on Linux'

void t.test(
  'ready() and the sweep notice that another SQLite library of the process uses the same file',
  { skip: linux || (problemOf('better-sqlite3') ?? false) },
  async (t) => {
    const { store, path } = makeStore(t, { driver: 'better-sqlite3' })
    const second = openWithOther(path)
    second.exec('SELECT count(*) FROM sessions')
    t.throws(() => store.ready(), TWO_LIBRARIES)
    store.create(idOf('a'), makeRecord({ expiresAt: Date.now() - 1 }))
    await t.rejects(store.cleanup(), TWO_LIBRARIES)
    second.close()
    t.equal(await store.cleanup(), 0, 'the sweep had removed the expired session')
    store.ready()
  }
)

void t.test('an application may open the same file with the same library', async (t) => {
  const { store, path } = makeStore(t)
  for (let count = 0; count < 3; count++) {
    const database = open(path, workingDriver())
    t.teardown(() => database.close())
    database.exec('SELECT count(*) FROM sessions')
  }
  new SqliteStore(path).close()
  store.ready()
  t.equal(await store.cleanup(), 0)
})

void t.test('two libraries are recognized by two mappings of the beginning of the -shm file', async (t) => {
  const { path, remove } = makeFolder()
  t.teardown(remove)
  const database = open(path, workingDriver())
  t.teardown(() => database.close())
  const file = new DatabaseFile(database)
  const maps = join(dirname(path), 'maps')
  const isInTwo = (lines: readonly string[]) => {
    writeFileSync(maps, [...lines, ''].join('\n'))
    return file.isInTwoLibraries(maps)
  }
  const first = `7f0000000000-7f0000008000 rw-s 00000000 08:01 12                    ${path}-shm`
  const next = `7f0000010000-7f0000018000 rw-s 00008000 08:01 12                    ${path}-shm`
  const other = `7f0000020000-7f0000028000 rw-s 00000000 08:01 13                    ${path}2-shm`
  t.equal(isInTwo([first, next, next, other]), false)
  t.equal(isInTwo([first, next, other, first, next]), true)
  t.equal(file.isInTwoLibraries(join(dirname(path), 'no such file')), false)
})

void t.test('`driver` chooses the library that opens the file', async (t) => {
  const opened: string[] = []
  const databaseOf = (driver: string) =>
    class {
      constructor(path: string) {
        if (path !== ':memory:') opened.push(driver)
      }
      exec(): void {
        // The test only checks which library opens the file.
      }
      close(): void {
        // The test does not check close().
      }
    }
  const drivers = driversOf(databaseOf, (name) => ({ DatabaseSync: databaseOf(name) }))
  const settings = { synchronous: 'normal', busyTimeout: 1 }
  for (const driver of [undefined, 'better-sqlite3', 'node:sqlite']) {
    openWith('a.db', { ...settings, driver }, drivers)
  }
  t.same(opened, ['better-sqlite3', 'better-sqlite3', 'node:sqlite'])
  const without = driversOf(databaseOf, () => undefined)
  t.throws(() => openWith('a.db', { ...settings, driver: 'node:sqlite' }, without), {
    code: 'SESSION_OPTION_INVALID',
    message: `fastify-sesame: option "driver" is 'node:sqlite', which cannot be loaded (node:sqlite: not in Node ${process.version}): npm install better-sqlite3, or use Node 22.13 or later`
  })
})

function makeStore(t: Test, options?: { driver: 'better-sqlite3' }): { store: SqliteStore; path: string } {
  const { path, remove } = makeFolder()
  const store = new SqliteStore(path, options)
  t.teardown(() => {
    store.close()
    remove()
  })
  return { store, path }
}

/** Opens a file with node:sqlite or, if Node does not have it, with a copy of better-sqlite3’s binary. */
function openWithOther(path: string): SqliteDatabase {
  return problemOf('node:sqlite') === undefined ? open(path, 'node:sqlite') : openWithCopy(path)
}

/** The process loads the copy as another library. */
function openWithCopy(path: string): SqliteDatabase {
  const require = createRequire(import.meta.url)
  const Database = require('better-sqlite3') as new (path: string, options: object) => SqliteDatabase
  const nativeBinding = join(dirname(path), 'copy.node')
  copyFileSync(require.resolve('better-sqlite3/build/Release/better_sqlite3.node'), nativeBinding)
  return new Database(path, { nativeBinding })
}
