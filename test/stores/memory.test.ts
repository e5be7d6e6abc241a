import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { MemoryStore, type SessionPatch } from '../../plugin/index.js'
import { addRoutes, Browser, makeApp } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { listen } from '../fixtures/diagnostics.js'
import { makeRecord } from '../fixtures/stores.js'

const HOUR = 3_600_000

/** A patch that is a touch, but for what is given. */
function makePatch(patch: Partial<SessionPatch> = {}): SessionPatch {
  const now = Date.now()
  return { set: {}, remove: [], lastAccessed: now, expiresAt: now + HOUR, ...patch }
}

/** A store that holds `ids`, in this order of use. */
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

void t.test('when it is full the least recently used goes, and is reported', async (t) => {
  const evicted = listen(t, 'evicted')
  const store = makeStore(['a', 'b', 'c'], { maxSessions: 3 })
  store.create('d', makeRecord())
  t.same(evicted, [{ id: 'a' }])
  store.get('b')
  store.create('e', makeRecord())
  t.same(evicted.splice(1), [{ id: 'c' }], 'reading is use')
  store.update('d', makePatch())
  store.create('f', makeRecord())
  t.same(evicted.splice(1), [{ id: 'b' }])
  store.create('g', makeRecord())
  t.same(evicted.splice(1), [{ id: 'e' }], 'writing is use')
  store.update('d', makePatch({ renameTo: 'h' }))
  store.destroy('f')
  store.create('i', makeRecord())
  store.create('j', makeRecord())
  t.same(evicted.splice(1), [{ id: 'g' }], 'a rename is use, and what was destroyed counts no more')
  t.equal(store.size, 3)
  t.same(
    ['h', 'i', 'j'].map((id) => store.get(id) !== undefined),
    [true, true, true]
  )
})

void t.test(
  'the newest, the oldest and one in the middle can each be used or go, in any order',
  async (t) => {
    for (const used of ['a', 'b', 'c']) {
      for (const gone of ['a', 'b', 'c']) {
        const evicted = listen(t, 'evicted')
        const store = makeStore(['a', 'b', 'c'], { maxSessions: 3 })
        store.get(used)
        store.destroy(gone)
        const order = ['a', 'b', 'c'].filter((id) => id !== used && id !== gone)
        if (used !== gone) order.push(used)
        for (const id of ['x', 'y', 'z']) store.create(id, makeRecord())
        t.same(
          evicted.map((message) => (message as { id: string }).id),
          order,
          `${used} used, ${gone} gone`
        )
      }
    }
  }
)

void t.test('nothing is published when nobody listens', async (t) => {
  const store = makeStore(['a', 'b'], { maxSessions: 1 })
  t.equal(store.size, 1)
  t.equal(store.get('a'), undefined)
})

void t.test('an evicted session is nobody in its next request', async (t) => {
  const app = addRoutes(await makeApp(t, { store: new MemoryStore({ maxSessions: 1 }) }))
  const [ada, eve] = [new Browser(app), new Browser(app)]
  await ada.get('/set?name=ada')
  await eve.get('/set?name=eve')
  t.same((await ada.get('/read')).json(), { name: null })
  t.same((await eve.get('/read')).json(), { name: 'eve' })
})

void t.test(
  'a record is handed out as a copy, its data frozen, and the caller’s own objects are not kept',
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
    Object.assign(handedOut as object, { userId: 'eve', version: 7 })
    t.match(store.get('a'), { userId: null, version: 2 })
    t.throws(() => Object.assign(store.get('a')?.data as object, { name: '"eve"' }), TypeError)
    t.equal(Object.isFrozen(record), false, 'what was given stays the caller’s')
  }
)

void t.test('what one request was handed is not seen changed by another', async (t) => {
  const app = await makeApp(t)
  app.get('/make', async ({ session }) => session.set('user', { tags: ['a'] }) ?? 'made')
  const seen: unknown[] = []
  let goOn = () => undefined as void
  const waiting = new Promise<void>((resolve) => (goOn = resolve))
  app.get('/hold', async ({ session }) => {
    const user = session.get('user') as { tags: string[] }
    await waiting
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
  goOn()
  t.equal(await held, 200)
  t.same(seen, [['a'], { tags: ['a'] }])
})

void t.test('a write is +1, a touch is not, and a touch keeps the data', async (t) => {
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
  t.match(store.get('a'), { userId: 'ada', createdAt: 7 }, 'what the patch does not name stays')
})

void t.test('any text is a key: __proto__ is data, and pollutes nothing', async (t) => {
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

void t.test('a session that is over is absent to every method', async (t) => {
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
    t.equal(store.listByUser('ada').length, 1, `${name}: a millisecond before it lives`)
    clock.move(1)
    t.same(work(store), wanted, name)
    t.same(idsOf(store, 'ada'), [])
    t.equal(store.size, name === 'create' ? 1 : 0, `${name} leaves nothing of it`)
  }
})

void t.test('sessions are found and ended by user', async (t) => {
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

void t.test('the index by user follows each rename, change of user, end and eviction', async (t) => {
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
  t.same(idsOf(store, 'ada').sort(), ['d', 'e'], 'the evicted one is not listed')
  store.destroy('d')
  store.destroy('e')
  t.same([idsOf(store, 'ada'), store.size], [[], 0])
})

void t.test(
  'E1 to E4, E8, E9: no write brings a session back, and none takes another one’s place',
  async (t) => {
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
  }
)

void t.test(
  'E5 to E7: changes merge, the last wins whole, and a version that moved on is a conflict',
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
    t.same({ ...store.get('a')?.data }, { z: '1' }, 'a clear comes before the set')
  }
)

/** Turns of the event loop until `work` is done; `each` runs in every one of them. */
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

void t.test('while it sweeps 200,000 sessions others have their turns', async (t) => {
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

void t.test('a sweep ends, and removes the expired alone, while sessions come, change and go', async (t) => {
  const clock = stopClock(t)
  const store = new MemoryStore()
  fill(store, 5000, clock.start + 5)
  fill(store, 5000, clock.start + HOUR)
  const living = Array.from({ length: 5000 }, (_, n) => `${clock.start + HOUR}-${n}`)
  clock.move(5)
  let count = 0
  const { turns, result } = await countTurns(store.cleanup(), () => {
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
    if (count > 1_000_000) store.close()
  })
  t.equal(result, 5000)
  t.ok(turns <= 200, `${turns} turns, though more comes than is looked at`)
  t.same(
    living.filter((id) => store.get(id) === undefined),
    []
  )
})

void t.test('a sweep meets the sessions that are destroyed under it no more', async (t) => {
  const clock = stopClock(t)
  const store = new MemoryStore()
  fill(store, 3000, clock.start + 5)
  clock.move(5)
  const sweep = store.cleanup()
  let destroyed = 0
  // What has expired is gone for destroy() already, but it leaves the store.
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

void t.test('close() stops a sweep, leaves no timer, and what is kept stays readable', async (t) => {
  const clock = stopClock(t)
  const store = new MemoryStore()
  store.create('a', makeRecord({ expiresAt: clock.start + HOUR }))
  fill(store, 5000, clock.start + 5)
  clock.move(5)
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  const sweep = store.cleanup()
  store.close()
  const swept = await sweep
  t.ok(swept > 0 && swept <= 250, `${swept} of the first slice`)
  t.equal(store.size, 5001 - swept)
  t.ok(store.get('a'))
  t.equal(timers(), before)
  t.equal(await store.cleanup(), 0)
})
