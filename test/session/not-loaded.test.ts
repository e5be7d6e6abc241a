import { inspect } from 'node:util'
import Fastify, {
  type FastifyError,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions
} from 'fastify'
import t, { type Test } from 'tap'
import sessions, { MemoryStore, type Session, type SessionOptions } from '../../plugin/index.js'
import { addRoutes, Browser, cookiesIn, makeApp, SECRET } from '../fixtures/app.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { slowStore, spyStore, wrap } from '../fixtures/stores.js'

type Hook = (request: FastifyRequest, reply: FastifyReply) => unknown

interface Early {
  /** A hook that runs before the plugin's. */
  readonly early?: Hook
  readonly options?: Partial<SessionOptions>
  readonly server?: FastifyServerOptions
}

async function setUp(t: Test, { early, options = {}, server = {} }: Early = {}) {
  const memory = new MemoryStore()
  const store = spyStore(options.store ?? memory)
  const app = Fastify(server)
  t.teardown(() => app.close())
  if (early !== undefined)
    app.addHook('onRequest', async (request, reply) => {
      await early(request, reply)
    })
  await app.register(sessions, { secret: SECRET, cleanupInterval: 0, ...options, store })
  addRoutes(app)
  app.get('/off', { config: { session: false } }, async () => 'off')
  app.get(
    '/readonly',
    { config: { session: 'readonly' } },
    async ({ session }) => session.get('name') ?? null
  )
  return { app, memory, store, browser: new Browser(app) }
}

/** Every use of a session that needs it to be loaded. */
const USES: Record<string, (session: Session) => unknown> = {
  get: (session) => session.get('name'),
  has: (session) => session.has('name'),
  keys: (session) => session.keys(),
  take: (session) => session.take('name'),
  set: (session) => session.set('name', 'eve'),
  'set(userKey)': (session) => session.set('userId', 'eve'),
  'set(key, undefined)': (session) => session.set('name', undefined),
  update: (session) => session.update('name', () => 'eve'),
  remove: (session) => session.remove('name'),
  clear: (session) => session.clear(),
  login: (session) => session.login('eve'),
  regenerate: (session) => session.regenerate(),
  'regenerate(keep)': (session) => session.regenerate(['name']),
  invalidate: (session) => session.invalidate(),
  setFlash: (session) => session.setFlash('note', 'hello'),
  getFlash: (session) => session.getFlash('note'),
  peekFlash: (session) => session.peekFlash('note'),
  takeReturnTo: (session) => session.takeReturnTo()
}

/** What never throws, because a log serializer runs before every hook. */
const SAFE: Record<string, (session: Session) => unknown> = {
  id: (session) => session.id,
  createdAt: (session) => session.createdAt,
  authenticatedAt: (session) => session.authenticatedAt,
  lastAccessed: (session) => session.lastAccessed,
  expiresAt: (session) => session.expiresAt,
  isNew: (session) => session.isNew,
  modified: (session) => session.modified,
  inspect: (session) => inspect(session, { depth: 5, showHidden: true, getters: true }),
  JSON: (session) => JSON.stringify({ session }),
  'its tag': (session) => Object.prototype.toString.call(session),
  keys: (session) => [Object.keys(session), Object.entries(session)],
  'an unknown property': (session) => Reflect.get(session, 'user') as unknown,
  'a test for a property': (session) => 'user' in session,
  await: (session) => Promise.resolve<unknown>(session).then(() => undefined)
}

for (const [name, use] of Object.entries(USES)) {
  void t.test(`F14: ${name} in a hook before the plugin’s throws SESSION_NOT_LOADED`, async (t) => {
    let isEarly = false
    const { app, memory, browser } = await setUp(t, {
      early: ({ session }) => {
        if (isEarly) use(session)
      }
    })
    await browser.get('/set?name=ada')
    const before = memory.get(idOfCookie(browser.cookie))
    isEarly = true
    for (const client of [browser, new Browser(app)]) {
      const response = await client.get('/read')
      t.match(response.json(), { statusCode: 500, code: 'SESSION_NOT_LOADED' })
      t.match(response.json<{ message: string }>().message, /sessionManager\.get\(request\)/)
      t.same(cookiesIn(response), [])
    }
    t.same([memory.size, memory.get(idOfCookie(browser.cookie))], [1, before])
    isEarly = false
    t.same((await browser.get('/read')).json(), { name: 'ada' })
  })
}

