import t from 'tap'
import { MemoryStore, type SessionOptions, type SessionPatch, type SessionStore } from '../../plugin/index.js'
import { makeRecord, withoutVersion } from '../fixtures/stores.js'
import { exploreAll } from './fixtures/explore.js'
import { isLock } from './fixtures/gate.js'
import { violationOrThrow } from './fixtures/run.js'
import { setStage } from './fixtures/stage.js'

// Checks that the schedule explorer detects stores that break the store contract.

interface Fault {
  /** The names of the concurrent operations that expose the fault. */
  readonly names: readonly string[]
  /** A pattern for the violation that the explorer must report. */
  readonly breaks: RegExp
  readonly wrong: (store: SessionStore) => Partial<SessionStore>
  /** The options of the app. */
  readonly options?: Partial<SessionOptions>
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
  'a destroy that destroys nothing': {
    names: ['revoke all', 'set a'],
    breaks: /^resurrection: A is live/,
    wrong: () => ({ destroy: () => true })
  },
  'an update that keeps the data of the user before': {
    names: ['login bob', 'read'],
    breaks: /^leak: B of bob has \["name","ada"\]/,
    wrong: (store) => ({
      update: (id, patch) => store.update(id, { ...patch, clear: false })
    })
  },
  'a rotation that starts the clocks again': {
    names: ['rotate', 'read'],
    breaks: /^wrong time: B was created at /,
    wrong: (store) => ({
      update: (id, patch) => store.update(id, { createdAt: Date.now(), ...patch })
    })
  },
  'a login that starts no clock': {
    names: ['remember bob', 'read'],
    breaks: /^wrong time: B was created at /,
    wrong: (store) => ({
      update(id, patch) {
        const copy = { ...patch }
        Reflect.deleteProperty(copy, 'createdAt')
        return store.update(id, copy)
      }
    })
  },
  'a lock that two sign-ins can hold': {
    names: ['sign in', 'sign in'],
    breaks: /^dead cookie: request 1 \(sign in\) got 200, but its session was ended by request 2/,
    options: { maxSessionsPerUser: 1 },
    wrong: (store) => ({
      async create(id, record) {
        return isLock(record) || (await store.create(id, record))
      }
    })
  },
  'a list that misses a session': {
    names: ['sign in', 'read'],
    breaks: /^limit: ada has 2 sessions/,
    options: { maxSessionsPerUser: 1 },
    wrong: () => ({ listByUser: () => [] })
  }
}

for (const [name, { names, breaks, wrong, options = {} }] of Object.entries(FAULTS)) {
  void t.test(`the explorer detects ${name} and reports the steps that led to it`, async (t) => {
    const fault = (store: SessionStore): SessionStore => ({ ...store, ...wrong(store) })
    const stage = await setStage(t, { store: new MemoryStore(), fault, options, processes: 2 })
    const broken = await exploreAll(() => stage.begin(names)).then(() => undefined, violationOrThrow)
    t.match(broken?.message, breaks)
    t.comment([broken?.message, ...(broken?.schedule ?? [])].join('\n'))
    for (const line of broken?.schedule ?? []) t.match(line, /^\d+\. request [12] \([a-z ]+\): /)
    t.ok((broken?.schedule.length ?? 0) > 1, 'the schedule has more than one step')
  })
}
