import t from 'tap'
import { channels, MemoryStore, type SessionRecord } from '../../plugin/index.js'
import { stopClock } from '../../plugin/testing/clock.js'
import { SECRET } from '../fixtures/app.js'
import { wrap } from '../fixtures/stores.js'
import { ADA, makeNew, send, SIGNED_IN, SIGNED_OUT } from './fixtures/new-app.js'
import { oldFastify, oldSecure } from './fixtures/old-apps.js'

/** Returns true for the call that creates a session of ada, and not a claim. */
function createsSession(method: string, args: readonly unknown[]): boolean {
  return method === 'create' && (args[1] as SessionRecord).userId === 'ada'
}

for (const [name, makeOld] of Object.entries({
  '@fastify/session': oldFastify,
  '@fastify/secure-session': oldSecure
}))
  for (const hasMoved of [true, false])
    void t.test(
      `${name}: an old cookie that lives longer than maxAge stays refused (has moved: ${hasMoved})`,
      async (t) => {
        const clock = stopClock()
        t.teardown(() => clock.restore())
        const old = makeOld()
        const app = await makeNew(t, { maxAge: 600, migrateFrom: old.predecessor({ keep: true }) })
        const cookie = await old.signIn(ADA)
        if (hasMoved) await send(app, (await send(app, cookie)).cookie, 'POST /logout')
        else await send(app, cookie, 'POST /logout')
        clock.move(600_000)
        t.equal((await send(app, cookie)).body, SIGNED_OUT)
      }
    )

void t.test('a kept session without an expiry stays refused for a year, or until `until`', async (t) => {
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const old = oldFastify()
  const options = { keep: true, until: new Date(clock.start + 9e11) }
  const app = await makeNew(t, { maxAge: 600, migrateFrom: old.predecessor(options) })
  const cookie = await old.signIn(ADA)
  for (const [id, text] of old.store?.records ?? [])
    old.store?.records.set(id, JSON.stringify({ ...(JSON.parse(text) as object), cookie: {} }))
  await send(app, (await send(app, cookie)).cookie, 'POST /logout')
  clock.move(364 * 86_400_000)
  t.equal((await send(app, cookie)).body, SIGNED_OUT)
})

void t.test('without keep, a claim does not outlive maxAge if the record had no expiry', async (t) => {
  const old = oldFastify()
  const store = new MemoryStore()
  const clock = stopClock()
  t.teardown(() => clock.restore())
  const app = await makeNew(t, { store, maxAge: 600, migrateFrom: old.predecessor() })
  const cookie = await old.signIn(ADA)
  for (const id of old.store?.records.keys() ?? []) old.store?.records.set(id, JSON.stringify(ADA))
  t.equal((await send(app, cookie)).body, SIGNED_IN)
  clock.move(600_000)
  t.equal(await store.cleanup(), 2)
})

void t.test('a move that another server has begun does not depend on its clock', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  const ahead = wrap(memory, (method, args, next) => {
    if (createsSession(method, args)) throw new Error('killed')
    if (method !== 'create') return next()
    const [id, record] = args as [string, SessionRecord]
    return memory.create(id, { ...record, createdAt: record.createdAt + 3_600_000 })
  })
  const cookie = await old.signIn(ADA)
  t.equal(
    (await send(await makeNew(t, { store: ahead, migrateFrom: old.predecessor() }), cookie)).statusCode,
    503
  )
  const app = await makeNew(t, { store: memory, storeTimeout: 50, migrateFrom: old.predecessor() })
  t.equal((await send(app, cookie)).body, SIGNED_IN)
})

void t.test('a session that a server creates after its timeout is found by nobody', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  let land: (() => void) | undefined
  let landed: Promise<unknown> | undefined
  const late = wrap(memory, (method, args, next) => {
    if (!createsSession(method, args)) return next()
    landed = new Promise<void>((resolve) => (land = resolve)).then(next)
    return landed
  })
  const options = { storeTimeout: 50, migrateFrom: old.predecessor() }
  const [slow, fast] = [
    await makeNew(t, { ...options, store: late }),
    await makeNew(t, { ...options, store: memory })
  ]
  const cookie = await old.signIn(ADA)
  t.equal((await send(slow, cookie)).statusCode, 503)
  const moved = await send(fast, cookie)
  t.equal(moved.body, SIGNED_IN)
  await send(fast, moved.cookie, 'POST /logout')
  land?.()
  t.equal(await landed, true)
  t.equal((await send(fast, cookie)).body, SIGNED_OUT, 'by the old cookie')
  t.equal((await send(fast, moved.cookie)).body, SIGNED_OUT, 'by its own cookie')
})

