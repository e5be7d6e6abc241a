import t, { type Test } from 'tap'
import { SessionOptionError } from '../../plugin/errors.js'
import {
  SqliteStore,
  type SqliteDatabase,
  type SqliteStoreOptions
} from '../../plugin/stores/sqlite/store.js'
import { openWith } from '../../plugin/stores/sqlite/database.js'
import { idOf, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import { makeFolder, open, problemOf, workingDriver } from '../fixtures/sqlite.js'

const IN_TRANSACTION = /The application has begun a transaction on the database handle of the session store/
const LOCKED = /database is locked/
const READ_ONLY =
  /option "store" is a SqliteStore that cannot write \(.*readonly.*\): open the database for reading and writing/

/** The ways in which a database tells that a transaction is open. */
const HANDLES: Readonly<Record<string, (database: SqliteDatabase) => SqliteDatabase>> = {
  'a database of better-sqlite3 or node:sqlite': (database) => database,
  'a database that has only `isTransaction`': (database) => {
    let isTransaction = false
    return Object.defineProperty(
      bare(database, (sql) => (isTransaction = sql.startsWith('BEGIN'))),
      'isTransaction',
      {
        get: () => isTransaction
      }
    )
  },
  'a database that does not tell whether a transaction is open': (database) => bare(database)
}

for (const [name, wrap] of Object.entries(HANDLES)) {
  void t.test(`with ${name}, the store refuses to write in a transaction of the application`, async (t) => {
    const database = wrap(openFile(t).database)
    const store = new SqliteStore(database)
    store.create(idOf('a'), makeRecord({ userId: 'ada' }))
    for (const [begin, end] of [
      ['BEGIN', 'ROLLBACK'],
      ['BEGIN IMMEDIATE', 'COMMIT']
    ] as const) {
      database.exec(begin)
      t.throws(() => store.destroy(idOf('a')), IN_TRANSACTION)
      t.throws(() => store.destroyByUser('ada'), IN_TRANSACTION)
      t.throws(() => store.create(idOf('b'), makeRecord()), IN_TRANSACTION)
      t.throws(() => store.update(idOf('a'), makePatch()), IN_TRANSACTION)
      await t.rejects(store.cleanup(), IN_TRANSACTION)
      t.throws(() => store.ready(), IN_TRANSACTION)
      t.throws(() => new SqliteStore(database, { table: 'other' }), {
        code: 'SESSION_OPTION_INVALID',
        message: IN_TRANSACTION
      })
      t.ok(store.get(idOf('a')))
      database.exec(end)
    }
    t.equal(store.destroy(idOf('a')), true)
    t.equal(store.get(idOf('a')), undefined)
  })
}

void t.test('an error of the database while the store asks for a transaction is thrown', async (t) => {
  const { database } = openFile(t)
  let isBroken = false
  const store = new SqliteStore(
    bare(database, () => {
      if (isBroken) throw new Error('disk I/O error')
    })
  )
  isBroken = true
  t.throws(() => store.destroy(idOf('a')), /disk I\/O error/)
})

void t.test(
  'a logout in a transaction of the application is answered with 503, not with a success',
  async (t) => {
    const { database } = openFile(t)
    const app = addRoutes(await makeApp(t, { store: new SqliteStore(database) }))
    const browser = new Browser(app)
    await browser.get('/set?name=ada')
    const { cookie } = browser
    const request = (url: string) => app.inject({ url, headers: { cookie } })
    database.exec('BEGIN')
    t.equal((await request('/logout')).statusCode, 503)
    database.exec('ROLLBACK')
    t.equal((await request('/read')).body, '{"name":"ada"}')
    t.equal((await request('/logout')).statusCode, 200)
    t.equal((await request('/read')).body, '{"name":null}')
  }
)

for (const own of [true, false]) {
  void t.test(
    `writes that fail one after the other wait only once for a lock (${own ? 'a path' : 'an open database'})`,
    async (t) => {
      const { store, path, timeouts } = makeWaiting(t, own)
      const blocker = open(path, workingDriver())
      t.teardown(() => blocker.close())
      store.create(idOf('a'), makeRecord())
      const destroy = () => store.destroy(idOf('a'))
      for (let round = 0; round < 2; round++) {
        blocker.exec('BEGIN IMMEDIATE')
        const first = timeOf(() => t.throws(destroy, LOCKED))
        const others = timeOf(() => {
          for (let count = 0; count < 20; count++)
            t.throws(() => store.update(idOf('a'), makePatch()), LOCKED)
        })
        t.ok(others < 5 * first, `one write took ${first} ms, and 20 more took ${others} ms`)
        t.ok(store.get(idOf('a')), 'reads go on')
        blocker.exec('COMMIT')
        // The first write after the lock succeeds, and the next write waits again.
        t.equal(store.update(idOf('a'), makePatch()), 'ok')
      }
      t.same(timeouts(), [own ? undefined : 200])
      t.equal(destroy(), true)
    }
  )
}

void t.test('after a lock, only a success makes the writes wait again', async (t) => {
  const { store, path } = makeWaiting(t, true)
  const blocker = open(path, workingDriver())
  t.teardown(() => blocker.close())
  blocker.exec('BEGIN IMMEDIATE')
  const fail = () => timeOf(() => t.throws(() => store.create(idOf('a'), makeRecord()), LOCKED))
  const [first, second] = [fail(), fail()]
  blocker.exec('COMMIT')
  store.create(idOf('a'), makeRecord())
  blocker.exec('BEGIN IMMEDIATE')
  const third = fail()
  t.ok(second < first / 2 && second < third / 2, `${first}, ${second} and ${third} ms`)
})

for (const driver of ['better-sqlite3', 'node:sqlite']) {
  void t.test(
    `ready() refuses a read-only database of ${driver}`,
    { skip: problemOf(driver) ?? false },
    async (t) => {
      const { database } = openFile(t, driver)
      const store = new SqliteStore(database)
      store.ready()
      database.exec('PRAGMA query_only = 1')
      t.throws(() => store.ready(), {
        code: 'SESSION_OPTION_INVALID',
        message: READ_ONLY
      })
      await t.rejects(makeApp(t, { store }), SessionOptionError)
    }
  )
}

void t.test(
  'the constructor says what to do if it cannot write to the database or to the file',
  async (t) => {
    const { database } = openFile(t)
    database.exec('PRAGMA query_only = 1')
    t.throws(() => new SqliteStore(database), { message: READ_ONLY, option: 'store' })
    let isClosed = false
    const file = bare(database, (sql) => {
      if (sql.includes('journal_mode')) throw new Error('attempt to write a readonly database')
    })
    const opened = { ...file, close: () => (isClosed = true) }
    const settings = { synchronous: 'normal', busyTimeout: 0 }
    t.throws(() => openWith('a.db', settings, { fake: () => () => opened }), { message: READ_ONLY })
    t.ok(isClosed)
  }
)

void t.test('ready() refuses a table that takes no sessions', async (t) => {
  const { database } = openFile(t)
  const store = new SqliteStore(database)
  for (const change of [
    "CREATE TRIGGER refuse BEFORE INSERT ON sessions BEGIN SELECT raise(ABORT, 'no rows here'); END",
    // This trigger ends the transaction itself.
    "DROP TRIGGER refuse; CREATE TRIGGER refuse BEFORE INSERT ON sessions BEGIN SELECT raise(ROLLBACK, 'no rows here'); END"
  ]) {
    database.exec(change)
    t.throws(() => store.ready(), {
      code: 'SESSION_OPTION_INVALID',
      message: /"table" cannot take sessions \(no rows here\); name another table, which the store creates/
    })
  }
})

void t.test(
  'ready() writes nothing, and it only fails as any write does if the database is locked',
  async (t) => {
    const { store, path } = makeWaiting(t, true)
    const other = open(path, workingDriver())
    t.teardown(() => other.close())
    store.ready()
    t.same(other.prepare('SELECT id FROM sessions').all({}), [])
    other.exec('BEGIN IMMEDIATE')
    t.throws(() => store.ready(), { message: LOCKED, code: /^(SQLITE_BUSY|ERR_SQLITE_ERROR)$/ })
    other.exec('COMMIT')
    store.ready()
    t.equal(store.create(idOf('a'), makeRecord()), true)
  }
)

function openFile(t: Test, driver = workingDriver()): { database: SqliteDatabase; path: string } {
  const { path, remove } = makeFolder()
  const database = open(path, driver)
  t.teardown(() => {
    database.close()
    remove()
  })
  return { database, path }
}

/** Returns a database with no other methods. `onExec` is called before each `exec`. */
function bare(database: SqliteDatabase, onExec: (sql: string) => unknown = () => undefined): SqliteDatabase {
  return {
    prepare: (sql) => database.prepare(sql),
    close: () => database.close(),
    exec: (sql) => {
      onExec(sql)
      return database.exec(sql)
    }
  }
}

/** Returns a store whose writes wait 200 ms for a lock. `timeouts` returns the busy timeout of an open database. */
function makeWaiting(t: Test, own: boolean, options: SqliteStoreOptions = { busyTimeout: 200 }) {
  const { database, path } = openFile(t)
  database.exec('PRAGMA busy_timeout = 200')
  const store = new SqliteStore(own ? path : database, options)
  t.teardown(() => store.close())
  const timeouts = () => {
    const { timeout } = database.prepare('PRAGMA busy_timeout').get({}) as { timeout: number }
    return [own ? undefined : timeout]
  }
  return { store, path, timeouts }
}

function timeOf(work: () => unknown): number {
  const start = performance.now()
  work()
  return performance.now() - start
}
