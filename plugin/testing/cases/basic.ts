import assert from 'node:assert/strict'
import type { SessionRecord, SessionStore } from '../../types.js'
import { assertRecord, idOf, makePatch, makeRecord } from '../records.js'
import type { Case } from '../store.js'

const ID = idOf('one')
const NEW_ID = idOf('two')

/** Ids that belong to no record. A store must not mistake one for a stored id, a pattern or a command. */
const HOSTILE_IDS = [
  '',
  '*',
  '%',
  '_',
  '?',
  "' OR '1'='1",
  '"; DROP TABLE sessions; --',
  '../../etc/passwd',
  '__proto__',
  'constructor',
  'toString',
  '{}',
  'a:b',
  'a\nb',
  'a\0b',
  '\ud800',
  '🔑',
  'x'.repeat(1024),
  ID.toUpperCase(),
  ID.slice(1),
  `${ID} `
]

const create: readonly Case[] = [
  {
    name: 'get returns every field of a created record unchanged',
    async run({ store }) {
      const record = makeRecord({ data: { a: '1', b: '"two"' }, userId: 'ada', createdAt: 1000 })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'a record without data and without a user can be stored',
    async run({ store }) {
      const record = makeRecord({ data: {} })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'create does not change the version of the record that it stores',
    async run({ store }) {
      await store.create(ID, makeRecord({ version: 7 }))
      assert.equal((await store.get(ID))?.version, 7)
    }
  },
  {
    name: 'create returns false for an existing id and changes nothing (E8)',
    async run({ store }) {
      const record = makeRecord({ userId: 'ada' })
      await store.create(ID, record)
      assert.equal(await store.create(ID, makeRecord({ data: { b: '2' }, userId: 'bob' })), false)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'every method treats a record as absent until it is created',
    async run({ store }) {
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'gone')
      assert.equal(await store.update(ID, makePatch({ ifVersion: 1 })), 'gone')
      assert.equal(await store.update(ID, makePatch({ renameTo: NEW_ID })), 'gone')
      assert.equal(await store.destroy(ID), false)
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.get(NEW_ID), undefined)
    }
  },
  {
    name: 'a hostile id matches no record, changes nothing and causes no error',
    async run({ store }) {
      const record = makeRecord()
      await store.create(ID, record)
      for (const id of HOSTILE_IDS) {
        assert.equal(await store.get(id), undefined, id)
        assert.equal(await store.update(id, makePatch({ set: { a: '1' } })), 'gone', id)
        assert.equal(await store.destroy(id), false, id)
      }
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'writing to one session leaves other sessions unchanged',
    async run({ store }) {
      const other = makeRecord({ data: { b: '2' } })
      await store.create(ID, makeRecord())
      await store.create(NEW_ID, other)
      await store.update(ID, makePatch({ set: { a: '1' }, clear: true }))
      await store.destroy(ID)
      assertRecord(await store.get(NEW_ID), other)
    }
  }
]

const destroy: readonly Case[] = [
  {
    name: 'destroy returns whether the record existed',
    async run({ store }) {
      await store.create(ID, makeRecord())
      assert.equal(await store.destroy(ID), true)
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.destroy(ID), false)
    }
  },
  {
    name: 'update after destroy returns gone and creates no record (E1)',
    async run({ store }) {
      await store.create(ID, makeRecord())
      await store.destroy(ID)
      assert.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'gone')
      assert.equal(await store.get(ID), undefined)
    }
  },
  {
    name: 'a touch after destroy returns gone and creates no record (E2)',
    async run({ store }) {
      await store.create(ID, makeRecord())
      await store.destroy(ID)
      assert.equal(await store.update(ID, makePatch()), 'gone')
      assert.equal(await store.get(ID), undefined)
    }
  },
  {
    name: 'a rename after destroy returns gone and leaves no record under either id (E3)',
    async run({ store }) {
      await store.create(ID, makeRecord())
      await store.destroy(ID)
      assert.equal(await store.update(ID, makePatch({ set: { a: '1' }, renameTo: NEW_ID })), 'gone')
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.get(NEW_ID), undefined)
    }
  },
  {
    name: 'after a destroy, a new record can be created at the same id',
    async run({ store }) {
      await store.create(ID, makeRecord({ data: { a: '1' }, userId: 'ada' }))
      await store.destroy(ID)
      const record = makeRecord({ data: { b: '2' } })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  }
]

