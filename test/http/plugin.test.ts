import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { extname } from 'node:path'
import { Readable } from 'node:stream'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import sessions, { MemoryStore, type Session } from '../../plugin/index.js'
import { contextOf, addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { failingStore, makeRecord, spyStore } from '../fixtures/stores.js'

void t.test('registration fails if an option has a wrong value', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => app.register(sessions, { secret: 'short' }), {
    code: 'SESSION_OPTION_INVALID',
    option: 'secret'
  })
})

void t.test('a second registration in the same scope or in a child scope says what to do', async (t) => {
  const expected = {
    code: 'SESSION_PLUGIN_DUPLICATE',
    message: /already registered in this scope or in a parent scope: register it once/
  }
  const app = await makeApp(t)
  await t.rejects(async () => app.register(sessions, { secret: SECRET }), expected)
  const outer = await makeApp(t)
  await t.rejects(
    async () => outer.register(async (inner) => inner.register(sessions, { secret: SECRET })),
    expected
  )
})

void t.test('sibling scopes can each register the plugin', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  for (const scope of ['a', 'b'])
    await app.register(
      async (inner) => {
        await inner.register(sessions, { secret: SECRET, cookieName: scope })
        addRoutes(inner)
      },
      { prefix: `/${scope}` }
    )
  for (const scope of ['a', 'b'])
    t.match(setCookieOf(await app.inject(`/${scope}/set?name=ada`)), `${scope}=`)
})

void t.test(
  'a route with session: false loads no session, and the methods of request.session throw SESSION_OFF there',
  async (t) => {
    const store = spyStore()
    const app = addRoutes(await makeApp(t, { store }))
    const config = { session: false } as const
    app.get('/off', { config }, async () => 'off')
    app.get('/oops', { config }, async ({ session }) => session.get('name'))
    const browser = new Browser(app)
    await browser.get('/set?name=ada')
    store.take()
    t.equal((await browser.get('/off')).body, 'off')
    const oops = { statusCode: 500, code: 'SESSION_OFF', message: /session: false/ }
    t.match((await browser.get('/oops')).json(), oops)
    t.match((await app.inject('/oops')).json(), oops, 'also without a cookie')
    t.same(store.take(), [])
  }
)

void t.test(
  'a request to a readonly route loads the session, cannot change it and does not count as activity',
  async (t) => {
    const clock = stopClock(t)
    const store = spyStore()
    const app = addRoutes(await makeApp(t, { store, cleanupInterval: 0, idleTimeout: 100 }))
    const config = { session: 'readonly' } as const
    app.get('/look', { config }, async ({ session }) => ({
      name: session.get('name') ?? null,
      flash: session.peekFlash('x')
    }))
    app.get('/change', { config }, async ({ session }) => session.set('name', 'eve'))
    const browser = new Browser(app)
    t.same((await browser.get('/look')).json(), { name: null })
    t.match((await browser.get('/change')).json(), { statusCode: 500, code: 'SESSION_READONLY' })
    t.same(store.take(), [])
    await browser.get('/set?name=ada')
    store.take()
    clock.move(50_000)
    const response = await browser.get('/look')
    t.same(response.json(), { name: 'ada' })
    t.equal(setCookieOf(response), undefined)
    t.match((await browser.get('/change')).json(), { statusCode: 500, code: 'SESSION_READONLY' })
    t.same(store.takeNames(), ['get', 'get'])
  }
)

void t.test(
  'if the handler calls save() before hijack(), the reply headers contain the cookie',
  async (t) => {
    const app = addRoutes(await makeApp(t))
    app.get('/hijack', async ({ session }, reply) => {
      session.set('name', 'ada')
      await session.save()
      reply.hijack()
      reply.raw.writeHead(200, reply.getHeaders() as Record<string, string>)
      reply.raw.end('raw')
    })
    const browser = new Browser(app)
    t.match((await browser.get('/hijack')).headers, {
      'set-cookie': /^session_id=/,
      'cache-control': 'no-store',
      vary: 'Cookie'
    })
    t.same((await browser.get('/read')).json(), { name: 'ada' })
    const { headers } = await browser.get('/hijack')
    t.equal(headers.vary, 'Cookie', 'Vary is sent even without a session cookie')
    t.equal(headers['set-cookie'], undefined)
  }
)

