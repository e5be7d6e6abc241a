import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { MemoryStore, type SessionPatch } from '../../plugin/index.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { listen } from '../fixtures/diagnostics.js'
import { collectGarbage } from '../fixtures/garbage.js'
import { makeRecord } from '../fixtures/stores.js'
import { makeRandom } from '../soak/fixtures/random.js'

const HOUR = 3_600_000

/** Returns a patch that makes a session expire one hour from now. The given fields replace the defaults. */
function makePatch(patch: Partial<SessionPatch> = {}): SessionPatch {
  const now = Date.now()
  return { set: {}, remove: [], lastAccessed: now, expiresAt: now + HOUR, ...patch }
}

/** Creates a store that contains sessions with the given ids, created in the given order. */
function makeStore(ids: readonly string[], options = {}): MemoryStore {
  const store = new MemoryStore(options)
  for (const id of ids) store.create(id, makeRecord({ expiresAt: Date.now() + HOUR }))
  return store
}

const idsOf = (store: MemoryStore, userId: string) => store.listByUser(userId).map(({ id }) => id)

void t.test('maxSessions must be a whole number above 0', async (t) => {
  for (const maxSessions of [0, -1, 1.5, NaN, Infinity, '7', null]) {
    t.throws(() => new MemoryStore({ maxSessions } as never), {
      code: 'SESSION_OPTION_INVALID',
      option: 'maxSessions',
      message: /a whole number above 0/
    })
  }
  t.equal(new MemoryStore({ maxSessions: 1 }).size, 0)
})

void t.test(
  'a full store evicts the oldest session that has not been used recently, and reports its id',
  async (t) => {
    const evicted = listen(t, 'evicted')
    const store = makeStore(['a', 'b', 'c'], { maxSessions: 3 })
    store.create('d', makeRecord())
    t.same(evicted, [{ id: 'a' }])
    store.get('b')
    store.create('e', makeRecord())
    t.same(evicted.splice(1), [{ id: 'c' }], 'a session that was read is spared')
    store.update('d', makePatch())
    store.create('f', makeRecord())
    t.same(evicted.splice(1), [{ id: 'b' }], 'a session that was written is spared, and each use spares once')
    store.create('g', makeRecord())
    t.same(evicted.splice(1), [{ id: 'e' }])
    store.update('d', makePatch({ renameTo: 'h' }))
    store.destroy('f')
    store.create('i', makeRecord())
    store.create('j', makeRecord())
    t.same(
      evicted.splice(1),
      [{ id: 'g' }],
      'a renamed session is new, and a destroyed session is not counted'
    )
    t.equal(store.size, 3)
    t.same(
      ['h', 'i', 'j'].map((id) => store.get(id) !== undefined),
      [true, true, true]
    )
  }
)

void t.test(
  'a recently used session is not evicted, even if it is old or another session is destroyed',
  async (t) => {
    for (const used of ['a', 'b', 'c']) {
      for (const gone of ['a', 'b', 'c'].filter((id) => id !== used)) {
        const evicted = listen(t, 'evicted')
        const store = makeStore(['a', 'b', 'c'], { maxSessions: 3 })
        store.get(used)
        store.destroy(gone)
        const unused = ['a', 'b', 'c'].find((id) => id !== used && id !== gone)
        for (const id of ['x', 'y', 'z']) store.create(id, makeRecord())
        t.same(evicted, [{ id: unused }, { id: 'x' }], `${used} was used, ${gone} destroyed`)
        t.ok(store.get(used))
      }
    }
  }
)

void t.test('an eviction skips at most 100 recently used sessions and evicts the next one', async (t) => {
  const ids = Array.from({ length: 300 }, (_, n) => `${n}`)
  const store = makeStore(ids, { maxSessions: 300 })
  for (const id of ids) store.get(id)
  const evicted = listen(t, 'evicted')
  store.create('new', makeRecord())
  t.same(evicted, [{ id: '100' }])
})