void t.test('reply.generateCsrf() in a hook before the plugin’s throws SESSION_NOT_LOADED', async (t) => {
  const { app } = await setUp(t, { early: (_request, reply) => reply.generateCsrf() })
  t.match((await app.inject('/read')).json(), { statusCode: 500, code: 'SESSION_NOT_LOADED' })
})

void t.test(
  'F14: the getter, id, inspect and JSON never throw, in a hook before the plugin’s or on any route',
  async (t) => {
    const seen: unknown[] = []
    const look = async ({ session }: FastifyRequest): Promise<void> => {
      for (const use of Object.values(SAFE)) seen.push(await use(session))
    }
    const { app, browser } = await setUp(t, { early: look })
    app.addHook('preHandler', look)
    app.addHook('onResponse', look)
    for (const url of ['/set?name=ada', '/read', '/off', '/readonly', '/missing', '/logout', '/off']) {
      const { statusCode } = await browser.get(url)
      t.equal(statusCode, url === '/missing' ? 404 : 200, url)
    }
    const text = seen.map(String).join(' ')
    t.notMatch(text, /Error/)
    t.notMatch(text, browser.cookies.get('session_id') ?? 'a token', 'A5')
  }
)

void t.test('a session that a hook has taken too early does not read as empty later', async (t) => {
  let taken: Session | undefined
  const { app, browser } = await setUp(t, {
    early: ({ session }) => {
      taken = session
    }
  })
  app.get('/taken', async ({ session }) => [outcomeOf(() => taken?.get('name')), session.get('name')])
  await browser.get('/set?name=ada')
  const [early, loaded] = (await browser.get('/taken')).json<unknown[]>()
  t.equal(loaded, 'ada')
  t.ok(['ada', 'SESSION_NOT_LOADED'].includes(early as string), String(early))
})

void t.test(
  'sessionManager.get() and getOrCreate() load the session in a hook before the plugin’s',
  async (t) => {
    for (const store of [new MemoryStore(), slowStore()]) {
      const names: unknown[] = []
      let app: Awaited<ReturnType<typeof setUp>>['app'] | undefined = undefined
      const made = await setUp(t, {
        options: { store },
        early: async (request) => {
          const found = await app?.sessionManager.get(request)
          names.push([found?.get('name'), request.session.get('name')])
          const session = await app?.sessionManager.getOrCreate(request)
          session?.set('seen', 1)
        }
      })
      app = made.app
      await made.browser.get('/set?name=ada')
      made.store.take()
      await made.browser.get('/read')
      t.same(names, [
        [undefined, undefined],
        ['ada', 'ada']
      ])
      t.same(made.store.takeNames(), ['get'], 'it is loaded once, and the same value is not a change')
    }
  }
)

for (const logs of ['the request', 'the reply'] as const) {
  void t.test(`F14: a log serializer of ${logs} that reads the session never breaks a request`, async (t) => {
    const lines: string[] = []
    const session = ({ session }: FastifyRequest) => ({ ...describe(session), text: inspect(session) })
    const serializers =
      logs === 'the request'
        ? { req: (request: FastifyRequest) => session(request) }
        : { res: (reply: FastifyReply) => ((reply.request as unknown) ? session(reply.request) : {}) }
    const logger = { level: 'info', serializers, stream: { write: (line: string) => void lines.push(line) } }
    const { app, browser } = await setUp(t, {
      server: { logger } as FastifyServerOptions,
      early: ({ url }) => {
        if (url === '/early') throw new Error('the early hook failed')
      }
    })
    app.get('/early', async () => 'early')
    app.get('/fail', async () => {
      throw new Error('the handler failed')
    })
    const statuses: Record<string, number> = {
      '/read': 200,
      '/set?name=ada': 200,
      '/off': 200,
      '/readonly': 200,
      '/missing': 404,
      '/fail': 500,
      '/early': 500,
      '/logout': 200
    }
    for (const [url, status] of Object.entries(statuses)) {
      lines.length = 0
      const { statusCode } = await browser.get(url)
      t.equal(statusCode, status, url)
      t.ok(lines.length > 0, 'it is logged')
      t.match(lines.join(''), /"id":"[0-9a-f]{64}"/, url)
    }
  })
}

function describe({ id, isNew, modified }: Session) {
  return { id, isNew, modified }
}

function outcomeOf(work: () => unknown): unknown {
  try {
    return work() ?? 'nothing'
  } catch (error) {
    return (error as { code?: string }).code
  }
}