void t.test(
  'after the headers have been sent, save() refuses changes that need a cookie and writes nothing',
  async (t) => {
    const store = spyStore()
    const app = await makeApp(t, { store })
    addLateSave(app, (session) => session.set('name', 'ada'))
    t.equal((await app.inject('/late')).body, 'SESSION_HEADERS_SENT')
    t.same(store.take(), [])
  }
)

void t.test(
  'after the headers have been sent, invalidate() ends the session, but save() refuses later changes',
  async (t) => {
    const memory = new MemoryStore()
    const app = addRoutes(await makeApp(t, { store: memory }))
    addLateSave(app, (session) => {
      session.invalidate()
      session.set('name', 'eve')
    })
    const browser = new Browser(app)
    await browser.get('/set?name=ada')
    t.equal((await browser.get('/late')).body, 'SESSION_HEADERS_SENT')
    t.equal(memory.size, 0)
  }
)

void t.test(
  'after the headers have been sent, invalidate() ends the session but clears no cookie',
  async (t) => {
    const memory = new MemoryStore()
    const app = addRoutes(await makeApp(t, { store: memory }))
    addLateSave(app, (session) => session.invalidate())
    const browser = new Browser(app)
    await browser.get('/set?name=ada')
    const response = await browser.get('/late')
    t.equal(response.body, 'ended')
    t.equal(setCookieOf(response), undefined)
    t.equal(memory.size, 0)
  }
)

void t.test('the session is stored before the first byte of a streamed reply is sent', async (t) => {
  const memory = new MemoryStore()
  const app = addRoutes(await makeApp(t, { store: memory }))
  const sizes: number[] = []
  app.get('/stream', async ({ session }, reply) => {
    session.set('name', 'ada')
    const body = Readable.from(
      (function* () {
        sizes.push(memory.size)
        yield 'streamed'
      })()
    )
    return reply.send(body)
  })
  const browser = new Browser(app)
  t.equal((await browser.get('/stream')).body, 'streamed')
  t.same(sizes, [1])
  t.same((await browser.get('/read')).json(), { name: 'ada' })
})

void t.test('a not-found handler can read the session', async (t) => {
  const app = addRoutes(await makeApp(t))
  app.setNotFoundHandler(async ({ session }, reply) => reply.code(404).send({ name: session.get('name') }))
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  t.same((await browser.get('/nowhere')).json(), { name: 'ada' })
})

void t.test('two apps in one process have separate sessions, secrets and stores', async (t) => {
  const [one, two] = [addRoutes(await makeApp(t)), addRoutes(await makeApp(t, { secret: 'o'.repeat(32) }))]
  const browser = new Browser(one)
  await browser.get('/set?name=ada')
  const { cookie } = browser
  t.same((await two.inject({ url: '/read', headers: { cookie } })).json(), { name: null })
  t.same((await browser.get('/read')).json(), { name: 'ada' })
})

void t.test('the routes of an encapsulated plugin can read the session', async (t) => {
  const app = addRoutes(await makeApp(t))
  await app.register(async (inner) => {
    inner.get('/inner', async ({ session }) => ({ name: session.get('name') }))
  })
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  t.same((await browser.get('/inner')).json(), { name: 'ada' })
})

void t.test('expired sessions are swept once per cleanupInterval until the app closes', async (t) => {
  const clock = stopClock(t)
  const store = spyStore()
  const app = await makeApp(t, { store, cleanupInterval: 60 })
  await app.ready()
  clock.move(59_999)
  t.same(store.takeNames(), [])
  clock.move(1)
  await Promise.resolve()
  t.same(store.takeNames(), ['cleanup'])
  await app.close()
  clock.move(600_000)
  await Promise.resolve()
  t.same(store.takeNames(), [])
})