const present = (store: MemoryStore, ids: readonly string[]) =>
  ids.filter((id) => store.get(id) !== undefined)

void t.test(
  'a full store evicts sessions without a user first, however recently they were used',
  async (t) => {
    const store = new MemoryStore({ maxSessions: 4 })
    for (const id of ['a', 'b']) store.create(id, makeRecord({ userId: 'ada' }))
    for (const id of ['x', 'y']) store.create(id, makeRecord())
    const evicted = listen(t, 'evicted')
    store.get('x')
    store.create('c', makeRecord({ userId: 'ada' }))
    t.same(evicted, [{ id: 'y' }], 'among the sessions without a user, one that was used is spared')
    store.create('d', makeRecord({ userId: 'ada' }))
    t.same(evicted.splice(1), [{ id: 'x' }])
    t.same(idsOf(store, 'ada').sort(), ['a', 'b', 'c', 'd'])
  }
)

void t.test('F5: a crowd of visitors who set data evicts no user who is signed in', async (t) => {
  const store = new MemoryStore({ maxSessions: 100 })
  const app = addRoutes(await makeApp(t, { store }))
  app.get('/who', async ({ session }) => session.get('userId') ?? 'nobody')
  const users = Array.from({ length: 99 }, () => new Browser(app))
  for (const user of users) await user.get('/login')
  for (let visit = 0; visit < 2000; visit++) {
    const visitor = new Browser(app)
    await visitor.get(`/set?name=eve${visit}`)
    const { name } = (await visitor.get('/read')).json<{ name: string }>()
    if (name !== `eve${visit}`) t.fail(`the session of visitor ${visit} did not survive its own creation`)
  }
  t.equal(store.listByUser('ada').length, 99)
  for (const user of users) t.equal((await user.get('/who')).body, 'ada')
})

void t.test('F5: 200,000 sessions without a user evict none of 10,000 with a user', async (t) => {
  const store = new MemoryStore()
  const ids = Array.from({ length: 10_000 }, (_, index) => `user ${index}`)
  for (const id of ids) store.create(id, makeRecord({ userId: id }))
  const visitor = makeRecord()
  let survivors = 0
  for (let visit = 0; visit < 200_000; visit++) {
    store.create(`visit ${visit}`, visitor)
    if (store.get(`visit ${visit}`) !== undefined) survivors++
  }
  t.equal(survivors, 200_000, 'each new session survives its own creation')
  t.equal(store.size, 100_000)
  t.equal(present(store, ids).length, 10_000)
})

void t.test('a new session is never evicted by its own creation', async (t) => {
  const evicted = listen(t, 'evicted')
  const store = new MemoryStore({ maxSessions: 2 })
  for (const id of ['a', 'b']) store.create(id, makeRecord({ userId: 'ada' }))
  store.create('x', makeRecord())
  t.same(evicted, [{ id: 'a' }], 'a user is evicted if the new session is the only one without a user')
  store.create('y', makeRecord())
  t.same(evicted.splice(1), [{ id: 'x' }], 'the next session without a user replaces it')
  const busy = makeStore(['a', 'b'], { maxSessions: 2 })
  t.same(present(busy, ['a', 'b']), ['a', 'b'], 'every session is now a used one')
  busy.create('c', makeRecord())
  t.same(present(busy, ['a', 'b', 'c']), ['b', 'c'])
})

void t.test('a session that gains or loses its user is evicted with those of its new kind', async (t) => {
  const evicted = listen(t, 'evicted')
  const store = makeStore(['a', 'b', 'c', 'd'], { maxSessions: 4 })
  store.update('a', makePatch({ userId: 'ada' }))
  store.update('b', makePatch({ userId: 'bob', renameTo: 'b2' }))
  store.update('c', makePatch({ userId: 'eve' }))
  store.update('c', makePatch({ userId: null }))
  for (const id of ['e', 'f']) store.create(id, makeRecord({ userId: 'carol' }))
  t.same(evicted, [{ id: 'd' }, { id: 'c' }])
  t.same(present(store, ['a', 'b2', 'e', 'f']), ['a', 'b2', 'e', 'f'])
  store.update('e', makePatch({ userId: null, renameTo: 'e2' }))
  store.create('g', makeRecord({ userId: 'dave' }))
  t.same(evicted.splice(2), [{ id: 'e2' }])
})