/** A patch for the record `BEFORE`. `expected` holds the fields that the patch changes, with their new values. */
interface PatchCase {
  readonly name: string
  readonly patch: Parameters<typeof makePatch>[0]
  readonly expected: Partial<SessionRecord>
}

const BEFORE = { data: { a: '1', b: '2' }, userId: 'ada', createdAt: 1000, version: 3 }

const PATCHES: readonly PatchCase[] = [
  {
    name: 'a touch updates lastAccessed and expiresAt but not the version',
    patch: {},
    expected: {}
  },
  {
    name: 'a patch with set adds a new key to the record',
    patch: { set: { c: '3' } },
    expected: { data: { a: '1', b: '2', c: '3' }, version: 4 }
  },
  {
    name: 'a patch with set replaces the value of an existing key',
    patch: { set: { a: '{"x":[1]}' } },
    expected: { data: { a: '{"x":[1]}', b: '2' }, version: 4 }
  },
  {
    name: 'setting an equal value still increments the version',
    patch: { set: { a: '1' } },
    expected: { version: 4 }
  },
  {
    name: 'a patch increments the version by 1, however many keys it changes',
    patch: { set: { c: '3', d: '4' }, remove: ['a', 'b'] },
    expected: { data: { c: '3', d: '4' }, version: 4 }
  },
  {
    name: 'a patch with remove deletes a key from the record',
    patch: { remove: ['a'] },
    expected: { data: { b: '2' }, version: 4 }
  },
  {
    name: 'removing all keys leaves an empty record',
    patch: { remove: ['a', 'b'] },
    expected: { data: {}, version: 4 }
  },
  {
    name: 'removing an absent key increments the version and changes no data',
    patch: { remove: ['zzz'] },
    expected: { version: 4 }
  },
  {
    name: 'clear deletes all data of the record',
    patch: { clear: true },
    expected: { data: {}, version: 4 }
  },
  {
    name: 'clear is applied before set',
    patch: { clear: true, set: { c: '3' } },
    expected: { data: { c: '3' }, version: 4 }
  },
  {
    name: 'remove is applied before set',
    patch: { remove: ['a'], set: { a: '9' } },
    expected: { data: { a: '9', b: '2' }, version: 4 }
  },
  {
    name: 'a patch with clear: false keeps the data',
    patch: { clear: false, set: { c: '3' } },
    expected: { data: { a: '1', b: '2', c: '3' }, version: 4 }
  },
  {
    name: 'a patch can change createdAt',
    patch: { createdAt: 5000 },
    expected: { createdAt: 5000 }
  },
  {
    name: 'a patch can change userId without incrementing the version',
    patch: { userId: 'bob' },
    expected: { userId: 'bob' }
  },
  {
    name: 'userId: null removes the user from the session',
    patch: { userId: null },
    expected: { userId: null }
  },
  {
    name: 'a patch with a matching ifVersion is applied',
    patch: { ifVersion: 3, set: { c: '3' } },
    expected: { data: { a: '1', b: '2', c: '3' }, version: 4 }
  }
]

const patches: readonly Case[] = PATCHES.map(({ name, patch, expected }) => ({
  name,
  async run({ store }) {
    await store.create(ID, makeRecord(BEFORE))
    const now = Date.now()
    const times = { lastAccessed: now + 10, expiresAt: now + 90_000 }
    assert.equal(await store.update(ID, makePatch({ ...patch, ...times })), 'ok')
    assertRecord(await store.get(ID), makeRecord({ ...BEFORE, ...expected, ...times }))
  }
}))

