import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { SessionOptionError } from '../../plugin/errors.js'
import { SqliteStore, type SqliteDatabase } from '../../plugin/stores/sqlite/store.js'
import { driversOf, openWith } from '../../plugin/stores/sqlite/database.js'
import { testStore } from '../../plugin/testing/index.js'
import { createProcesses } from '../../plugin/testing/processes.js'
import { idOf, makePatch, makeRecord } from '../../plugin/testing/records.js'
import { listen } from '../fixtures/diagnostics.js'
import { assertNoLeaks } from '../fixtures/leaks.js'
import { makeFolder, makeSqlite, open, problemOf, workingDriver } from '../fixtures/sqlite.js'

const SETTINGS = { synchronous: 'normal', busyTimeout: 2000 }

for (const [name, driver] of [
  ['SQLite with a path', undefined],
  ['SQLite with better-sqlite3', 'better-sqlite3'],
  ['SQLite with node:sqlite', 'node:sqlite']
] as const) {
  const problem = driver && problemOf(driver)
  void t.test(`${name} passes the store contract tests`, { skip: problem ?? false }, async (t) => {
    // Starting processes is slow, so the cases with two processes run only once for each driver.
    const unsupported = driver === undefined ? { 'two processes': 'run with an open database' } : {}
    const { run, skipped } = testStore(name, makeSqlite(driver), t.test, { unsupported })
    t.comment(`${name}: ${run.length} cases, ${skipped.length} skipped`)
  })
}

void t.test('F10: errors of SQLite show no value of a session', async (t) => {
  const database = open(':memory:', workingDriver())
  const store = new SqliteStore(database)
  const fail = () => database.exec('DROP TABLE sessions')
  for (const error of await assertNoLeaks(t, store, fail)) t.match(error.message, /no such table/)
})

void t.test('no finished write is lost if the process is killed with SIGKILL', async (t) => {
  const path = tempPath(t)
  const counter = new SqliteStore(path)
  counter.create(idOf('counter'), makeRecord({ data: { n: '0' } }))
  const program = fileURLToPath(new URL('../fixtures/sqlite-killed.ts', import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, program, path])
  let output = ''
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (text: string) => {
    output += text
    if (output.length > 2000) child.kill('SIGKILL')
  })
  await once(child, 'close')
  t.equal(child.signalCode, 'SIGKILL')
  counter.close()

  const count = Number(output.slice(0, output.lastIndexOf('\n')).split('\n').at(-1))
  const store = new SqliteStore(path)
  t.teardown(() => store.close())
  t.ok(count > 300, `${count} writes were finished`)
  t.ok(Number(store.get(idOf('counter'))?.data['n']) >= count, 'the last update is kept')
  for (let index = 1; index <= count; index++) {
    if (store.get(idOf(`${index}`)) === undefined) t.fail(`session ${index} is lost`)
  }
})

void t.test(
  'sessions still exist after the store has been closed and the file has been opened again',
  async (t) => {
    const path = tempPath(t)
    const before = new SqliteStore(path)
    before.create(idOf('a'), makeRecord({ userId: 'ada' }))
    before.close()
    const after = new SqliteStore(path)
    t.teardown(() => after.close())
    t.equal(after.get(idOf('a'))?.userId, 'ada')
  }
)

void t.test('two processes can create the table of a new file at the same time', async (t) => {
  const module = new URL('../fixtures/sqlite.ts', import.meta.url)
  const processes = createProcesses()
  t.teardown(() => processes.end())
  for (let round = 0; round < 10; round++) {
    const { path, remove } = makeFolder()
    const [one, two] = await processes.connect({ module, argument: { path } })
    await one([['create', idOf('a'), makeRecord()]])
    await two([['destroy', idOf('a')]])
    await processes.disconnect()
    remove()
  }
})

void t.test('the store waits for a locked file for at most busyTimeout', async (t) => {
  let failures = 0
  const openLocked = (message: string, times: number, busyTimeout: number) => {
    failures = 0
    const database = {
      exec: (sql: string) => {
        if (sql.includes('journal_mode') && failures++ < times) throw new Error(message)
      },
      prepare: () => t.fail('openWith() prepares no statement') as never,
      close: () => undefined
    }
    return openWith('a.db', { synchronous: 'normal', busyTimeout }, { fake: () => () => database })
  }
  openLocked('database is locked', 3, 2000)
  t.equal(failures, 4)
  t.throws(() => openLocked('database is locked', Infinity, 20), /locked/)
  t.ok(failures > 1)
  t.throws(() => openLocked('file is not a database', Infinity, 2000), /not a database/)
  t.equal(failures, 1)
})

