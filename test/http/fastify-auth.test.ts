import fastifyAuth from '@fastify/auth'
import type { FastifyRequest } from 'fastify'
import type { Response } from 'light-my-request'
import t, { type Test } from 'tap'
import { MemoryStore, requireAuth, type SessionStore } from '../../plugin/index.js'
import { Browser, makeLoggedApp } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { slowStore, wrap } from '../fixtures/stores.js'
import { disconnectAt, makeGate, settle } from '../sockets/fixtures/server.js'
import { requestText } from '../sockets/fixtures/wire.js'

// Tests requireAuth in the lists of @fastify/auth.

const PAGE = { accept: 'text/html' }
const JSON_ONLY = { accept: 'application/json' }
const KEY = { 'x-api-key': 'secret' }

async function key({ headers }: FastifyRequest): Promise<void> {
  if (headers['x-api-key'] !== 'secret') throw Object.assign(new Error('Wrong key'), { statusCode: 401 })
}
async function other(): Promise<void> {}
const redirecting = requireAuth({ freshWithin: 300 })
const refusing = requireAuth({ freshWithin: 300, loginPath: false })

type Lists = Readonly<Record<string, () => Parameters<FastifyAuth>[0]>>
type FastifyAuth = Awaited<ReturnType<typeof setUp>>['app']['auth']

/** Functions are new for each route, because @fastify/auth replaces those in the list that it gets. */
const LISTS = {
  'requireAuth(), key': () => [redirecting, key],
  'key, requireAuth()': () => [key, redirecting],
  'requireAuth({ loginPath: false }), key': () => [refusing, key],
  'key, requireAuth({ loginPath: false })': () => [key, refusing],
  '[requireAuth(), other], key': () => [[redirecting, other], key],
  'key, [other, requireAuth()]': () => [key, [other, redirecting]],
  '[requireAuth(), key], other': () => [[redirecting, key], other],
  'other, [key, requireAuth()]': () => [other, [key, redirecting]]
} satisfies Lists

/** For page requests and for JSON requests: the results without credentials, with a session, with a key and with both. */
type Row = readonly [relation: 'or' | 'and', list: keyof typeof LISTS, page: string, json: string]
const ROWS: readonly Row[] = [
  ['or', 'requireAuth(), key', 'login runs login runs', '401 runs runs runs'],
  ['or', 'key, requireAuth()', 'login runs runs runs', '401 runs runs runs'],
  ['or', 'requireAuth({ loginPath: false }), key', '401 runs runs runs', '401 runs runs runs'],
  ['or', 'key, requireAuth({ loginPath: false })', '401 runs runs runs', '401 runs runs runs'],
  ['or', '[requireAuth(), other], key', 'login runs login runs', '401 runs runs runs'],
  ['or', 'key, [other, requireAuth()]', 'login runs runs runs', '401 runs runs runs'],
  ['and', 'requireAuth(), key', 'login 401 login runs', '401 401 401 runs'],
  ['and', 'key, requireAuth()', '401 401 login runs', '401 401 401 runs'],
  ['and', 'requireAuth({ loginPath: false }), key', '401 401 401 runs', '401 401 401 runs'],
  ['and', 'key, requireAuth({ loginPath: false })', '401 401 401 runs', '401 401 401 runs'],
  ['and', '[requireAuth(), key], other', 'login runs login runs', '401 runs runs runs'],
  ['and', 'other, [key, requireAuth()]', 'login runs runs runs', '401 runs runs runs']
]
/** With `run: 'all'`, a page request is redirected even if it has a key. */
const ROWS_OF_ALL: readonly Row[] = [
  ['or', 'requireAuth(), key', 'login runs login runs', '401 runs runs runs'],
  ['or', 'key, requireAuth()', 'login runs login runs', '401 runs runs runs'],
  ['or', 'requireAuth({ loginPath: false }), key', '401 runs runs runs', '401 runs runs runs'],
  ['and', 'requireAuth(), key', 'login 401 login runs', '401 401 401 runs'],
  ['and', 'key, requireAuth()', 'login 401 login runs', '401 401 401 runs']
]
const STORES: Record<string, () => SessionStore> = {
  'a synchronous store': () => new MemoryStore(),
  'an asynchronous store': () => slowStore()
}