const renames: readonly Case[] = [
  {
    name: 'renameTo moves the record and removes the old id',
    async run({ store }) {
      const record = makeRecord(BEFORE)
      await store.create(ID, record)
      const { lastAccessed, expiresAt } = record
      assert.equal(await store.update(ID, makePatch({ renameTo: NEW_ID, lastAccessed, expiresAt })), 'ok')
      await assertGone(store, ID)
      assertRecord(await store.get(NEW_ID), record)
    }
  },
  {
    name: 'after a rename, a new record can be created at the old id',
    async run({ store }) {
      await store.create(ID, makeRecord({ data: { a: '1' } }))
      await store.update(ID, makePatch({ renameTo: NEW_ID }))
      assert.equal(await store.create(ID, makeRecord({ data: { b: '2' } })), true)
      assert.deepEqual({ ...(await store.get(NEW_ID))?.data }, { a: '1' })
      assert.deepEqual({ ...(await store.get(ID))?.data }, { b: '2' })
    }
  },
  {
    name: 'a record can be renamed many times',
    async run({ store }) {
      const record = makeRecord(BEFORE)
      const { lastAccessed, expiresAt } = record
      await store.create(idOf('0'), record)
      for (let turn = 0; turn < 10; turn++) {
        const patch = makePatch({ renameTo: idOf(`${turn + 1}`), lastAccessed, expiresAt })
        assert.equal(await store.update(idOf(`${turn}`), patch), 'ok')
      }
      await assertGone(store, idOf('9'))
      assertRecord(await store.get(idOf('10')), record)
    }
  },
  {
    name: 'renameTo an existing id returns conflict and changes neither record',
    async run({ store }) {
      const [one, two] = [makeRecord(BEFORE), makeRecord({ data: { z: '26' }, userId: 'bob' })]
      await store.create(ID, one)
      await store.create(NEW_ID, two)
      const patch = makePatch({ renameTo: NEW_ID, set: { a: '9' }, userId: 'eve', lastAccessed: 1 })
      assert.equal(await store.update(ID, patch), 'conflict')
      assertRecord(await store.get(ID), one)
      assertRecord(await store.get(NEW_ID), two)
    }
  },
  {
    name: 'retrying a rename that was already applied returns gone and leaves the record unchanged (E12)',
    async run({ store }) {
      await store.create(ID, makeRecord(BEFORE))
      const patch = makePatch({ renameTo: NEW_ID, set: { a: '9' }, createdAt: 5000 })
      assert.equal(await store.update(ID, patch), 'ok')
      const after = (await store.get(NEW_ID)) as SessionRecord
      assert.equal(await store.update(ID, patch), 'gone')
      assertRecord(await store.get(NEW_ID), after)
    }
  },
  {
    name: 'a patch with a wrong ifVersion returns conflict and changes nothing',
    async run({ store }) {
      const record = makeRecord(BEFORE)
      await store.create(ID, record)
      for (const ifVersion of [0, 1, 2, 4]) {
        const patch = makePatch({
          ifVersion,
          set: { a: '9' },
          remove: ['b'],
          renameTo: NEW_ID,
          userId: 'eve'
        })
        assert.equal(await store.update(ID, patch), 'conflict')
      }
      assertRecord(await store.get(ID), record)
      await assertGone(store, NEW_ID)
    }
  },
  {
    name: 'one patch can change the data, times, user and id of a record',
    async run({ store }) {
      await store.create(ID, makeRecord(BEFORE))
      const times = { createdAt: 5000, lastAccessed: 6000, expiresAt: Date.now() + 90_000 }
      const set = { c: '3' }
      const patch = { set, remove: ['a'], clear: true, userId: 'bob', renameTo: NEW_ID, ifVersion: 3 }
      assert.equal(await store.update(ID, { ...patch, ...times }), 'ok')
      await assertGone(store, ID)
      assertRecord(await store.get(NEW_ID), { version: 4, data: set, userId: 'bob', ...times })
    }
  }
]

const isolation: readonly Case[] = [
  {
    name: 'mutating an object passed to or returned by the store does not change the stored record',
    async run({ store }) {
      const data: Record<string, string> = { a: '1' }
      const set: Record<string, string> = { b: '2' }
      await store.create(ID, makeRecord({ data }))
      data['a'] = 'mutated'
      await store.update(ID, makePatch({ set }))
      set['b'] = 'mutated'
      const returned = (await store.get(ID)) as SessionRecord
      // A store is also allowed to return frozen records. `Reflect.set` does not change them, and throws no error.
      Reflect.set(returned.data, 'a', 'mutated')
      Reflect.set(returned, 'version', 99)
      const { data: kept, version } = (await store.get(ID)) as SessionRecord
      assert.deepEqual({ ...kept }, { a: '1', b: '2' })
      assert.equal(version, 2)
    }
  },
  {
    name: 'a returned record does not change when the session is written later',
    async run({ store }) {
      const record = makeRecord({ data: { a: '1' } })
      const expected = structuredClone(record)
      await store.create(ID, record)
      const before = await store.get(ID)
      await store.update(ID, makePatch({ set: { a: '2' }, userId: 'ada', createdAt: 1 }))
      assertRecord(before, expected)
    }
  }
]

async function assertGone(store: SessionStore, id: string): Promise<void> {
  assert.equal(await store.get(id), undefined)
  assert.equal(await store.destroy(id), false)
}

export const basicCases: readonly Case[] = [...create, ...destroy, ...patches, ...renames, ...isolation]
