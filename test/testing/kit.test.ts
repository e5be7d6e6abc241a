import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { MemoryStore } from '../../plugin/stores/memory.js'
import {
  caseNames,
  testStore,
  wrapStore,
  type MakeStore,
  type TestStoreOptions
} from '../../plugin/testing/index.js'
import { idOf } from '../../plugin/testing/records.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession } from '../../plugin/types.js'
import { withoutVersion } from '../fixtures/stores.js'

const UNSUPPORTED = { 'two processes': 'one process', 'engine failure': 'no engine' }

type Around = Parameters<typeof wrapStore>[1]

/** Faults that are injected into a MemoryStore, each with the names of the cases that must fail because of it. */
const MUTANTS: readonly [fault: string, cases: RegExp, around: (store: MemoryStore) => Around][] = [
  [
    'an update of an absent record creates it',
    /update after destroy|touch after|updating an expired.*real|racing a destroy does not revive/,
    (store) =>
      (method, [id, patch], next) => {
        const answer = next()
        if (method !== 'update' || answer !== 'gone') return answer
        const { set, lastAccessed, expiresAt } = patch as SessionPatch
        return store.create(id as string, {
          version: 1,
          data: set,
          createdAt: 0,
          lastAccessed,
          expiresAt,
          userId: null
        })
          ? 'ok'
          : 'conflict'
      }
  ],
  [
    'an update reads and writes in two steps',
    /\((E4|E5|E7)\)$|same ifVersion/,
    (store) => async (method, args, next) => {
      if (method !== 'update') return next()
      const [id, patch] = args as [string, SessionPatch]
      const record = store.get(id)
      if (record === undefined) return 'gone'
      if (patch.ifVersion !== undefined && patch.ifVersion !== record.version) return 'conflict'
      await nextTurn()
      store.destroy(id)
      store.create(patch.renameTo ?? id, {
        ...record,
        version: record.version + 1,
        data: { ...record.data, ...patch.set }
      })
      return 'ok'
    }
  ],
  [
    'a touch increments the version',
    /not the version|without incrementing/,
    (store) => (method, args, next) => {
      if (method !== 'update') return next()
      const [id, patch] = args as [string, SessionPatch]
      return store.update(id, { ...patch, remove: [...patch.remove, 'no such key'] })
    }
  ],
  [
    'a rename keeps the old record',
    /renameTo moves|renamed many times|one patch can change|\(E12\)/,
    (store) => (method, args, next) => {
      const [id, patch] = args as [string, SessionPatch]
      const before = method === 'update' && patch.renameTo !== undefined ? store.get(id) : undefined
      const answer = next()
      if (before !== undefined) store.create(id, before)
      return answer
    }
  ],
  [
    'a rename overwrites an existing record',
    /renameTo an existing id|a rename and a create/,
    (store) => (method, args, next) => {
      const { renameTo } = (args[1] ?? {}) as Partial<SessionPatch>
      if (method === 'update' && renameTo !== undefined && store.get(args[0] as string))
        store.destroy(renameTo)
      return next()
    }
  ],
  [
    'create overwrites an existing record',
    /false for an existing id|two creates|20 parallel creates/,
    (store) => (method, args, next) => {
      if (method === 'create') store.destroy(args[0] as string)
      return next()
    }
  ],
  [
    'create checks and inserts in two steps',
    /two creates|20 parallel creates/,
    (store) => async (method, args, next) => {
      if (method !== 'create') return next()
      const [id] = args as [string]
      if (store.get(id) !== undefined) return false
      await nextTurn()
      store.destroy(id)
      return next()
    }
  ],
  [
    'create refuses the id of an expired record',
    /create replaces an expired record|parallel creates of the id of an expired record/,
    () => {
      const created = new Set<unknown>()
      return (method, args, next) => {
        if (method !== 'create') return next()
        if (created.has(args[0])) return false
        created.add(args[0])
        return next()
      }
    }
  ],
  [
    'a record without a user belongs to a user called null',
    /belongs to no user/,
    () => (method, args, next) => {
      const record = args[1] as SessionRecord
      if (method === 'create') args[1] = { ...record, userId: String(record.userId) }
      return next()
    }
  ],
  [
    'update ignores ifVersion',
    /wrong ifVersion|\(E7\)$|same ifVersion/,
    (store) => (method, args, next) => {
      if (method !== 'update') return next()
      return store.update(args[0] as string, withoutVersion(args[1] as SessionPatch))
    }
  ],
  [
    'update ignores clear',
    /clear deletes|clear is applied before|one patch can change/,
    (store) => (method, args, next) => {
      if (method !== 'update') return next()
      return store.update(args[0] as string, { ...(args[1] as SessionPatch), clear: false })
    }
  ],
  [
    'expired records are returned',
    /get and destroy treat|exactly at expiresAt|already expired when|expiresAt in the past/,
    () => {
      const later = <T extends { expiresAt: number }>(write: T): T => ({
        ...write,
        expiresAt: write.expiresAt + 9e6
      })
      return (method, args, next) => {
        if (method === 'create' || method === 'update') args[1] = later(args[1] as SessionRecord)
        return next()
      }
    }
  ],
  [
    'records are shared with the caller',
    /mutating an object|returned record does not change/,
    () => {
      const kept = new Map<unknown, SessionRecord>()
      return (method, args, next) => {
        const [id, given] = args as [string, SessionRecord & SessionPatch]
        if (method === 'create') kept.set(id, given)
        if (method === 'update') Object.assign(kept.get(id)?.data ?? {}, given.set)
        return method === 'get' ? kept.get(id) : next()
      }
    }
  ],
  [
    'keys are Unicode-normalized',
    /any string works as a key/,
    () => (method, args, next) => {
      const arg = args[1] as { data?: object; set?: object }
      const field = method === 'create' ? 'data' : 'set'
      if (method === 'create' || method === 'update') args[1] = { ...arg, [field]: normalized(arg[field]) }
      return next()
    }
  ],
  [
    'user ids are lowercased',
    /any string works as a user id/,
    () => (method, args, next) => {
      if (method === 'create') {
        const record = args[1] as SessionRecord
        args[1] = { ...record, userId: record.userId?.toLowerCase() ?? null }
      }
      if (method.endsWith('ByUser')) args[0] = (args[0] as string).toLowerCase()
      return next()
    }
  ],
  [
    'listByUser returns ended sessions',
    /destroyed session is not listed|during listByUser leaves|renamed session is listed only/,
    () => {
      const all = new Map<string, StoredSession>()
      return (method, args, next) => {
        const [id, record] = args as [string, SessionRecord]
        if (method === 'create') all.set(id, { id, record })
        if (method !== 'listByUser') return next()
        return [...all.values()].filter((session) => session.record.userId === id)
      }
    }
  ],
  [
    'destroyByUser ignores `except`',
    /passed as `except`|200 sessions/,
    (store) => (method, args, next) =>
      method === 'destroyByUser' ? store.destroyByUser(args[0] as string) : next()
  ],
  [
    'destroyByUser reads the list first and then destroys the listed sessions',
    /renamed during destroyByUser/,
    (store) => async (method, args, next) => {
      if (method !== 'destroyByUser') return next()
      const listed = store.listByUser(args[0] as string)
      await nextTurn()
      return listed.filter(({ id }) => store.destroy(id)).length
    }
  ],
  [
    'cleanup removes live records',
    /cleanup removes only|cleanup deletes only/,
    (store) => (method, _args, next) => {
      if (method !== 'cleanup') return next()
      return (
        store.size -
        (store.destroyByUser('nobody') + [...everyId(store)].filter((id) => store.destroy(id)).length)
      )
    }
  ],
  [
    'a second close throws',
    /close can be called twice/,
    () => {
      let closed = false
      return (method, _args, next) => {
        if (method === 'close' && closed) throw new Error('closed already')
        closed ||= method === 'close'
        return next()
      }
    }
  ],
  [
    'update throws for an unknown id',
    /absent until it is created|hostile id/,
    () => (method, _args, next) => {
      const answer = next()
      if (method === 'update' && answer === 'gone') throw new Error('not found')
      return answer
    }
  ]
]