async function setUp(t: Test, store: SessionStore) {
  const clock = stopClock(t)
  const { app, lines } = await makeLoggedApp(t, { store, cleanupInterval: 0 })
  await app.register(fastifyAuth)
  let runs = 0
  let replies = 0
  app.addHook('onSend', async () => {
    replies++
  })
  const handler = async () => `run ${++runs}`
  /** Returns what a request did: whether the handler ran, and otherwise what was answered. */
  async function resultOf(ask: () => Promise<Response>): Promise<string> {
    const before = { runs, replies }
    const { statusCode, headers } = await ask()
    await settle()
    if (replies !== before.replies + 1) return `${replies - before.replies} replies`
    if (runs !== before.runs) return statusCode === 200 ? 'runs' : `runs, but ${statusCode}`
    return headers['location'] === '/login' ? 'login' : `${statusCode}`
  }
  return { app, lines, clock, handler, resultOf, runs: () => runs }
}

for (const [name, makeStore] of Object.entries(STORES)) {
  for (const [run, rows] of [
    [{}, ROWS],
    [{ run: 'all' }, ROWS_OF_ALL]
  ] as const) {
    for (const [relation, list, page, json] of rows) {
      const options = { relation, ...run }
      void t.test(`auth([${list}], ${JSON.stringify(options)}) with ${name}`, async (t) => {
        const { app, lines, clock, handler, resultOf } = await setUp(t, makeStore())
        app.route({
          method: ['GET', 'POST'],
          url: '/guarded',
          preHandler: app.auth(LISTS[list](), options),
          handler
        })
        for (const begin of ['/empty', '/set?cart=1', 'stale']) {
          for (const [headers, expected] of [
            [PAGE, page],
            [JSON_ONLY, json]
          ] as const) {
            for (const method of ['GET', 'POST'] as const) {
              const results = []
              for (const [isSignedIn, credentials] of [
                [false, {}],
                [true, {}],
                [false, KEY],
                [true, KEY]
              ] as const) {
                const browser = new Browser(app)
                await browser.get(begin === 'stale' ? '/login' : begin)
                clock.move(300_000)
                if (isSignedIn) await browser.get('/login')
                const request = { method, url: '/guarded', headers: { ...headers, ...credentials } }
                results.push(await resultOf(() => browser.request(request)))
              }
              t.equal(results.join(' '), expected, `${begin}, ${method}, ${headers.accept}`)
            }
          }
        }
        t.same(lines, [], 'nothing is answered twice')
      })
    }
  }
}

void t.test('a guard that redirects remembers the page, and one that refuses does not', async (t) => {
  const { app, handler } = await setUp(t, new MemoryStore())
  app.get('/redirects', { preHandler: app.auth([key, redirecting]) }, handler)
  app.get('/refuses', { preHandler: app.auth([key, refusing]) }, handler)
  app.get('/back', async ({ session }) => session.takeReturnTo())
  for (const [url, expected] of [
    ['/redirects', '/redirects'],
    ['/refuses', '/']
  ] as const) {
    const browser = new Browser(app)
    await browser.get(url, PAGE)
    t.equal((await browser.get('/back')).payload, expected)
  }
})

void t.test('requireAuth in a list without being called refuses, and does not open the route', async (t) => {
  const { app, handler, resultOf } = await setUp(t, new MemoryStore())
  const wrong = requireAuth as unknown as typeof redirecting
  app.get('/or', { preHandler: app.auth([key, wrong]) }, handler)
  app.get('/and', { preHandler: app.auth([wrong, key], { relation: 'and' }) }, handler)
  for (const url of ['/or', '/and']) {
    for (const headers of [PAGE, JSON_ONLY])
      t.equal(await resultOf(() => app.inject({ url, headers })), '500', url)
  }
  t.equal(await resultOf(() => app.inject({ url: '/and', headers: KEY })), '500')
})

for (const list of ['requireAuth(), key', 'key, requireAuth()'] as const) {
  void t.test(`auth([${list}]): the handler does not run for a client that disconnects`, async (t) => {
    const gate = makeGate()
    const store = wrap(new MemoryStore(), async (method, _args, next) => {
      if (method === 'update') await gate.wait()
      return next()
    })
    const { app, clock, handler, runs } = await setUp(t, store)
    app.get('/guarded', { preHandler: app.auth(LISTS[list]()) }, handler)
    const browser = new Browser(app)
    await browser.get('/login')
    clock.move(300_000)
    await app.listen({ host: '127.0.0.1', port: 0 })
    await disconnectAt(gate, app, requestText('/guarded', { ...PAGE, cookie: browser.cookie }))
    t.equal(runs(), 0)
  })
}