void t.test('a move whose last step failed is repeated, so that a logout ends it', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  let fails = true
  const store = wrap(memory, (method, _args, next) => {
    if (method === 'update' && fails) throw new Error('down')
    return next()
  })
  const app = await makeNew(t, { store, storeTimeout: 50, migrateFrom: old.predecessor() })
  const cookie = await old.signIn(ADA)
  t.equal((await send(app, cookie)).statusCode, 503)
  fails = false
  const moved = await send(app, cookie)
  t.equal(moved.body, SIGNED_IN)
  t.equal(memory.listByUser('ada').length, 1, 'the session of the first attempt is removed')
  t.equal(old.store?.records.size, 0)
  await send(app, moved.cookie, 'POST /logout')
  t.equal((await send(app, cookie)).body, SIGNED_OUT)
})

void t.test('a logout in another request ends a move that is running', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  let resume: (() => void) | undefined
  const slow = wrap(memory, async (method, args, next) => {
    if (createsSession(method, args)) await new Promise<void>((resolve) => (resume = resolve))
    return next()
  })
  const [first, second] = [
    await makeNew(t, { store: slow, migrateFrom: old.predecessor() }),
    await makeNew(t, { store: memory, migrateFrom: old.predecessor() })
  ]
  const cookie = await old.signIn(ADA)
  const moving = send(first, cookie)
  while (resume === undefined) await new Promise((resolve) => setImmediate(resolve))
  const { cookie: other } = await send(second, '', 'POST /login')
  await send(second, `${other}; ${cookie}`, 'POST /logout')
  resume()
  t.equal((await moving).body, SIGNED_OUT)
  t.equal(memory.listByUser('ada').length, 0)
})

void t.test('a store that creates a claim twice makes one session', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  const claims: string[] = []
  // This store has no atomic writes: the second claim replaces the first one, and both servers believe that they created
  // it.
  const store = wrap(memory, (method, args, next) => {
    const [id] = args as [string]
    if (method === 'create' && !createsSession(method, args)) claims.push(id)
    if (method === 'get' && claims.length === 1 && claims[0] === id) return undefined
    if (method !== 'create' || claims.length < 2) return next()
    void memory.destroy(id)
    return next()
  })
  const options = { store, migrateFrom: old.predecessor({ keep: true }) }
  const apps = [await makeNew(t, options), await makeNew(t, options)]
  const cookie = await old.signIn(ADA)
  const answers = await Promise.all(apps.map((app) => send(app, cookie)))
  t.same(
    answers.map(({ body }) => body),
    [SIGNED_IN, SIGNED_IN]
  )
  t.equal(answers[0]?.cookie, answers[1]?.cookie)
  t.equal(memory.listByUser('ada').length, 1)
})

void t.test('a session whose claim was lost is found again', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  const claims: string[] = []
  const store = wrap(memory, (method, args, next) => {
    if (method === 'create' && !createsSession(method, args)) claims.push(args[0] as string)
    return next()
  })
  const app = await makeNew(t, { store, migrateFrom: old.predecessor({ keep: true }) })
  const cookie = await old.signIn(ADA)
  const first = await send(app, cookie)
  memory.destroy(claims[0] as string)
  t.equal((await send(app, cookie)).cookie, first.cookie)
  t.equal(memory.listByUser('ada').length, 1)
})

void t.test('a claim that is lost while its session is created does not undo the move', async (t) => {
  const old = oldFastify()
  const memory = new MemoryStore()
  let isLost = false
  const store = wrap(memory, (method, args, next) => {
    if (method !== 'update' || isLost) return next()
    isLost = memory.destroy(args[0] as string)
    return 'conflict'
  })
  const app = await makeNew(t, { store, migrateFrom: old.predecessor() })
  t.equal((await send(app, await old.signIn(ADA))).body, SIGNED_IN)
  t.ok(isLost)
})

void t.test('a new secret neither brings back a session nor hides one', async (t) => {
  const old = oldSecure()
  const options = { store: new MemoryStore(), migrateFrom: old.predecessor({ keep: true }) }
  const before = await makeNew(t, options)
  const after = await makeNew(t, { ...options, secret: ['n'.repeat(32), SECRET] })
  const [ended, live] = [await old.signIn(ADA), await old.signIn({ ...ADA, cart: ['milk'] })]
  await send(before, (await send(before, ended)).cookie, 'POST /logout')
  await send(before, live)
  t.equal((await send(after, ended)).body, SIGNED_OUT)
  t.match((await send(after, live)).body, 'milk')
  t.equal(options.store.listByUser('ada').length, 1)
})

void t.test('an error of the old store does not show the old id', async (t) => {
  const old = oldFastify()
  const app = await makeNew(t, { migrateFrom: old.predecessor() })
  const cookie = await old.signIn(ADA)
  const [id] = old.store?.records.keys() ?? []
  const messages: string[] = []
  const listener = (message: unknown): void => void messages.push((message as { error: Error }).error.message)
  channels.storeFailure.subscribe(listener)
  t.teardown(() => channels.storeFailure.unsubscribe(listener))
  if (old.store !== undefined) old.store.failure = new Error(`cannot open ${id}.json`)
  await send(app, cookie)
  t.match(messages, [/^cannot open .+\.json$/])
  t.notMatch(messages, [id])
})