void t.test('an eviction takes as long after 150,000 evictions as at first', async (t) => {
  const timeOf = (store: MemoryStore) => {
    const start = performance.now()
    fill(store, 150_000, Date.now() + HOUR)
    return performance.now() - start
  }
  const store = new MemoryStore({ maxSessions: 100_000 })
  fill(store, 100_000, Date.now() + 2 * HOUR)
  const evicting = timeOf(store)
  const growing = timeOf(new MemoryStore({ maxSessions: 150_000 }))
  t.equal(store.size, 100_000)
  t.ok(evicting < 15 * growing, `${Math.round(evicting)} ms with evictions, ${Math.round(growing)} without`)
})

void t.test('a full store evicts a session even if the diagnostics channel has no subscriber', async (t) => {
  const store = makeStore(['a', 'b'], { maxSessions: 1 })
  t.equal(store.size, 1)
  t.equal(store.get('a'), undefined)
})

void t.test('a browser whose session was evicted is signed out', async (t) => {
  const app = addRoutes(await makeApp(t, { store: new MemoryStore({ maxSessions: 1 }) }))
  const [ada, eve] = [new Browser(app), new Browser(app)]
  await ada.get('/set?name=ada')
  await eve.get('/set?name=eve')
  t.same((await ada.get('/read')).json(), { name: null })
  t.same((await eve.get('/read')).json(), { name: 'eve' })
})

void t.test(
  'returned records are frozen, and later changes to the objects that a caller passed do not affect the store',
  async (t) => {
    const store = new MemoryStore()
    const data: Record<string, string> = { name: '"ada"' }
    const record = makeRecord({ data })
    store.create('a', record)
    t.equal(Object.isFrozen(store.get('a')?.data), true)
    const set: Record<string, string> = { color: '"red"' }
    store.update('a', makePatch({ set }))
    const handedOut = store.get('a')
    data['name'] = set['color'] = '"eve"'
    t.equal(Object.isFrozen(handedOut?.data), true)
    t.same({ ...handedOut?.data }, { name: '"ada"', color: '"red"' })
    t.throws(() => Object.assign(handedOut as object, { userId: 'eve', version: 7 }), TypeError)
    t.match(store.get('a'), { userId: null, version: 2 })
    t.throws(() => Object.assign(store.get('a')?.data as object, { name: '"eve"' }), TypeError)
    t.equal(Object.isFrozen(record), false, 'the caller can still change its own record')
  }
)

void t.test('a request does not see in-place changes by another request', async (t) => {
  const app = await makeApp(t)
  app.get('/make', async ({ session }) => session.set('user', { tags: ['a'] }) ?? 'made')
  const seen: unknown[] = []
  let release = () => undefined as void
  const released = new Promise<void>((resolve) => (release = resolve))
  app.get('/hold', async ({ session }) => {
    const user = session.get('user') as { tags: string[] }
    await released
    seen.push([...user.tags], session.get('user'))
    return 'held'
  })
  app.get('/change', async ({ session }) => {
    const user = session.get('user') as { tags: string[] }
    user.tags.push('b')
    return 'changed'
  })
  const browser = new Browser(app)
  await browser.get('/make')
  const held = browser.get('/hold').then((response) => response.statusCode)
  await browser.get('/change')
  release()
  t.equal(await held, 200)
  t.same(seen, [['a'], { tags: ['a'] }])
})

