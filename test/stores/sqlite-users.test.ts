import t, { type Test } from 'tap'
import { SqliteStore, type SqliteDatabase } from '../../plugin/stores/sqlite/store.js'
import { idOf, makePatch, makeRecord } from '../../plugin/testing/records.js'
import type { StoredSession } from '../../plugin/types.js'
import { makeFolder, open, workingDriver } from '../fixtures/sqlite.js'

void t.test('a user’s few sessions are listed and ended synchronously', async (t) => {
  const store = makeUser(t, 49)
  t.equal((store.listByUser('ada') as StoredSession[]).length, 49)
  t.equal(store.destroyByUser('ada', idOf('0')), 48)
})

void t.test(
  'a user’s many sessions are listed in several turns of the event loop, in small steps',
  async (t) => {
    const turns = countTurns(t)
    const [steps, turnsOfSteps]: [number[], number[]] = [[], []]
    const database = watched(makeDatabase(t), (rows) => {
      steps.push(rows)
      turnsOfSteps.push(turns())
    })
    const store = fill(new SqliteStore(database), 1000)
    store.create(idOf('expired'), makeRecord({ userId: 'ada', expiresAt: Date.now() - 1 }))
    store.create(idOf('bob'), makeRecord({ userId: 'bob' }))
    const listed = await store.listByUser('ada')
    t.ok(
      new Set([...turnsOfSteps, turns()]).size >= 4,
      `the work was done in the turns ${turnsOfSteps.join()}`
    )
    t.ok(turns() > (turnsOfSteps.at(-1) as number), 'the caller does its own work in another turn')
    t.same(idsIn(listed), namesOf(1000).map(idOf).sort())
    t.ok(listed.every(({ record }) => record.userId === 'ada'))
    t.ok(Math.max(...steps) <= 50, `${Math.max(...steps)} rows were read at once`)
  }
)

void t.test(
  'a session that is rotated, ended or created while the sessions are listed is listed correctly',
  async (t) => {
    const store = makeUser(t, 1000)
    const listing = store.listByUser('ada')
    await new Promise(setImmediate)
    const [first, last] = [namesOf(1000).slice(0, 200), namesOf(1000).slice(200)]
    for (const name of first) store.update(idOf(name), makePatch({ renameTo: idOf(`new ${name}`) }))
    store.destroy(idOf('999'))
    store.create(idOf('created'), makeRecord({ userId: 'ada' }))
    const names = [...first.map((name) => `new ${name}`), ...last.filter((name) => name !== '999'), 'created']
    t.same(idsIn(await listing), names.map(idOf).sort())
  }
)

void t.test(
  'a user’s many sessions are ended in several turns of the event loop, in small steps',
  async (t) => {
    const steps: number[] = []
    const database = watched(makeDatabase(t), (rows) => steps.push(rows))
    const store = fill(new SqliteStore(database), 1000)
    for (const name of namesOf(300)) {
      store.create(idOf(`expired ${name}`), makeRecord({ userId: 'ada', expiresAt: Date.now() - 1 }))
    }
    store.create(idOf('bob'), makeRecord({ userId: 'bob' }))
    const turns = countTurns(t)
    t.equal(await store.destroyByUser('ada', idOf('7')), 999)
    t.ok(turns() >= 1)
    t.same(idsIn(await store.listByUser('ada')), [idOf('7')])
    t.ok(store.get(idOf('bob')))
    t.ok(Math.max(...steps) <= 200, `${Math.max(...steps)} sessions were ended at once`)
  }
)

void t.test('a session that is rotated while the user’s sessions are ended does not survive', async (t) => {
  const store = makeUser(t, 1000)
  const ending = store.destroyByUser('ada')
  let count = 0
  for (const name of namesOf(1000)) {
    if (store.update(idOf(name), makePatch({ renameTo: idOf(`new ${name}`) })) === 'ok') count++
  }
  t.equal(count, 800)
  t.equal(await ending, 1000)
  t.same(store.listByUser('ada'), [])
})

function makeDatabase(t: Test): SqliteDatabase {
  const { path, remove } = makeFolder()
  const database = open(path, workingDriver())
  t.teardown(() => {
    database.close()
    remove()
  })
  return database
}

/** Returns a database that calls `onRead` with the number of rows that each `get` and `all` returns. */
function watched(database: SqliteDatabase, onRead: (rows: number) => unknown): SqliteDatabase {
  return {
    exec: (sql) => database.exec(sql),
    close: () => database.close(),
    prepare: (sql) => {
      const statement = database.prepare(sql)
      return {
        run: (values) => statement.run(values),
        get: (values) => {
          onRead(1)
          return statement.get(values)
        },
        all: (values) => {
          const rows = statement.all(values)
          onRead(rows.length)
          return rows
        }
      }
    }
  }
}

function makeUser(t: Test, count: number): SqliteStore {
  return fill(new SqliteStore(makeDatabase(t)), count)
}

function fill(store: SqliteStore, count: number): SqliteStore {
  for (const name of namesOf(count)) store.create(idOf(name), makeRecord({ userId: 'ada' }))
  return store
}

function namesOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${index}`)
}

function idsIn(sessions: readonly StoredSession[]): string[] {
  return sessions.map(({ id }) => id).sort()
}

/** Counts the turns of the event loop until the test ends. */
function countTurns(t: Test): () => number {
  let turns = 0
  let immediate = setImmediate(function next() {
    turns++
    immediate = setImmediate(next)
  })
  t.teardown(() => clearImmediate(immediate))
  return () => turns
}
