import assert from 'node:assert/strict'
import type { SessionRecord, SessionStore } from '../../types.js'
import { assertRecord, idOf, makePatch, makeRecord } from '../records.js'
import type { Case } from '../store.js'

const ID = idOf('one')
const NEW_ID = idOf('two')

/** What nobody may mistake for an id or a pattern. */
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
    name: 'a created record comes back as it was, in every field',
    async run({ store }) {
      const record = makeRecord({ data: { a: '1', b: '"two"' }, userId: 'ada', createdAt: 1000 })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'a record may be without data and without a user',
    async run({ store }) {
      const record = makeRecord({ data: {} })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'create keeps the version that it is given',
    async run({ store }) {
      await store.create(ID, makeRecord({ version: 7 }))
      assert.equal((await store.get(ID))?.version, 7)
    }
  },
  {
    name: 'create of a taken id says false and changes nothing (E8)',
    async run({ store }) {
      const record = makeRecord({ userId: 'ada' })
      await store.create(ID, record)
      assert.equal(await store.create(ID, makeRecord({ data: { b: '2' }, userId: 'bob' })), false)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'an id is unknown to every method until it is created',
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
    name: 'a hostile id finds nothing, harms nothing and is no error',
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
    name: 'sessions do not touch each other',
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
    name: 'destroy says whether there was a record',
    async run({ store }) {
      await store.create(ID, makeRecord())
      assert.equal(await store.destroy(ID), true)
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.destroy(ID), false)
    }
  },
  {
    name: 'an update after a destroy is gone and makes no record (E1)',
    async run({ store }) {
      await store.create(ID, makeRecord())
      await store.destroy(ID)
      assert.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'gone')
      assert.equal(await store.get(ID), undefined)
    }
  },
  {
    name: 'a touch after a destroy is gone and makes no record (E2)',
    async run({ store }) {
      await store.create(ID, makeRecord())
      await store.destroy(ID)
      assert.equal(await store.update(ID, makePatch()), 'gone')
      assert.equal(await store.get(ID), undefined)
    }
  },
  {
    name: 'a rename after a destroy is gone and neither id exists (E3)',
    async run({ store }) {
      await store.create(ID, makeRecord())
      await store.destroy(ID)
      assert.equal(await store.update(ID, makePatch({ set: { a: '1' }, renameTo: NEW_ID })), 'gone')
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.get(NEW_ID), undefined)
    }
  },
  {
    name: 'a destroyed id can be created again, and starts anew',
    async run({ store }) {
      await store.create(ID, makeRecord({ data: { a: '1' }, userId: 'ada' }))
      await store.destroy(ID)
      const record = makeRecord({ data: { b: '2' } })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  }
]

/** What is there before a patch, the patch, and what it makes of it. */
interface Patched {
  readonly name: string
  readonly patch: Parameters<typeof makePatch>[0]
  readonly becomes: Partial<SessionRecord>
}

const BEFORE = { data: { a: '1', b: '2' }, userId: 'ada', createdAt: 1000, version: 3 }