/** Returns a memory store with a `close` method, which most stores do not need. */
function closableStore(): MemoryStore & SessionStore {
  return Object.assign(new MemoryStore(), { close: () => undefined })
}

for (const [fault, cases, around] of MUTANTS) {
  void t.test(`the store test kit fails exactly the cases that cover this fault: ${fault}`, async (t) => {
    const names = caseNames({ unsupported: UNSUPPORTED }).run.filter((name) => cases.test(name))
    const failed = await failures(cases, () => {
      const store = closableStore()
      return { store: wrapStore(store, around(store)) }
    })
    t.same(Object.keys(failed), names)
    t.ok(names.length > 0)
  })
}

void t.test('the store test kit fails a store whose updates take quadratic time', async (t) => {
  // A fake clock that advances only during updates.
  let now = 0
  t.intercept(performance, 'now', { value: () => now })
  const failed = await failures(/time in proportion/, () => ({
    store: wrapStore(new MemoryStore(), (method, args, next) => {
      const { set, remove } = method === 'update' ? (args[1] as SessionPatch) : { set: {}, remove: [] }
      now += ((Object.keys(set).length + remove.length) / 1000) ** 2
      return next()
    })
  }))
  t.match(
    Object.values(failed),
    Array(2).fill('16000 keys take 16.0 times as long as 4000: 256 ms instead of 16 ms')
  )
})