void t.test(
  'a patch that changes data adds 1 to the version, and any other patch leaves version and data unchanged',
  async (t) => {
    const store = makeStore(['a'])
    const versionAfter = (patch: Partial<SessionPatch>) => {
      t.equal(store.update('a', makePatch(patch)), 'ok')
      return store.get('a')?.version
    }
    const before = store.get('a')?.data
    t.equal(versionAfter({}), 1)
    t.equal(versionAfter({ userId: 'ada', createdAt: 7 }), 1)
    t.equal(store.get('a')?.data, before)
    t.match(store.get('a'), { userId: 'ada', createdAt: 7 })
    t.equal(versionAfter({ set: { a: '1' } }), 2)
    t.equal(versionAfter({ remove: ['a'] }), 3)
    t.equal(versionAfter({ clear: true }), 4)
    t.same(Object.keys(store.get('a')?.data ?? { none: 1 }), [])
    t.match(store.get('a'), { userId: 'ada', createdAt: 7 }, 'properties outside the patch do not change')
  }
)

void t.test('every string can be a key, even __proto__, which does not pollute any prototype', async (t) => {
  const store = makeStore([])
  const keys = ['__proto__', 'constructor', 'toString', '', '$x']
  for (const id of keys) {
    const data = Object.fromEntries(keys.map((key) => [key, '{"admin":true}']))
    t.equal(store.get(id), undefined)
    t.equal(store.create(id, makeRecord({ data, userId: id })), true)
    store.update(id, makePatch({ set: Object.fromEntries(keys.map((key) => [key, '1'])) }))
    t.same(
      Object.entries(store.get(id)?.data ?? {}),
      keys.map((key) => [key, '1'])
    )
    store.update(id, makePatch({ remove: keys.slice(1) }))
    t.same(Object.keys(store.get(id)?.data ?? {}), ['__proto__'])
    t.same(idsOf(store, id), [id])
  }
  t.notOk('admin' in {})
})

void t.test('every method treats an expired session as absent', async (t) => {
  const clock = stopClock(t)
  const past = { expiresAt: clock.start + 10, userId: 'ada' }
  const calls: Record<string, [work: (store: MemoryStore) => unknown, wanted: unknown]> = {
    get: [(store) => store.get('a'), undefined],
    update: [(store) => store.update('a', makePatch()), 'gone'],
    destroy: [(store) => store.destroy('a'), false],
    listByUser: [(store) => store.listByUser('ada'), []],
    destroyByUser: [(store) => store.destroyByUser('ada'), 0],
    create: [(store) => store.create('a', makeRecord({ userId: 'eve' })), true]
  }
  for (const [name, [work, wanted]] of Object.entries(calls)) {
    const store = new MemoryStore()
    const { expiresAt } = { expiresAt: Date.now() + 10 }
    store.create('a', makeRecord({ ...past, expiresAt }))
    clock.move(9)
    t.equal(store.listByUser('ada').length, 1, `${name}: the session is live 1 ms before it expires`)
    clock.move(1)
    t.same(work(store), wanted, name)
    t.same(idsOf(store, 'ada'), [])
    t.equal(store.size, name === 'create' ? 1 : 0, `${name} removes the expired session`)
  }
})

void t.test('listByUser() and destroyByUser() find and end the sessions of one user', async (t) => {
  const store = new MemoryStore()
  for (const id of ['a', 'b', 'c']) store.create(id, makeRecord({ userId: 'ada' }))
  store.create('d', makeRecord({ userId: 'eve' }))
  store.create('e', makeRecord())
  t.same(idsOf(store, 'ada').sort(), ['a', 'b', 'c'])
  t.same(store.listByUser('ada')[0]?.record, store.get(idsOf(store, 'ada')[0] ?? ''))
  t.same(idsOf(store, 'nobody'), [])
  t.equal(store.destroyByUser('ada', 'b'), 2)
  t.same(idsOf(store, 'ada'), ['b'])
  t.equal(store.destroyByUser('ada', 'unknown'), 1)
  t.equal(store.destroyByUser('ada'), 0)
  t.same([store.size, idsOf(store, 'eve')], [2, ['d']])
})