void t.test('the store opens the database file in WAL mode with the given synchronous setting', async (t) => {
  const levels = { normal: 1, full: 2 }
  for (const synchronous of ['normal', 'full'] as const) {
    const database = openWith(tempPath(t), { synchronous, busyTimeout: 1234 })
    t.teardown(() => database.close())
    t.match(database.prepare('PRAGMA journal_mode').get({}), { journal_mode: 'wal' })
    t.match(database.prepare('PRAGMA synchronous').get({}), { synchronous: levels[synchronous] })
    t.match(database.prepare('PRAGMA busy_timeout').get({}), { timeout: 1234 })
  }
})

void t.test('close() does not close a database that the caller opened', async (t) => {
  const database = makeDatabase(t)
  const store = new SqliteStore(database)
  store.close()
  t.same({ ...(database.prepare('SELECT 1 AS one').get({}) as object) }, { one: 1 })
})

void t.test('close() closes a database that the store opened', async (t) => {
  const store = new SqliteStore(tempPath(t))
  store.close()
  t.throws(() => store.get(idOf('a')))
})

void t.test('every statement finds its rows with an index', async (t) => {
  const database = makeDatabase(t)
  const prepared: string[] = []
  new SqliteStore({
    exec: (sql) => database.exec(sql),
    close: () => undefined,
    prepare: (sql) => {
      prepared.push(sql)
      return database.prepare(sql)
    }
  })
  for (const sql of prepared) {
    const names = new Set(sql.match(/:\w+/g)?.map((name) => name.slice(1)))
    const values = Object.fromEntries([...names].map((name) => [name, null]))
    const plan = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(values) as { detail: string }[]
    t.notOk(
      plan.some(({ detail }) => /^SCAN (?!json_each|\(subquery)/.test(detail)),
      `${sql}\n${JSON.stringify(plan)}`
    )
  }
})

void t.test('the store quotes any table name', async (t) => {
  const database = makeDatabase(t)
  new SqliteStore(database).create(idOf('a'), makeRecord())
  for (const table of ['Sessions of "us"', "x'; DROP TABLE sessions; --", 'select', 'a.b', '会话']) {
    const store = new SqliteStore(database, { table })
    t.equal(store.get(idOf('a')), undefined, table)
    t.equal(store.create(idOf('a'), makeRecord({ data: { table } })), true)
    t.equal(new SqliteStore(database, { table }).get(idOf('a'))?.data['table'], table)
  }
  t.ok(new SqliteStore(database).get(idOf('a')))
})

void t.test('an invalid option causes an error that names the option', async (t) => {
  for (const [options, message] of [
    [{ table: '' }, /"table" is ''/],
    [{ table: 'a\0b' }, /"table" is/],
    [{ table: 3 }, /"table" is 3/],
    [{ synchronous: 'off' }, /"synchronous" is 'off'/],
    [{ busyTimeout: -1 }, /"busyTimeout" is -1/],
    [{ busyTimeout: 1.5 }, /"busyTimeout" is 1.5/],
    [{ driver: 'sqlite3' }, /"driver" is 'sqlite3', but must be 'better-sqlite3' or 'node:sqlite'/]
  ] as const) {
    t.throws(() => new SqliteStore(':memory:', options as object), {
      message,
      code: 'SESSION_OPTION_INVALID'
    })
  }
  for (const wrong of [undefined, null, 3, {}, { password: 'hunter2' }, { prepare: () => undefined }]) {
    t.throws(() => new SqliteStore(wrong as unknown as string), {
      message:
        /"database" has no prepare\(\) and exec\(\); it must be a path, or .* of better-sqlite3 or node:sqlite$/
    })
  }
})

void t.test('the constructor throws the driver’s error if the database file cannot be opened', async (t) => {
  t.throws(() => new SqliteStore(`${tempPath(t)}/no/such/folder.db`), /open/)
})

void t.test(
  'if the table has the wrong columns, the constructor throws and closes a database that it opened itself',
  async (t) => {
    const path = tempPath(t)
    const database = open(path, workingDriver())
    t.teardown(() => database.close())
    database.exec('CREATE TABLE sessions (sid TEXT, sess TEXT)')
    t.throws(() => new SqliteStore(database), { message: /"table" sessions cannot be used: no such column/ })
    t.throws(() => new SqliteStore(path), SessionOptionError)
    database.exec('SELECT 1')
  }
)

void t.test('a malformed row is treated as absent and reported', async (t) => {
  const database = makeDatabase(t)
  const store = new SqliteStore(database)
  const messages = listen(t, 'invalid-record')
  for (const data of [
    '{',
    'null',
    '3',
    '"text"',
    '',
    '[]',
    '{"a":1}',
    '{"\\u0001":"1"}',
    '{"a":"\\u0001x"}'
  ]) {
    store.create(idOf('a'), makeRecord({ userId: 'ada' }))
    database.prepare('UPDATE sessions SET data = :data').run({ data })
    t.equal(store.get(idOf('a')), undefined, data)
    t.same(store.listByUser('ada'), [])
    t.same(messages.splice(0), Array(2).fill({ id: idOf('a'), reason: 'shape' }))
    store.destroy(idOf('a'))
  }
})

void t.test(
  'a malformed row is treated as absent even if the diagnostics channel has no subscriber',
  async (t) => {
    const database = makeDatabase(t)
    const store = new SqliteStore(database)
    store.create(idOf('a'), makeRecord())
    database.exec("UPDATE sessions SET data = '{'")
    t.equal(store.get(idOf('a')), undefined)
  }
)

void t.test('the store returns numbers even if the database returns BigInts', async (t) => {
  const database = makeDatabase(t)
  const store = new SqliteStore({
    exec: (sql) => database.exec(sql),
    close: () => undefined,
    prepare: (sql) => {
      const statement = database.prepare(sql)
      const big = statement as {
        safeIntegers?: (on: boolean) => void
        setReadBigInts?: (on: boolean) => void
      }
      big.safeIntegers?.(true)
      big.setReadBigInts?.(true)
      return statement
    }
  })
  const record = makeRecord()
  t.equal(store.create(idOf('a'), record), true)
  t.same(store.get(idOf('a')), record)
})

void t.test('a sweep of expired sessions yields to the event loop between batches', async (t) => {
  const database = makeDatabase(t)
  const store = new SqliteStore(database)
  const left = () =>
    (database.prepare('SELECT count(*) AS count FROM sessions').get({}) as { count: number }).count
  for (let index = 0; index < 1200; index++) {
    store.create(idOf(`${index}`), makeRecord({ expiresAt: Date.now() - 1 }))
  }
  const sweep = store.cleanup()
  t.equal(left(), 700)
  t.equal(store.create(idOf('a'), makeRecord()), true)
  t.equal(await sweep, 1200)
  t.equal(left(), 1)
})

void t.test('once its signal aborts, a sweep stops after the batch', async (t) => {
  const store = new SqliteStore(makeDatabase(t))
  for (let index = 0; index < 1200; index++) {
    store.create(idOf(`${index}`), makeRecord({ expiresAt: Date.now() - 1 }))
  }
  const stop = new AbortController()
  const sweep = store.cleanup(stop.signal)
  stop.abort()
  t.equal(await sweep, 500)
  t.equal(await store.cleanup(), 700)
})

void t.test('close() stops a running sweep of expired sessions', async (t) => {
  const store = new SqliteStore(tempPath(t))
  for (let index = 0; index < 1200; index++) {
    store.create(idOf(`${index}`), makeRecord({ expiresAt: Date.now() - 1 }))
  }
  const sweep = store.cleanup()
  store.close()
  t.equal(await sweep, 500)
})

void t.test('the store uses better-sqlite3 if it is installed, and otherwise node:sqlite', async (t) => {
  const opened: string[] = []
  const databaseOf = (driver: string) =>
    class {
      constructor(path: string) {
        opened.push(`${driver} ${path}`)
      }
      exec(): void {
        // The test only checks which paths are opened.
      }
      close(): void {
        // The test does not check close().
      }
    }
  const installed = (name: string) => databaseOf(name)
  const missing = (name: string) => {
    throw new Error(`Cannot find module '${name}'\nRequire stack: …`)
  }
  const builtin = (name: string) => ({ DatabaseSync: databaseOf(name) })

  openWith('a.db', SETTINGS, driversOf(installed, builtin))
  t.same(opened.splice(0), ['better-sqlite3 :memory:', 'better-sqlite3 a.db'])
  openWith('b.db', SETTINGS, driversOf(missing, builtin))
  t.same(opened.splice(0), ['node:sqlite b.db'])
  t.throws(
    () =>
      openWith(
        'c.db',
        SETTINGS,
        driversOf(missing, () => undefined)
      ),
    {
      code: 'SESSION_OPTION_INVALID',
      message: `fastify-sesame: option "store" is a SqliteStore, but there is no SQLite (better-sqlite3: Cannot find module 'better-sqlite3'; node:sqlite: not in Node ${process.version}): npm install better-sqlite3, or use Node 22.13 or later`
    }
  )
})

void t.test(
  'the store does not use a better-sqlite3 binary that was compiled for another version of Node',
  async (t) => {
    function Broken() {
      throw new Error('was compiled against a different Node.js version')
    }
    t.throws(
      () =>
        openWith(
          'c.db',
          SETTINGS,
          driversOf(
            () => Broken,
            () => undefined
          )
        ),
      { message: /better-sqlite3: was compiled against a different Node.js version/ }
    )
  }
)

void t.test('extending a session or changing its data does not update the user index', async (t) => {
  const database = makeDatabase(t)
  const store = new SqliteStore(database)
  store.create(idOf('a'), makeRecord({ data: { a: '1' } }))
  database.exec(`CREATE TRIGGER no_user BEFORE UPDATE OF user_id ON sessions
    BEGIN SELECT raise(ABORT, 'user'); END`)
  t.equal(store.update(idOf('a'), makePatch()), 'ok')
  t.equal(store.update(idOf('a'), makePatch({ set: { b: '2' } })), 'ok')
  t.throws(() => store.update(idOf('a'), makePatch({ userId: 'ada' })), /user/)
})

for (const name of ['better-sqlite3', 'node:sqlite']) {
  void t.test(
    `with ${name}, a patch of more than 200 keys can also change keys with special characters`,
    { skip: problemOf(name) ?? false },
    async (t) => {
      const store = new SqliteStore(open(':memory:', name))
      const odd = [
        '',
        '__proto__',
        'a\0b',
        'a\0c',
        '\ud800',
        '\x01',
        '"',
        '\\',
        'a.b',
        '$[0]',
        'e\u0301',
        '🔑',
        '\n'
      ]
      const keys = [...odd, ...Array.from({ length: 200 }, (_, index) => `key ${index}`)]
      const textsOf = (keys: readonly string[], text: string) =>
        Object.fromEntries(keys.map((key) => [key, text]))
      const dataOf = () => Object.entries(store.get(idOf('a'))?.data ?? {}).sort()
      const expected = (texts: object) => Object.entries(texts).sort()
      store.create(idOf('a'), makeRecord({ data: { ...textsOf(odd, '"created"'), kept: '"a\0\ud800"' } }))
      store.update(idOf('a'), makePatch({ set: textsOf(keys, '"\\"set\\u0000\ud800"') }))
      t.same(dataOf(), expected({ ...textsOf(keys, '"\\"set\\u0000\ud800"'), kept: '"a\0\ud800"' }))
      store.update(idOf('a'), makePatch({ remove: keys.slice(1), set: { kept: 'null' } }))
      t.same(dataOf(), expected({ '': '"\\"set\\u0000\ud800"', kept: 'null' }))
      store.update(idOf('a'), makePatch({ clear: true, set: textsOf(keys, '2'), remove: ['kept'] }))
      t.same(dataOf(), expected(textsOf(keys, '2')))
      t.equal(store.get(idOf('a'))?.version, 4)
      store.update(idOf('a'), makePatch({ remove: keys, renameTo: idOf('b') }))
      t.match(store.get(idOf('b')), { version: 5, data: {} })
    }
  )
}

function tempPath(t: Test): string {
  const { path, remove } = makeFolder()
  t.teardown(remove)
  return path
}

function makeDatabase(t: Test): SqliteDatabase {
  const database = open(':memory:', workingDriver())
  t.teardown(() => database.close())
  return database
}
