import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionRecord, SessionStore } from '../../types.js'
import { stopClock } from '../clock.js'
import { assertRecord, idOf, makePatch, makeRecord } from '../records.js'
import type { Capability, Case } from '../store.js'

const ID = idOf('one')
const NEW_ID = idOf('two')

/** Lets a case wait until a record has expired. */
interface Time {
  /** Milliseconds from the creation of a record until it expires. */
  readonly lifetime: number
  /** Resolves when at least `lifetime` milliseconds have passed, in real time or on a mocked clock. */
  readonly expire: () => Promise<void>
}

type RunWithTime = (store: SessionStore, time: Time) => Promise<void>

/** All of these cases run in real time. Cases without a `needs` property also run with a mocked clock. */
const TIMED_CASES: readonly { name: string; needs?: Capability; run: RunWithTime }[] = [
  {
    name: 'get and destroy treat an expired record as absent',
    async run(store, { lifetime, expire }) {
      await store.create(ID, expiring(lifetime))
      await expire()
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.destroy(ID), false)
    }
  },
  {
    name: 'updating an expired record returns gone and does not revive it',
    async run(store, { lifetime, expire }) {
      await store.create(ID, expiring(lifetime))
      await expire()
      assert.equal(await store.update(ID, makePatch()), 'gone')
      assert.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'gone')
      assert.equal(await store.update(ID, makePatch({ ifVersion: 1 })), 'gone')
      assert.equal(await store.update(ID, makePatch({ ifVersion: 2 })), 'gone')
      assert.equal(await store.get(ID), undefined)
    }
  },
  {
    name: 'renaming an expired record returns gone and leaves no record under either id',
    async run(store, { lifetime, expire }) {
      await store.create(ID, expiring(lifetime))
      await expire()
      assert.equal(await store.update(ID, makePatch({ renameTo: NEW_ID })), 'gone')
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.get(NEW_ID), undefined)
    }
  },
  {
    name: 'create replaces an expired record entirely',
    async run(store, { lifetime, expire }) {
      await store.create(ID, { ...expiring(lifetime), data: { old: '1' }, userId: 'ada', version: 5 })
      await expire()
      const record = makeRecord({ data: { fresh: '1' } })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'renaming a record to the id of an expired record replaces the expired record entirely',
    async run(store, { lifetime, expire }) {
      await store.create(NEW_ID, { ...expiring(lifetime), data: { old: '1' }, userId: 'ada' })
      await expire()
      const record = makeRecord({ data: { fresh: '1' } })
      await store.create(ID, record)
      const { lastAccessed, expiresAt } = record
      assert.equal(await store.update(ID, makePatch({ renameTo: NEW_ID, lastAccessed, expiresAt })), 'ok')
      assertRecord(await store.get(NEW_ID), record)
    }
  },
  {
    name: 'a touch can extend or shorten the lifetime of a record',
    async run(store, { lifetime, expire }) {
      await store.create(ID, expiring(lifetime))
      await store.create(NEW_ID, makeRecord())
      const extended = await store.update(ID, makePatch())
      await store.update(NEW_ID, makePatch({ expiresAt: Date.now() + lifetime }))
      await expire()
      // On a very slow machine, the first record may expire before the touch. In that case, it must stay absent.
      assert.equal((await store.get(ID)) !== undefined, extended === 'ok')
      assert.equal(await store.get(NEW_ID), undefined)
    }
  },
  {
    name: 'listByUser and destroyByUser ignore expired sessions',
    needs: 'by user',
    async run(store, { lifetime, expire }) {
      await store.create(ID, { ...expiring(lifetime), userId: 'ada' })
      await expire()
      await store.create(NEW_ID, makeRecord({ userId: 'ada' }))
      assert.deepEqual(
        (await store.listByUser?.('ada'))?.map(({ id }) => id),
        [NEW_ID]
      )
      assert.equal(await store.destroyByUser?.('ada'), 1)
    }
  },
  {
    name: 'cleanup removes only expired records and returns their number',
    needs: 'cleanup',
    async run(store, { lifetime, expire }) {
      assert.ok(
        store.cleanup !== undefined,
        'the store has no cleanup(). If that is intended, give the reason in `unsupported: { cleanup: … }`'
      )
      assert.equal(await store.cleanup(), 0)
      for (const name of ['a', 'b', 'c']) await store.create(idOf(name), expiring(lifetime))
      await expire()
      const record = makeRecord()
      await store.create(ID, record)
      assert.equal(await store.cleanup(), 3)
      assert.equal(await store.cleanup(), 0)
      assertRecord(await store.get(ID), record)
    }
  }
]

function requirement(needs: Capability | undefined): { needs?: Capability } {
  return needs === undefined ? {} : { needs }
}

const inRealTime: readonly Case[] = TIMED_CASES.map(({ name, needs, run }) => ({
  name: `${name} (in real time)`,
  ...requirement(needs),
  run: ({ store }) => run(store, { lifetime: 50, expire: () => delay(75) })
}))

const withMovedClock: readonly Case[] = TIMED_CASES.filter(({ needs }) => needs === undefined).map(
  ({ name, run }) => ({
    name: `${name} (with a moved clock)`,
    needs: 'moved clock',
    run: ({ store }) => withClock((move) => run(store, { lifetime: 1000, expire: async () => move(1000) }))
  })
)

export const expiryCases: readonly Case[] = [
  ...inRealTime,
  ...withMovedClock,
  {
    name: 'a record expires exactly at expiresAt',
    needs: 'moved clock',
    run: ({ store }) =>
      withClock(async (move) => {
        await store.create(ID, expiring(10_000))
        move(9999)
        assert.notEqual(await store.get(ID), undefined)
        move(1)
        assert.equal(await store.get(ID), undefined)
      })
  },
  {
    name: 'a record that has already expired when it is created is never returned',
    async run({ store }) {
      await store.create(ID, { ...expiring(-1000), userId: 'ada' })
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.update(ID, makePatch()), 'gone')
      assert.equal(await store.create(ID, makeRecord()), true)
    }
  },
  {
    name: 'a patch with an expiresAt in the past ends the session',
    async run({ store }) {
      await store.create(ID, makeRecord())
      assert.equal(await store.update(ID, makePatch({ expiresAt: Date.now() - 1000 })), 'ok')
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.update(ID, makePatch()), 'gone')
    }
  }
]

function expiring(lifetime: number): SessionRecord {
  return makeRecord({ expiresAt: Date.now() + lifetime })
}

async function withClock(body: (move: (milliseconds: number) => void) => Promise<void>): Promise<void> {
  const clock = stopClock()
  try {
    await body((milliseconds) => clock.move(milliseconds))
  } finally {
    clock.restore()
  }
}