void t.test(
  'the index of sessions by user is correct after a rename, a change of user, a destroy and an eviction',
  async (t) => {
    const store = new MemoryStore({ maxSessions: 2 })
    store.create('a', makeRecord({ userId: 'ada' }))
    store.update('a', makePatch({ renameTo: 'b' }))
    t.same(idsOf(store, 'ada'), ['b'])
    store.update('b', makePatch({ userId: 'eve' }))
    t.same([idsOf(store, 'ada'), idsOf(store, 'eve')], [[], ['b']])
    store.update('b', makePatch({ userId: 'bob', renameTo: 'c' }))
    t.same([idsOf(store, 'eve'), idsOf(store, 'bob')], [[], ['c']])
    store.update('c', makePatch({ set: { x: '1' } }))
    t.same(idsOf(store, 'bob'), ['c'])
    store.update('c', makePatch({ userId: null }))
    t.same(idsOf(store, 'bob'), [])
    store.update('c', makePatch({ userId: 'ada' }))
    store.create('d', makeRecord({ userId: 'ada' }))
    store.create('e', makeRecord({ userId: 'ada' }))
    t.same(idsOf(store, 'ada').sort(), ['d', 'e'], 'the evicted session is not listed')
    store.destroy('d')
    store.destroy('e')
    t.same([idsOf(store, 'ada'), store.size], [[], 0])
  }
)

void t.test('E1 to E4, E8, E9: no write revives a session or replaces another session', async (t) => {
  const store = makeStore(['a', 'b', 'c', 'd'])
  store.destroy('a')
  t.equal(store.update('a', makePatch({ set: { x: '1' } })), 'gone', 'E1')
  t.equal(store.update('a', makePatch()), 'gone', 'E2')
  t.equal(store.update('a', makePatch({ renameTo: 'z' })), 'gone', 'E3')
  t.same([store.get('a'), store.get('z'), store.destroy('a')], [undefined, undefined, false])
  t.equal(store.update('b', makePatch({ renameTo: 'y' })), 'ok', 'E4')
  t.equal(store.update('b', makePatch({ renameTo: 'x' })), 'gone')
  t.same([store.get('b'), store.get('x'), store.get('y')?.version], [undefined, undefined, 1])
  const before = store.get('c')
  t.equal(store.create('c', makeRecord({ data: { name: '"eve"' } })), false, 'E8')
  t.equal(store.update('d', makePatch({ renameTo: 'c', set: { name: '"eve"' } })), 'conflict')
  t.same(store.get('c'), before)
  t.match(store.get('d'), { version: 1 })
  store.update('c', makePatch({ userId: 'ada' }))
  store.update('d', makePatch({ userId: 'ada' }))
  for (const { id } of store.listByUser('ada')) store.destroy(id)
  t.same([idsOf(store, 'ada'), store.destroyByUser('ada')], [[], 0], 'E9')
})

void t.test(
  'E5 to E7: changes to different keys merge, the last change to a key wins, and a stale version causes a conflict',
  async (t) => {
    const store = makeStore(['a'])
    store.update('a', makePatch({ set: { x: '1' } }))
    store.update('a', makePatch({ set: { y: '1' }, remove: ['name'] }))
    t.same({ ...store.get('a')?.data }, { x: '1', y: '1' }, 'E5')
    store.update('a', makePatch({ set: { x: '{"b":2}' } }))
    t.same({ ...store.get('a')?.data }, { x: '{"b":2}', y: '1' }, 'E6')
    const ifVersion = store.get('a')?.version as number
    t.equal(store.update('a', makePatch({ set: { n: '1' }, ifVersion })), 'ok', 'E7')
    t.equal(store.update('a', makePatch({ set: { n: '1' }, ifVersion })), 'conflict')
    t.equal(store.update('a', makePatch({ renameTo: 'b', ifVersion })), 'conflict')
    t.match(store.get('a'), { version: ifVersion + 1, data: { n: '1' } })
    store.update('a', makePatch({ clear: true, set: { z: '1' } }))
    t.same({ ...store.get('a')?.data }, { z: '1' }, 'clear is applied before set')
  }
)

