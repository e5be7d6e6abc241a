import t, { type Test } from 'tap'
import type { SessionRecord } from '../../plugin/index.js'
import { NONE, SessionTable } from '../../plugin/stores/memory-table.js'
import { idOfToken } from '../../plugin/cookies/tokens.js'
import { collectGarbage } from '../fixtures/garbage.js'
import { makeRecord } from '../fixtures/stores.js'
import { makeRandom } from '../soak/fixtures/random.js'

/** The ids from the one that was used least recently on, which empties the table. */
function drain(table: SessionTable): string[] {
  const ids: string[] = []
  while (table.oldest !== NONE) {
    ids.push(table.idAt(table.oldest))
    table.remove(table.oldest)
  }
  return ids
}

/** A Map in the order of use, beside which a table is held. */
function compare(t: Test, idOf: (number: number) => string, steps: number): void {
  const random = makeRandom(steps)
  const dice = (sides: number): number => Math.floor(random() * sides)
  const table = new SessionTable()
  const model = new Map<string, SessionRecord>()
  const wrong: string[] = []
  for (let step = 0; step < steps; step++) {
    const id = idOf(dice(3000))
    const row = table.find(id)
    const known = model.get(id)
    if ((row !== NONE) !== (known !== undefined)) wrong.push(`${step}: ${id} at ${row}`)
    const record = makeRecord({
      version: step,
      createdAt: step,
      userId: `user-${step}`,
      data: { n: `${step}` }
    })
    if (known === undefined) {
      table.add(id, record)
      model.set(id, record)
      continue
    }
    if (JSON.stringify(table.recordAt(row)) !== JSON.stringify(known)) wrong.push(`${step}: ${id}`)
    const deed = dice(4)
    if (deed === 0) {
      table.replace(row, record)
      model.set(id, record)
    } else if (deed === 1) {
      table.use(row)
      model.delete(id)
      model.set(id, known)
    } else {
      table.remove(row)
      model.delete(id)
    }
    if (table.size !== model.size) wrong.push(`${step}: ${table.size} rows for ${model.size}`)
  }
  t.same(wrong, [])
  t.ok(model.size > 500)
  t.same(drain(table), [...model.keys()], 'the order of use')
  t.same([table.size, table.oldest, table.find(idOf(0))], [0, NONE, NONE])
}

void t.test('it does what a Map in the order of use does', async (t) => {
  compare(t, (number) => idOfToken(`${number}`), 60_000)
})

void t.test('ids of any text are told apart, those that end alike too', async (t) => {
  compare(t, (number) => `${number}-00000000`, 5000)
  compare(t, (number) => (number === 0 ? '' : String.fromCodePoint(number)), 20_000)
})

void t.test('a row that takes another one’s place is complete', async (t) => {
  const table = new SessionTable()
  const records = ['a', 'b', 'c'].map((userId, version) =>
    makeRecord({ userId, version, expiresAt: 10 + version, createdAt: version, lastAccessed: 5 + version })
  )
  for (const record of records) table.add(record.userId as string, record)
  table.remove(table.find('a'))
  const row = table.find('c')
  t.equal(row, 0)
  t.same([table.idAt(row), table.userIdAt(row), table.expiresAt(row)], ['c', 'c', 12])
  t.same(table.recordAt(row), records[2])
  t.same([table.find('a'), table.size], [NONE, 2])
})

/** Bytes of flat memory, which only this test's tables use. */
function flatMemory(): number {
  // Twice, because the first one leaves what it frees to another thread.
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

void t.test('what it no longer needs is given back, all but a part', async (t) => {
  const before = flatMemory()
  const table = new SessionTable()
  const ids = Array.from({ length: 100_000 }, (_, number) => idOfToken(`${number}`))
  for (const id of ids) table.add(id, makeRecord())
  const full = flatMemory() - before
  for (const id of ids) table.remove(table.find(id))
  const left = flatMemory() - before
  t.ok(left < full / 10, `${left} bytes of ${full} are left`)
  t.equal(table.size, 0)
  table.add('a', makeRecord())
  t.equal(table.find('a'), 0, 'and it goes on')
})

void t.test('sessions that come and go make it no larger', async (t) => {
  const before = flatMemory()
  const table = new SessionTable()
  for (let number = 0; number < 100_000; number++) {
    table.add(`${number}`, makeRecord())
    if (number >= 100) table.remove(table.oldest)
  }
  const used = flatMemory() - before
  t.ok(used < 400_000, `${used} bytes`)
  t.equal(table.size, 100)
})

void t.test('nothing of a session that is removed stays in memory', async (t) => {
  const table = new SessionTable()
  const addAndRemove = (): WeakRef<object> => {
    const data = { name: '"ada"' }
    table.add('a', makeRecord({ data }))
    table.remove(table.find('a'))
    return new WeakRef(data)
  }
  const seen = addAndRemove()
  await new Promise((resolve) => setTimeout(resolve))
  collectGarbage()
  t.equal(seen.deref(), undefined)
})
