import t from 'tap'
import { MemoryStore, type SessionPatch, type SessionStore } from '../../plugin/index.js'
import { makeRecord, withoutVersion } from '../fixtures/stores.js'
import { exploreAll } from './fixtures/explore.js'
import { violationOrThrow } from './fixtures/run.js'
import { setStage } from './fixtures/stage.js'

// Checks that the schedule explorer detects stores that break the store contract.

interface Fault {
  /** The names of the concurrent operations that expose the fault. */
  readonly names: readonly string[]
  /** A pattern for the violation that the explorer must report. */
  readonly breaks: RegExp
  readonly wrong: (store: SessionStore) => Partial<SessionStore>
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'an update that inserts a missing record': {
    names: ['set a', 'logout'],
    breaks: /^resurrection: A is live/,
    wrong: (store) => ({
      async update(id, patch) {
        const result = await store.update(id, patch)
        if (result !== 'gone' || patch.renameTo !== undefined) return result
        await store.create(id, makeRecord({ data: patch.set, expiresAt: patch.expiresAt }))
        return 'ok'
      }
    })
  },
  'a rotation that inserts a missing record': {
    names: ['rotate', 'revoke'],
    breaks: /^resurrection: B is live/,
    wrong: (store) => ({
      async update(id, patch) {
        const result = await store.update(id, patch)
        if (result !== 'gone' || patch.renameTo === undefined) return result
        await store.create(patch.renameTo, makeRecord({ data: patch.set, expiresAt: patch.expiresAt }))
        return 'ok'
      }
    })
  },
  'a rotation that keeps the old record': {
    names: ['rotate', 'read'],
    breaks: /^fork: one session is live as A and B/,
    wrong: (store) => ({
      async update(id, patch) {
        const before = patch.renameTo === undefined ? undefined : await store.get(id)
        const result = await store.update(id, patch)
        if (before !== undefined) await store.create(id, before)
        return result
      }
    })
  },
  'an update that overwrites the whole record': {
    names: ['set a', 'set b'],
    breaks: /^lost change: A has /,
    wrong: (store) => ({
      async update(id, patch) {
        const before = await store.get(id)
        const whole: SessionPatch = { ...patch, clear: true, set: { ...before?.data, ...patch.set } }
        return store.update(id, whole)
      }
    })
  },
  'an update that ignores the version': {
    names: ['add', 'add'],
    breaks: /^lost change: A has /,
    wrong: (store) => ({
      update: (id, patch) => store.update(id, withoutVersion(patch))
    })
  },
  'a destroy that returns the result of an earlier read': {
    names: ['logout', 'start over'],
    breaks: /^lost cookie: B is live/,
    wrong: (store) => ({
      async destroy(id) {
        const was = (await store.get(id)) !== undefined
        await store.destroy(id)
        return was
      }
    })
  },
  'a destroyByUser that destroys nothing': {
    names: ['revoke all', 'set a'],
    breaks: /^resurrection: A is live/,
    wrong: () => ({ destroyByUser: () => 1 })
  }
}

for (const [name, { names, breaks, wrong }] of Object.entries(FAULTS)) {
  void t.test(`the explorer detects ${name} and reports the steps that led to it`, async (t) => {
    const fault = (store: SessionStore): SessionStore => ({ ...store, ...wrong(store) })
    const stage = await setStage(t, { store: new MemoryStore(), fault })
    const broken = await exploreAll(() => stage.begin(names)).then(() => undefined, violationOrThrow)
    t.match(broken?.message, breaks)
    t.comment([broken?.message, ...(broken?.schedule ?? [])].join('\n'))
    for (const line of broken?.schedule ?? []) t.match(line, /^\d+\. request [12] \([a-z ]+\): /)
    t.ok((broken?.schedule.length ?? 0) > 1, 'the schedule has more than one step')
  })
}