const PATCHES: readonly Patched[] = [
  {
    name: 'a touch moves the two times and leaves the version',
    patch: {},
    becomes: {}
  },
  {
    name: 'set adds a key',
    patch: { set: { c: '3' } },
    becomes: { data: { a: '1', b: '2', c: '3' }, version: 4 }
  },
  {
    name: 'set replaces a text',
    patch: { set: { a: '{"x":[1]}' } },
    becomes: { data: { a: '{"x":[1]}', b: '2' }, version: 4 }
  },
  {
    name: 'set of an equal text still counts as a write',
    patch: { set: { a: '1' } },
    becomes: { version: 4 }
  },
  {
    name: 'a patch adds 1 to the version, however many keys it changes',
    patch: { set: { c: '3', d: '4' }, remove: ['a', 'b'] },
    becomes: { data: { c: '3', d: '4' }, version: 4 }
  },
  {
    name: 'remove drops a key',
    patch: { remove: ['a'] },
    becomes: { data: { b: '2' }, version: 4 }
  },
  {
    name: 'remove of all keys leaves an empty record',
    patch: { remove: ['a', 'b'] },
    becomes: { data: {}, version: 4 }
  },
  {
    name: 'remove of a key that is not there is a write that changes no data',
    patch: { remove: ['zzz'] },
    becomes: { version: 4 }
  },
  {
    name: 'clear drops all data',
    patch: { clear: true },
    becomes: { data: {}, version: 4 }
  },
  {
    name: 'clear comes before set',
    patch: { clear: true, set: { c: '3' } },
    becomes: { data: { c: '3' }, version: 4 }
  },
  {
    name: 'remove comes before set',
    patch: { remove: ['a'], set: { a: '9' } },
    becomes: { data: { a: '9', b: '2' }, version: 4 }
  },
  {
    name: 'clear: false clears nothing',
    patch: { clear: false, set: { c: '3' } },
    becomes: { data: { a: '1', b: '2', c: '3' }, version: 4 }
  },
  {
    name: 'createdAt changes where it is given',
    patch: { createdAt: 5000 },
    becomes: { createdAt: 5000 }
  },
  {
    name: 'userId changes where it is given, and that alone is no data write',
    patch: { userId: 'bob' },
    becomes: { userId: 'bob' }
  },
  {
    name: 'userId: null makes the session nobody’s',
    patch: { userId: null },
    becomes: { userId: null }
  },
  {
    name: 'the right ifVersion writes',
    patch: { ifVersion: 3, set: { c: '3' } },
    becomes: { data: { a: '1', b: '2', c: '3' }, version: 4 }
  }
]

const patches: readonly Case[] = PATCHES.map(({ name, patch, becomes }) => ({
  name,
  async run({ store }) {
    await store.create(ID, makeRecord(BEFORE))
    const now = Date.now()
    const times = { lastAccessed: now + 10, expiresAt: now + 90_000 }
    assert.equal(await store.update(ID, makePatch({ ...patch, ...times })), 'ok')
    assertRecord(await store.get(ID), makeRecord({ ...BEFORE, ...becomes, ...times }))
  }
}))

const renames: readonly Case[] = [
  {
    name: 'renameTo moves the record, and the old id is gone',
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
    name: 'the old id of a renamed record can be created again',
    async run({ store }) {
      await store.create(ID, makeRecord({ data: { a: '1' } }))
      await store.update(ID, makePatch({ renameTo: NEW_ID }))
      assert.equal(await store.create(ID, makeRecord({ data: { b: '2' } })), true)
      assert.deepEqual({ ...(await store.get(NEW_ID))?.data }, { a: '1' })
      assert.deepEqual({ ...(await store.get(ID))?.data }, { b: '2' })
    }
  },
  {
    name: 'a record can be renamed again and again',
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
    name: 'renameTo a taken id is a conflict and changes neither',
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
    name: 'a rename that was applied and is tried again is gone, and the record stays as it was (E12)',
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
    name: 'the wrong ifVersion is a conflict and changes nothing',
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
    name: 'a patch does all of its parts at once',
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
    name: 'a change of what was handed in or out does not reach the store',
    async run({ store }) {
      const data: Record<string, string> = { a: '1' }
      const set: Record<string, string> = { b: '2' }
      await store.create(ID, makeRecord({ data }))
      data['a'] = 'spoiled'
      await store.update(ID, makePatch({ set }))
      set['b'] = 'spoiled'
      const handedOut = (await store.get(ID)) as SessionRecord
      // A frozen record refuses, which is as good.
      Reflect.set(handedOut.data, 'a', 'spoiled')
      Reflect.set(handedOut, 'version', 99)
      const { data: kept, version } = (await store.get(ID)) as SessionRecord
      assert.deepEqual({ ...kept }, { a: '1', b: '2' })
      assert.equal(version, 2)
    }
  },
  {
    name: 'a record that was handed out does not follow later writes',
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
