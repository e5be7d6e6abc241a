import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionStore } from '../../types.js'
import { assertRecord, idOf, makePatch, makeRecord } from '../records.js'
import type { Case } from '../store.js'

const ID = idOf('one')
/** The time in milliseconds within which a store must work again after its database has come back. */
const RECOVERY = 2000

export const failureCases: readonly Case[] = [
  {
    name: 'close can be called twice',
    async run({ store }) {
      await store.create(ID, makeRecord())
      await store.close?.()
      await store.close?.()
    }
  },
  {
    name: 'calls that are in progress when close is called do not hang',
    async run({ store }) {
      await store.create(ID, makeRecord({ data: { n: '0' } }))
      const calls = Array.from({ length: 50 }, (_, index) => callsOf(store, index)).flat()
      const closed = settle(() => store.close?.())
      await Promise.all([...calls, closed])
      assert.equal((await closed).status, 'fulfilled')
    }
  },
  {
    name: 'every method fails while the database is down, and works again when the database is back',
    needs: 'engine failure',
    async run(subject) {
      assert.ok(
        subject.break && subject.mend,
        'makeStore() returned no break() and mend(). If that is intended, give the reason in `unsupported: { "engine failure": … }`'
      )
      const { store } = subject
      const record = makeRecord({ userId: 'ada' })
      await store.create(ID, record)
      const inFlight = callsOf(store, 1)
      await subject.break()
      await Promise.all(inFlight)
      for (const [method, call] of Object.entries(methodsOf(store))) {
        assert.equal((await settle(call)).status, 'rejected', method)
      }
      await subject.mend()
      await waitForRecovery(store)
      assert.equal(await store.create(idOf('after'), record), true)
      assertRecord(await store.get(idOf('after')), record)
    }
  }
]

/** Starts several calls on the store. Returns one promise for each call. None of the promises ever rejects. */
function callsOf(store: SessionStore, index: number): Promise<PromiseSettledResult<unknown>>[] {
  return [
    settle(() => store.get(ID)),
    settle(() => store.update(ID, makePatch({ set: { [`k${index}`]: '1' } }))),
    settle(() => store.create(idOf(`${index}`), makeRecord())),
    settle(() => store.cleanup?.())
  ]
}

function methodsOf(store: SessionStore): Record<string, () => unknown> {
  return {
    get: () => store.get(ID),
    create: () => store.create(idOf('new'), makeRecord()),
    update: () => store.update(ID, makePatch()),
    destroy: () => store.destroy(ID),
    ...(store.listByUser && { listByUser: () => store.listByUser?.('ada') }),
    ...(store.destroyByUser && { destroyByUser: () => store.destroyByUser?.('ada') }),
    ...(store.cleanup && { cleanup: () => store.cleanup?.() })
  }
}

/** Makes one call and returns its outcome as `Promise.allSettled` does. A synchronous throw counts as a rejection. */
async function settle(call: () => unknown): Promise<PromiseSettledResult<unknown>> {
  const [result] = await Promise.allSettled([(async () => call())()])
  return result
}

async function waitForRecovery(store: SessionStore): Promise<void> {
  const until = performance.now() + RECOVERY
  while ((await settle(() => store.get(ID))).status === 'rejected') {
    assert.ok(performance.now() < until, `the store recovers within ${RECOVERY} ms after its engine is back`)
    await delay(10)
  }
}