/** The error page of an application that shows who is signed in, and a message. */
const page: (error: Error, request: FastifyRequest, reply: FastifyReply) => unknown = (
  error,
  { session },
  reply
) =>
  reply.code((error as { statusCode?: number }).statusCode ?? 500).send({
    error: error.message,
    name: session.get('name') ?? 'nobody',
    keys: session.keys(),
    flash: session.getFlash('note') ?? 'none',
    has: session.has('name'),
    returnTo: session.takeReturnTo()
  })

const EMPTY = { name: 'nobody', keys: [], flash: 'none', has: false, returnTo: '/' }

void t.test('F14: an error page reads an empty session where the request never got as far', async (t) => {
  let failing: 'hook' | undefined
  const { app, memory, browser } = await setUp(t, {
    early: () => {
      if (failing === 'hook') throw Object.assign(new Error('the early hook failed'), { statusCode: 418 })
    }
  })
  app.setErrorHandler(page as never)
  app.get('/fail', { config: { session: false } }, async () => {
    throw Object.assign(new Error('the handler failed'), { statusCode: 418 })
  })
  await browser.get('/set?name=ada')
  const before = memory.get(idOfCookie(browser.cookie))
  failing = 'hook'
  const early = await browser.get('/read')
  t.match([early.statusCode, early.json()], [418, { error: 'the early hook failed', ...EMPTY }])
  failing = undefined
  const off = await browser.get('/fail')
  t.match([off.statusCode, off.json()], [418, { error: 'the handler failed', ...EMPTY }])
  const { get } = memory
  memory.get = () => {
    throw new Error('connection lost')
  }
  const failed = await browser.get('/read')
  t.match([failed.statusCode, failed.json()], [503, EMPTY])
  memory.get = get
  for (const response of [early, off, failed]) t.same(cookiesIn(response), [])
  t.equal(memory.get(idOfCookie(browser.cookie)), before)
  t.same((await browser.get('/read')).json(), { name: 'ada' })
})

void t.test(
  'F14: what an error page changes in an empty session is not saved, and is not another error',
  async (t) => {
    const { app, memory, store, browser } = await setUp(t, {
      early: ({ url }) => {
        if (url === '/read') throw Object.assign(new Error('the early hook failed'), { statusCode: 418 })
      }
    })
    app.setErrorHandler(async (_error, { session }, reply) => {
      session.set('name', 'of the error page')
      session.update('count', () => 1)
      session.remove('name')
      session.setFlash('note', 'sorry')
      return reply.code(418).send({ token: reply.generateCsrf() })
    })
    await browser.get('/set?name=ada')
    store.take()
    for (const client of [browser, new Browser(app)]) {
      const response = await client.get('/read')
      t.equal(response.statusCode, 418)
      t.same([store.takeNames(), cookiesIn(response)], [[], []])
    }
    t.equal(memory.size, 1)
  }
)

void t.test(
  'an error page reads the loaded session, and what it changes on a 4xx reply is saved',
  async (t) => {
    const { app, browser } = await setUp(t)
    app.setErrorHandler(page as never)
    app.get('/fail', async ({ session }) => {
      session.setFlash('note', 'hello')
      throw Object.assign(new Error('the handler failed'), { statusCode: 400 })
    })
    await browser.get('/set?name=ada')
    t.match((await browser.get('/fail')).json(), { name: 'ada', flash: 'hello', keys: ['name'] })
  }
)

void t.test(
  'an error page can show a flash message after a failed commit, and does not use it up',
  async (t) => {
    let isDown = false
    const store = wrap(new MemoryStore(), (method, _args, next) => {
      if (isDown && method === 'update') throw new Error('down')
      return next()
    })
    const app = await makeApp(t, { store })
    app.setErrorHandler<FastifyError>(({ statusCode = 500 }, { session }, reply) =>
      reply.code(statusCode).send({ message: session.getFlash('message') ?? 'none' })
    )
    app.get('/start', async ({ session }) => {
      session.set('name', 'ada')
      session.setFlash('message', 'Welcome')
    })
    app.get('/name', async ({ session }) => session.set('name', 'eve'))
    app.get('/flash', async ({ session }) => session.getFlash('message') ?? 'none')
    const browser = new Browser(app)
    await browser.get('/start')
    isDown = true
    const failed = await browser.get('/name')
    t.same([failed.statusCode, failed.json()], [503, { message: 'Welcome' }])
    isDown = false
    t.equal((await browser.get('/flash')).payload, 'Welcome')
    t.equal((await browser.get('/flash')).payload, 'none')
  }
)