void t.test('cleanupInterval: 0 turns off the sweep of expired sessions', async (t) => {
  const clock = stopClock(t)
  const store = spyStore()
  const app = await makeApp(t, { store, cleanupInterval: 0 })
  await app.ready()
  clock.move(2 ** 31 - 1)
  await Promise.resolve()
  t.same(store.take(), [])
})

void t.test('an error from store.cleanup() is logged but not thrown', async (t) => {
  const clock = stopClock(t)
  const lines: string[] = []
  const logger = { level: 'error', stream: { write: (line: string) => void lines.push(line) } }
  const store = failingStore((method) => method === 'cleanup')
  const app = await makeApp(t, { store, cleanupInterval: 1 }, { logger })
  await app.ready()
  clock.move(1000)
  for (let turn = 0; turn < 5; turn++) await Promise.resolve()
  t.match(lines, [/the sweep of expired sessions failed/])
})

void t.test(
  'closing one app neither closes the store nor stops the sweep of another app that shares it',
  async (t) => {
    const clock = stopClock(t)
    const memory = new MemoryStore()
    let closed = 0
    const store = Object.assign(spyStore(memory), {
      close: () => {
        closed++
      }
    })
    const [first, second] = [
      await makeApp(t, { store, cleanupInterval: 1 }),
      await makeApp(t, { store, cleanupInterval: 1 })
    ]
    memory.create('old', makeRecord({ expiresAt: clock.start + 1 }))
    await first.close()
    store.take()
    clock.move(1000)
    await Promise.resolve()
    t.same([store.takeNames(), memory.size], [['cleanup'], 0])
    await second.close()
    t.equal(closed, 0)
  }
)

void t.test('an onClose hook that is added before the plugin runs after its sweep has stopped', async (t) => {
  const app = Fastify()
  const store = spyStore(new MemoryStore())
  let isStopped = false
  const cleanup = async (signal?: AbortSignal) =>
    new Promise<number>((resolve) => {
      signal?.addEventListener('abort', () => {
        isStopped = true
        resolve(0)
      })
    })
  app.addHook('onClose', async () => t.ok(isStopped))
  const clock = stopClock(t)
  await app.register(sessions, {
    secret: SECRET,
    store: Object.assign(store, { cleanup }),
    cleanupInterval: 1
  })
  clock.move(1000)
  await app.close()
  t.ok(isStopped)
})

void t.test('warnings of a store are logged when the plugin loads', async (t) => {
  const lines: string[] = []
  const logger = { level: 'warn', stream: { write: (line: string) => void lines.push(line) } }
  const store = Object.assign(spyStore(new MemoryStore()), { ready: () => ['the clock is wrong: set it'] })
  await makeApp(t, { store }, { logger })
  t.match(lines, [/"level":40.*"msg":"fastify-sesame: the clock is wrong: set it"/])
})