void t.test(
  'the store test kit fails a store that hides a database failure or does not recover from one',
  async (t) => {
    // A fake clock that advances whenever it is read.
    let now = 0
    t.intercept(performance, 'now', { value: () => (now += 100) })
    for (const [hidden, lasting] of [
      [true, false],
      [false, true]
    ]) {
      let down = false
      const store = wrapStore(new MemoryStore(), (_method, _args, next) => {
        if (!down) return next()
        if (hidden === true) return undefined
        throw new Error('down')
      })
      const make = () => ({
        store: { ...store, close: () => undefined },
        break: () => (down = true),
        mend: () => (down = lasting === true)
      })
      const failed = await failures(/every method fails while/, make, {})
      t.equal(Object.keys(failed).length, 1)
    }
  }
)

void t.test(
  'if a capability is missing and not declared as missing, a case fails with a message that says what to declare',
  async (t) => {
    const bare: MakeStore = () => {
      const { get, create, update, destroy } = wrapStore(new MemoryStore(), (_method, _args, next) => next())
      return { store: { get, create, update, destroy } }
    }
    for (const [capability, cases] of [
      ['by user', /empty list/],
      ['cleanup', /cleanup removes/],
      ['two processes', /a write by one process/],
      ['engine failure', /every method fails while/]
    ] as const) {
      const messages = Object.values(await failures(cases, bare, {}))
      t.equal(messages.length, 1)
      t.match(messages[0], 'give the reason in `unsupported')
      t.match(messages[0], capability)
      t.same(await failures(cases, bare, { unsupported: { [capability]: 'declared' } }), {})
    }
  }
)

void t.test(
  'a store with only the four required methods passes all cases that are not skipped',
  async (t) => {
    const unsupported = { ...UNSUPPORTED, 'by user': 'no index by user', cleanup: 'expires by itself' }
    const make: MakeStore = () => {
      const { get, create, update, destroy } = wrapStore(new MemoryStore(), (_method, _args, next) => next())
      return { store: { get, create, update, destroy } }
    }
    t.same(await failures(/./, make, { unsupported }), {})
  }
)

void t.test('caseNames() lists the skipped cases with their reasons', async (t) => {
  const all = caseNames()
  t.same(all.skipped, [])
  t.equal(new Set(all.run).size, all.run.length, 'every name is unique')
  const { run, skipped } = caseNames({ unsupported: UNSUPPORTED })
  t.equal(run.length + skipped.length, all.run.length)
  t.match(skipped[0], { reason: 'engine failure: no engine' })
})

void t.test('if a case fails, its store is still closed and teardown() is still called', async (t) => {
  const done: string[] = []
  await failures(/returns every field of a created record/, () => ({
    store: wrapStore(closableStore(), (method) => {
      done.push(method)
      return undefined
    }),
    teardown: () => done.push('teardown')
  }))
  t.same(done, ['create', 'close', 'teardown'])
})

void t.test('the store test kit runs under node:test', async (t) => {
  const file = fileURLToPath(new URL('../fixtures/kit-node-test.ts', import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, '--test-reporter=tap', file])
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  const [code] = (await once(child, 'close')) as [number]
  const { run, skipped } = caseNames({ unsupported: UNSUPPORTED })
  t.equal(code, 0, output.slice(-500))
  t.match(output, `# pass ${run.length}\n`)
  t.match(output, `# skipped ${skipped.length}\n`)
})

/** Runs the cases whose names match `cases`. Returns the error message of each failed case, by case name. */
async function failures(
  cases: RegExp,
  make: MakeStore,
  options: TestStoreOptions = { unsupported: UNSUPPORTED }
): Promise<Record<string, string>> {
  const bodies: [string, () => Promise<void>][] = []
  testStore(
    'x',
    make,
    (name, { skip }, body) => {
      if (skip === false && cases.test(name)) bodies.push([name.slice(3), body])
    },
    options
  )
  const failed: Record<string, string> = {}
  for (const [name, body] of bodies) {
    await body().catch((error: unknown) => (failed[name] = (error as Error).message))
  }
  return failed
}

function normalized(texts: object = {}): object {
  const entries = Object.entries(texts as Record<string, string>)
  return Object.fromEntries(entries.map(([key, text]) => [key.normalize(), text]))
}

/** Yields the ids of all sessions that the cleanup cases of the kit have created. */
function* everyId(store: SessionStore): Generator<string> {
  for (const name of ['one', 'a', 'b', 'c', ...Array.from({ length: 80 }, (_, index) => `id ${index}`)]) {
    const id = idOf(name)
    if (store.get(id) !== undefined) yield id
  }
}
