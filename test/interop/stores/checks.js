// The checks that run on every store, over HTTP. A check throws if it fails, and returns `SKIPPED` if the store has
// nothing to check. `run-store.js` adds one more check: the process ends by itself.
//
// Each check gets:
// - start(options): starts an application on a new adapter for the store. All applications of a check share the store.
// - read(id): what the store itself has for this session, or `undefined`.
// - store: the store, as express-session gets it.
// - breakStore(): stops the database server, or makes the store unusable in another way. `undefined` if nothing can.
import { deepEqual, equal, match, notEqual, ok, rejects } from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import expressSession from 'express-session'
import { stopClock } from '../../../dist/testing/index.js'

/** In seconds. */
const DAY = 86_400

const VALUES = {
  null: null,
  nested: { list: [1, [2, { three: [] }]], none: {} },
  date: '2026-01-02T03:04:05.678Z',
  big: 9_007_199_254_740_991,
  tiny: -1.5e-300,
  empty: '',
  quotes: '\'"`\\; -- $1 ?',
  controls: 'a\u0000b\n\u2028\ud800',
  'ключ 键 🔑': 'é 中文 👩‍👩‍👧 \u202e',
  '': 'an empty key',
  __proto__x: true,
  constructor: { prototype: 1 }
}
/** The key `__proto__` must be an own key, so it cannot be in the literal above. */
const ENTRIES = [...Object.entries(VALUES), ['__proto__', { admin: true }]]

export const SKIPPED = 'skipped'