void t.test(
  'a session that the handler has saved is kept if the client disconnects before the reply',
  async (t) => {
    const memory = new MemoryStore()
    const app = addRoutes(await makeApp(t, { store: memory, cookie: { secure: 'auto' } }))
    const reached = new Promise<void>((resolve) => {
      app.get('/wait', async ({ session }) => {
        session.set('name', 'ada')
        await session.save()
        resolve()
        await new Promise(() => undefined)
      })
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    const request = httpRequest({ port, path: '/wait' })
    request.on('error', () => undefined)
    request.end()
    await reached
    request.destroy()
    t.equal(memory.size, 1)
  }
)

void t.test(
  'registration fails if the store is misconfigured, but not if it is merely unreachable',
  async (t) => {
    const { SessionOptionError } = await import('../../plugin/index.js')
    const lines: string[] = []
    const logger = { level: 'warn', stream: { write: (line: string) => void lines.push(line) } }
    const register = async (ready: () => Promise<void>) => {
      const store = Object.assign(spyStore(), { ready })
      return addRoutes(await makeApp(t, { store, storeTimeout: 20 }, { logger }))
    }
    const missing = new SessionOptionError('table', 'is missing')
    await t.rejects(
      register(async () => {
        throw missing
      }),
      missing
    )
    const unreachable = async () => {
      throw Object.assign(new Error('connect ECONNREFUSED'), { command: { name: 'auth', args: ['hunter2'] } })
    }
    for (const ready of [unreachable, () => new Promise<void>(() => undefined)]) {
      lines.length = 0
      const app = await register(ready)
      t.match(lines, [/the session store is not ready/])
      t.notMatch(lines, [/hunter2/], 'the log does not show what the driver sent')
      t.equal((await app.inject('/set?name=ada')).statusCode, 200)
    }
  }
)

void t.test('registration refuses a rotationPrefix that is not a whole number from 0 to 4', async (t) => {
  for (const rotationPrefix of [5, -1, 1.5, '2', null] as never[]) {
    const store = Object.assign(spyStore(), { rotationPrefix })
    await t.rejects(makeApp(t, { store }), { message: /"store\.rotationPrefix"/ })
  }
})

void t.test(
  'a reply with the session cookie is not cacheable, even if Cache-Control: public is set after save()',
  async (t) => {
    const app = await makeApp(t)
    app.get('/', async ({ session, query }, reply) => {
      if ('set' in (query as object)) session.set('name', 'ada')
      await session.save()
      return reply.header('cache-control', 'public').header('set-cookie', 'other=1').send('x')
    })
    const caching = async (url: string) => (await app.inject(url)).headers['cache-control']
    t.equal(await caching('/?set'), 'no-store')
    t.equal(await caching('/'), 'public', 'without a session cookie, the handler’s Cache-Control stays')
  }
)

void t.test('with rotationPrefix: 2, regenerate() keeps the first two digits of the id', async (t) => {
  const memory = new MemoryStore()
  const app = addRoutes(await makeApp(t, { store: Object.assign(spyStore(memory), { rotationPrefix: 2 }) }))
  app.get('/id', async ({ session }) => session.id)
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  const { body: before } = await browser.get('/id')
  const after = []
  for (let round = 0; round < 3; round++) {
    await browser.get('/login')
    after.push((await browser.get('/id')).body)
  }
  t.equal(new Set([before, ...after]).size, 4)
  t.same([...new Set([before, ...after].map((id) => id.slice(0, 2)))], [before.slice(0, 2)])
})

void t.test('an app without a store option uses a MemoryStore', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(sessions, { secret: SECRET })
  const { store } = contextOf(app).options
  t.type(store, MemoryStore)
  t.equal(store.create('a', makeRecord()), true)
})

/** Adds `/late`, which sends the headers, then changes and saves the session. Replies `ended` or the error's code. */
function addLateSave(app: FastifyInstance, change: (session: Session) => void): void {
  app.get('/late', async ({ session }, reply) => {
    reply.hijack()
    reply.raw.writeHead(200)
    change(session)
    const outcome = await session.save().then(
      () => 'ended',
      (error: unknown) => (error as { code: string }).code
    )
    reply.raw.end(outcome)
  })
}

void t.test('a MemoryStore in a worker of a cluster is warned about', async (t) => {
  const program = fileURLToPath(new URL(`./fixtures/cluster${extname(import.meta.url)}`, import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [...process.execArgv, program])
  const none = { none: [], memory: [], sqlite: [] }
  const warning = [
    /^fastify-sesame: this process is a worker of a cluster.*use a store that all workers share$/
  ]
  t.match(JSON.parse(stdout), { primary: none, worker: { ...none, none: warning, memory: warning } })
})

void t.test('after a handlerTimeout, invalidate() throws, and revoke() still ends the session', async (t) => {
  const app = addRoutes(await makeApp(t, {}, { handlerTimeout: 20 }))
  let outcome: Promise<unknown> = Promise.resolve()
  app.get('/slow', ({ session }, reply) => {
    outcome = once(reply.raw, 'finish').then(async () => {
      const { id } = session
      t.throws(() => session.invalidate(), { code: 'SESSION_COMMITTED' })
      return app.sessionManager.revoke(id)
    })
    return new Promise(() => undefined)
  })
  const browser = new Browser(app)
  await browser.get('/set?name=ada')
  t.equal((await browser.get('/slow')).statusCode, 503)
  t.equal(await outcome, true)
  t.same((await browser.get('/read')).json(), { name: null })
})
