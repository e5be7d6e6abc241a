import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionStore } from '../../types.js'
import { stopClock } from '../clock.js'
import { assertRecord, idOf, makePatch, makeRecord } from '../records.js'
import type { Capability, Case } from '../store.js'

const ID = idOf('one')
const NEW_ID = idOf('two')

/** Lets a session of `life` ms end: `expire` comes back when it has. */
interface Time {
  readonly life: number
  readonly expire: () => Promise<void>
}

type Expiring = (store: SessionStore, time: Time) => Promise<void>

/** What holds for an expired record, by whichever clock it expired. */
const EXPIRED: readonly { name: string; needs?: Capability; run: Expiring }[] = [
  {
    name: 'an expired record is absent for get and destroy',
    async run(store, { life, expire }) {
      await store.create(ID, expiring(life))
      await expire()
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.destroy(ID), false)
    }
  },
  {
    name: 'an update of an expired record is gone and does not revive it',
    async run(store, { life, expire }) {
      await store.create(ID, expiring(life))
      await expire()
      assert.equal(await store.update(ID, makePatch()), 'gone')
      assert.equal(await store.update(ID, makePatch({ set: { a: '1' } })), 'gone')
      assert.equal(await store.update(ID, makePatch({ ifVersion: 1 })), 'gone')
      assert.equal(await store.update(ID, makePatch({ ifVersion: 2 })), 'gone')
      assert.equal(await store.get(ID), undefined)
    }
  },
  {
    name: 'a rename of an expired record is gone and neither id exists',
    async run(store, { life, expire }) {
      await store.create(ID, expiring(life))
      await expire()
      assert.equal(await store.update(ID, makePatch({ renameTo: NEW_ID })), 'gone')
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.get(NEW_ID), undefined)
    }
  },
  {
    name: 'create over an expired record works, and nothing of the old one is left',
    async run(store, { life, expire }) {
      await store.create(ID, { ...expiring(life), data: { old: '1' }, userId: 'ada', version: 5 })
      await expire()
      const record = makeRecord({ data: { fresh: '1' } })
      assert.equal(await store.create(ID, record), true)
      assertRecord(await store.get(ID), record)
    }
  },
  {
    name: 'renameTo an expired id works, and nothing of the old record is left',
    async run(store, { life, expire }) {
      await store.create(NEW_ID, { ...expiring(life), data: { old: '1' }, userId: 'ada' })
      await expire()
      const record = makeRecord({ data: { fresh: '1' } })
      await store.create(ID, record)
      const { lastAccessed, expiresAt } = record
      assert.equal(await store.update(ID, makePatch({ renameTo: NEW_ID, lastAccessed, expiresAt })), 'ok')
      assertRecord(await store.get(NEW_ID), record)
    }
  },
  {
    name: 'a touch that moves the expiry on keeps the record, one that moves it back ends it',
    async run(store, { life, expire }) {
      await store.create(ID, expiring(life))
      await store.create(NEW_ID, makeRecord())
      const extended = await store.update(ID, makePatch())
      await store.update(NEW_ID, makePatch({ expiresAt: Date.now() + life }))
      await expire()
      // On a machine so slow that it had expired before the touch, it must stay so.
      assert.equal((await store.get(ID)) !== undefined, extended === 'ok')
      assert.equal(await store.get(NEW_ID), undefined)
    }
  },
  {
    name: 'expired sessions are not listed and not counted as ended',
    needs: 'by user',
    async run(store, { life, expire }) {
      await store.create(ID, { ...expiring(life), userId: 'ada' })
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
    name: 'cleanup removes the expired alone and says how many',
    needs: 'cleanup',
    async run(store, { life, expire }) {
      assert.ok(store.cleanup !== undefined, 'the store has no cleanup(); say why in `lacks: { cleanup: … }`')
      assert.equal(await store.cleanup(), 0)
      for (const name of ['a', 'b', 'c']) await store.create(idOf(name), expiring(life))
      await expire()
      const record = makeRecord()
      await store.create(ID, record)
      assert.equal(await store.cleanup(), 3)
      assert.equal(await store.cleanup(), 0)
      assertRecord(await store.get(ID), record)
    }
  }
]

function needing(needs: Capability | undefined): { needs?: Capability } {
  return needs === undefined ? {} : { needs }
}

/** Real time, short: the engine's own clock. */
const byTheEngine: readonly Case[] = EXPIRED.map(({ name, needs, run }) => ({
  name: `${name} (in real time)`,
  ...needing(needs),
  run: ({ store }) => run(store, { life: 50, expire: () => delay(75) })
}))

const byTheLibrary: readonly Case[] = EXPIRED.filter(({ needs }) => needs === undefined).map(
  ({ name, run }) => ({
    name: `${name} (by a moved clock)`,
    needs: 'moved clock',
    run: ({ store }) => withClock((move) => run(store, { life: 1000, expire: async () => move(1000) }))
  })
)

export const expiryCases: readonly Case[] = [
  ...byTheEngine,
  ...byTheLibrary,
  {
    name: 'a record lives until its last millisecond and no longer',
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
    name: 'a record that was over before it came is never seen',
    async run({ store }) {
      await store.create(ID, { ...expiring(-1000), userId: 'ada' })
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.update(ID, makePatch()), 'gone')
      assert.equal(await store.create(ID, makeRecord()), true)
    }
  },
  {
    name: 'a patch whose expiry is over ends the session',
    async run({ store }) {
      await store.create(ID, makeRecord())
      assert.equal(await store.update(ID, makePatch({ expiresAt: Date.now() - 1000 })), 'ok')
      assert.equal(await store.get(ID), undefined)
      assert.equal(await store.update(ID, makePatch()), 'gone')
    }
  }
]

function expiring(life: number) {
  return makeRecord({ expiresAt: Date.now() + life })
}

async function withClock(body: (move: (milliseconds: number) => void) => Promise<void>): Promise<void> {
  const clock = stopClock()
  try {
    await body((milliseconds) => clock.move(milliseconds))
  } finally {
    clock.restore()
  }
}