export const checks = {
  async 'creates a session and reads it back'({ start, read }) {
    const browser = (await start()).browser()
    deepEqual((await browser.get()).setCookies, [])
    const { id } = await browser.post('/set', [['a', 1]])
    ok(await read(id))
    const after = await browser.get()
    deepEqual(after.data, { a: 1 })
    equal(after.id, id)
  },

  async 'a login moves the session to a new id'({ start, read }) {
    const browser = (await start()).browser()
    const before = await browser.post('/set', [['a', 1]])
    const thief = browser.copy()
    await browser.post('/login')
    const after = await browser.get()
    deepEqual(after.data, { a: 1, userId: 'ada' })
    notEqual(after.id, before.id)
    equal(await read(before.id), undefined)
    deepEqual((await thief.get()).data, {})
  },

  async 'a logout removes the session and the cookie'({ start, read }) {
    const browser = (await start()).browser()
    await browser.post('/login')
    const { id } = await browser.get()
    ok(await read(id))
    await browser.post('/logout')
    ok(!browser.hasCookie())
    equal(await read(id), undefined)
  },

  async 'a cookie from before the logout is dead'({ start }) {
    const browser = (await start()).browser()
    await browser.post('/login')
    const { id } = await browser.get()
    const thief = browser.copy()
    await browser.post('/logout')
    deepEqual((await thief.get()).data, {})
    notEqual((await thief.post('/set', [['a', 1]])).id, id)
  },

  async 'a flash message is read once'({ start }) {
    const browser = (await start()).browser()
    await browser.post('/login')
    await browser.post('/flash')
    equal((await browser.get('/flash')).flash, 'saved')
    equal((await browser.get('/flash')).flash, null)
  },

  async '20 concurrent increments add up to 20'({ start }) {
    const { browser, gate } = await start()
    const ada = browser()
    await ada.post('/login')
    const replies = Array.from({ length: 20 }, () => ada.post('/count?wait'))
    await gate.reached(20)
    gate.open()
    for (const { status } of await Promise.all(replies)) equal(status, 200)
    equal((await ada.get()).data.count, 20)
  },

  async '10 concurrent changes of different keys all stay'({ start }) {
    const { browser, gate } = await start()
    const ada = browser()
    await ada.post('/set', [['first', 0]])
    const keys = Array.from({ length: 10 }, (_, index) => `key${index}`)
    const replies = keys.map((key) => ada.post('/set?wait', [[key, key]]))
    await gate.reached(10)
    gate.open()
    await Promise.all(replies)
    deepEqual(Object.keys((await ada.get()).data).sort(), ['first', ...keys].sort())
  },

  async 'removes one key'({ start }) {
    const browser = (await start()).browser()
    await browser.post('/set', [
      ['a', 1],
      ['b', 2]
    ])
    await browser.post('/remove', { key: 'a' })
    deepEqual((await browser.get()).data, { b: 2 })
  },

  async 'clears all data'({ start }) {
    const browser = (await start()).browser()
    await browser.post('/set', [
      ['a', 1],
      ['b', 2]
    ])
    await browser.post('/clear')
    deepEqual((await browser.get()).data, {})
  },

  async 'keeps a value of 40 KB'({ start }) {
    const browser = (await start()).browser()
    const long = 'x'.repeat(40_000)
    await browser.post('/set', [['long', long]])
    await browser.post('/set', [['short', 1]])
    deepEqual((await browser.get()).data, { long, short: 1 })
  },

  async 'keeps unusual keys and values unchanged'({ start }) {
    const browser = (await start()).browser()
    await browser.post('/set', ENTRIES)
    deepEqual((await browser.get()).data, Object.fromEntries(ENTRIES))
  },

  async 'a slow request does not revive a session after the logout'({ start, read }) {
    const { browser, gate } = await start()
    const fast = browser()
    await fast.post('/login')
    const { id } = await fast.get()
    const slow = fast.copy().post('/set?wait', [['late', true]])
    await gate.reached(1)
    await fast.post('/logout')
    gate.open()
    equal((await slow).status, 409)
    equal(await read(id), undefined)
  },

  // Some stores round an expiry up or down to a second. So the first wait is shorter than 4 s, and both are longer
  // than 6 s.
  async 'a request extends the idle timeout, in the store too'({ start }) {
    const browser = (await start({ idleTimeout: 5 })).browser()
    await browser.post('/login')
    for (let request = 0; request < 2; request++) {
      await delay(3100)
      deepEqual((await browser.get()).data, { userId: 'ada' })
    }
  },

  async 'a session ends after maxAge'({ start }) {
    const browser = (await start({ maxAge: 3 })).browser()
    const before = await browser.post('/set', [['a', 1]])
    const thief = browser.copy()
    deepEqual((await thief.get()).data, { a: 1 })
    await delay(3000)
    deepEqual((await thief.get()).data, {})
    notEqual((await thief.post('/set', [['a', 1]])).id, before.id)
  },

  async 'a session of 30 days outlives the day that is the default of many stores'({ start, store }) {
    const browser = (await start({ maxAge: 30 * DAY })).browser()
    await browser.post('/login')
    const clock = stopClock()
    try {
      clock.move(2 * DAY * 1000)
      await store.clearExpiredSessions?.()
      deepEqual((await browser.get()).data, { userId: 'ada' })
    } finally {
      clock.restore()
    }
  },

  async 'registration refuses maxSessionsPerUser'({ start }) {
    await rejects(start({ maxSessionsPerUser: 1 }), {
      code: 'SESSION_OPTION_INVALID',
      message: /maxSessionsPerUser/
    })
  },

  async 'two applications share the sessions'({ start, read }) {
    const [first, second] = [await start(), await start()]
    const browser = first.browser()
    await browser.post('/login')
    const other = browser.copy(second.url)
    await other.post('/set', [['a', 1]])
    const { id, data } = await browser.get()
    deepEqual(data, { userId: 'ada', a: 1 })
    await other.post('/logout')
    equal(await read(id), undefined)
    deepEqual((await browser.get()).data, {})
  },

  async 'a record of express-session is absent, and reported'({ start, read, store }) {
    const browser = (await start()).browser()
    const { id } = await browser.post('/set', [['a', 1]])
    await writeByExpressSession(store, id)
    match(JSON.stringify(await read(id)), /mallory/)
    const reported = await messagesOf('fastify-sesame:invalid-record', async () => {
      const { status, data } = await browser.get()
      deepEqual({ status, data }, { status: 200, data: {} })
    })
    deepEqual(reported, [{ id, reason: 'shape' }])
    notEqual((await browser.post('/set', [['a', 2]])).id, id)
  },

  async 'a failing store gives 503 and keeps the cookie'({ start, breakStore }) {
    if (breakStore === undefined) return SKIPPED
    const browser = (await start()).browser()
    await browser.post('/login')
    await breakStore()
    for (const reply of [await browser.get(), await browser.post('/count'), await browser.post('/logout')]) {
      equal(reply.status, 503)
      deepEqual(reply.setCookies, [])
    }
  }
}

/** Lets express-session write a session under `id`, in the store. */
async function writeByExpressSession(store, id) {
  const use = expressSession({
    secret: 'another secret',
    store,
    genid: () => id,
    resave: false,
    saveUninitialized: false
  })
  const server = createServer((request, response) => {
    use(request, response, (error) => {
      request.session.userId = 'mallory'
      response.end(String(error ?? 'written'))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const reply = await fetch(`http://127.0.0.1:${server.address().port}/`)
  equal(await reply.text(), 'written')
  server.close()
}

async function messagesOf(channel, work) {
  const messages = []
  const add = (message) => messages.push(message)
  subscribe(channel, add)
  await work()
  unsubscribe(channel, add)
  return messages
}