/** Counts the turns of the event loop until `work` is done, and calls `each` in every turn. */
async function countTurns<T>(work: Promise<T>, each: () => void = () => undefined) {
  const state = { isDone: false, turns: 0 }
  void work.finally(() => (state.isDone = true))
  for (await nextTurn(); !state.isDone; await nextTurn()) {
    state.turns++
    each()
  }
  return { turns: state.turns, result: await work }
}

function fill(store: MemoryStore, count: number, expiresAt: number): void {
  const record = makeRecord({ expiresAt })
  for (let n = 0; n < count; n++) store.create(`${expiresAt}-${n}`, record)
}

void t.test('a sweep of 200,000 sessions regularly yields to the event loop', async (t) => {
  const clock = stopClock(t)
  const store = new MemoryStore({ maxSessions: 200_000 })
  fill(store, 100_000, clock.start + 5)
  fill(store, 100_000, clock.start + 6)
  clock.move(5)
  const { turns, result } = await countTurns(store.cleanup())
  t.equal(result, 100_000)
  t.equal(store.size, 100_000)
  t.ok(turns >= 150, `${turns} turns`)
})

void t.test(
  'a sweep finishes even if sessions are created and changed meanwhile, and it removes only expired sessions',
  async (t) => {
    const clock = stopClock(t)
    const store = new MemoryStore()
    fill(store, 5000, clock.start + 5)
    fill(store, 5000, clock.start + HOUR)
    const living = Array.from({ length: 5000 }, (_, n) => `${clock.start + HOUR}-${n}`)
    clock.move(5)
    let count = 0
    const stop = new AbortController()
    const { turns, result } = await countTurns(store.cleanup(stop.signal), () => {
      for (let n = 0; n < 1500; n++) {
        const id = living[count % living.length] as string
        if (count % 3 === 0) store.update(id, makePatch({ set: { n: String(count) } }))
        if (count % 3 === 1) {
          const renameTo = `renamed-${count}`
          if (store.update(id, makePatch({ renameTo })) === 'ok') living[count % living.length] = renameTo
        }
        if (count % 3 === 2) store.create(`new-${count}`, makeRecord({ expiresAt: clock.start + HOUR }))
        count++
      }
      if (count > 1_000_000) stop.abort()
    })
    t.equal(result, 5000)
    t.ok(turns <= 200, `${turns} turns, although more sessions are used than the sweep looks at`)
    t.same(
      living.filter((id) => store.get(id) === undefined),
      []
    )
  }
)

void t.test('a sweep skips sessions that are destroyed during the sweep', async (t) => {
  const clock = stopClock(t)
  const store = new MemoryStore()
  fill(store, 3000, clock.start + 5)
  clock.move(5)
  const sweep = store.cleanup()
  let destroyed = 0
  // destroy() returns false for an expired session, but still removes it.
  for (let n = 1000; n < 3000; n++) {
    const before = store.size
    store.destroy(`${clock.start + 5}-${n}`)
    destroyed += before - store.size
  }
  t.ok(destroyed > 1000)
  t.equal((await sweep) + destroyed, 3000)
  t.equal(store.size, 0)
  t.equal(await store.cleanup(), 0)
})

void t.test(
  'once its signal aborts, a sweep stops and leaves no timer, and a later sweep works',
  async (t) => {
    const clock = stopClock(t)
    const store = new MemoryStore()
    store.create('a', makeRecord({ expiresAt: clock.start + HOUR }))
    fill(store, 5000, clock.start + 5)
    clock.move(5)
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
    const before = timers()
    const stop = new AbortController()
    const sweep = store.cleanup(stop.signal)
    stop.abort()
    const swept = await sweep
    t.ok(swept > 0 && swept <= 250, `${swept} sessions of the first slice`)
    t.equal(store.size, 5001 - swept)
    t.ok(store.get('a'))
    t.equal(timers(), before)
    t.equal(await store.cleanup(), 5000 - swept)
  }
)

