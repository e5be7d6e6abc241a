import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionStore } from '../../types.js'
import { assertRecord, idOf, makePatch, makeRecord } from '../records.js'
import type { Case } from '../store.js'

const ID = idOf('one')
/** Milliseconds within which a store must work again once its engine is back. */
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
    name: 'close leaves no concurrent call pending',
    async run({ store }) {
      await store.create(ID, makeRecord({ data: { n: '0' } }))
      const calls = Array.from({ length: 50 }, (_, index) => callsOf(store, index)).flat()
      const closed = settle(() => store.close?.())
      await Promise.all([...calls, closed])
      assert.equal((await closed).status, 'fulfilled')
    }
  },
  {
    name: 'every method fails while the engine is down and works again once it is back',
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

/** Starts several calls and settles each one. */
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

/** Like `Promise.allSettled` for one call; also catches a synchronous throw. */
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