void t.test('for 60,000 random calls, the store returns what a simple list would return', async (t) => {
  const dice = makeDice(60_000)
  const store = new MemoryStore({ maxSessions: 500 })
  const model = new EvictingList(500)
  const wrong: string[] = []
  for (let step = 0; step < 60_000; step++) {
    const id = `${dice(1000)}`
    const isKnown = model.has(id)
    const userId = dice(2) === 0 ? null : `user ${dice(50)}`
    const call = dice(5)
    if (call === 0 && store.create(id, makeRecord({ userId })) === isKnown) wrong.push(id)
    if (call === 1 && (store.get(id) !== undefined) !== isKnown) wrong.push(id)
    if (call === 2 && (store.update(id, makePatch()) === 'ok') !== isKnown) wrong.push(id)
    if (call === 3 && store.destroy(id) !== isKnown) wrong.push(id)
    if (call === 4 && (store.update(id, makePatch({ userId })) === 'ok') !== isKnown) wrong.push(id)
    if (call === 0 && !isKnown) model.add(id, userId)
    if (call === 1 || call === 2) model.use(id)
    if (call === 3) model.remove(id)
    if (call === 4 && isKnown) model.assign(id, userId)
  }
  t.same(wrong, [])
  t.equal(store.size, model.ids.length)
  const listed = Array.from({ length: 50 }, (_, user) => idsOf(store, `user ${user}`)).flat()
  t.same(listed.sort(), model.signedIn.sort(), 'the index by user has the same sessions')
  t.same(present(store, model.ids).length, store.size, 'the store has the same sessions')
})

interface ListEntry {
  readonly id: string
  readonly userId: string | null
  used: boolean
}

/** A simple list with the same eviction rule as the store. The test compares the store with this list. */
class EvictingList {
  #entries: ListEntry[] = []
  readonly #maxLength: number

  constructor(maxLength: number) {
    this.#maxLength = maxLength
  }

  get ids(): string[] {
    return this.#entries.map(({ id }) => id)
  }

  get signedIn(): string[] {
    return this.#entries.filter(({ userId }) => userId !== null).map(({ id }) => id)
  }

  has(id: string): boolean {
    return this.#entries.some((entry) => entry.id === id)
  }

  use(id: string): void {
    for (const entry of this.#entries) if (entry.id === id) entry.used = true
  }

  remove(id: string): void {
    this.#entries = this.#entries.filter((entry) => entry.id !== id)
  }

  assign(id: string, userId: string | null): void {
    if (this.#entries.find((entry) => entry.id === id)?.userId === userId) return this.use(id)
    this.remove(id)
    this.#entries.push({ id, userId, used: false })
  }

  add(id: string, userId: string | null): void {
    for (let spared = 0; this.#entries.length === this.#maxLength;) {
      const entry = (this.#entries.find(({ userId }) => userId === null) ?? this.#entries[0]) as ListEntry
      this.remove(entry.id)
      if (entry.used && spared++ < 100) this.#entries.push({ ...entry, used: false })
    }
    this.#entries.push({ id, userId, used: false })
  }
}

function makeDice(seed: number): (sides: number) => number {
  const random = makeRandom(seed)
  return (sides) => Math.floor(random() * sides)
}

void t.test('the record of a destroyed session can be garbage-collected', async (t) => {
  const store = new MemoryStore()
  const createAndDestroy = (): WeakRef<object> => {
    store.create('a', makeRecord({ userId: 'ada' }))
    const seen = new WeakRef(store.get('a') as object)
    store.destroy('a')
    return seen
  }
  const seen = createAndDestroy()
  await nextTurn()
  collectGarbage()
  t.equal(seen.deref(), undefined)
})
