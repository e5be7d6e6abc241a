import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import type { Session } from '../../plugin/index.js'
import { BEFORE, serve, settle, signIn, STORES, storedOf, until, watchProcess } from './fixtures/server.js'
import { ask, cookieOf, openWire, requestText } from './fixtures/wire.js'

const unhandled = watchProcess()

type Hook =
  | 'onRequest'
  | 'preParsing'
  | 'preValidation'
  | 'preHandler'
  | 'handler'
  | 'preSerialization'
  | 'onSend'
  | 'onResponse'
  | 'errorHandler'

/** Those that run before the reply is committed: an error there decides what is. */
const BEFORE_COMMIT: readonly Hook[] = [
  'onRequest',
  'preParsing',
  'preValidation',
  'preHandler',
  'handler',
  'preSerialization',
  'errorHandler'
]

class Failure extends Error {
  readonly statusCode: number
  constructor(statusCode: number) {
    super(`failed with ${statusCode}`)
    this.statusCode = statusCode
  }
}

/** A route at `/act` on which `hook` does `act` to the session, and then throws. */
function addFailing(
  app: FastifyInstance,
  hook: Hook,
  statusCode: number,
  act: (session: Session) => void
): void {
  const fail = async ({ session }: FastifyRequest): Promise<never> => {
    act(session)
    throw new Failure(statusCode)
  }
  const handler = async (request: FastifyRequest): Promise<object> => {
    if (hook === 'handler') await fail(request)
    if (hook === 'errorHandler') throw new Error('for the error handler')
    return { answer: true }
  }
  const hooks = hook === 'handler' || hook === 'errorHandler' ? {} : { [hook]: fail }
  const errorHandler = (_error: Error, request: FastifyRequest): unknown => fail(request)
  app.get('/act', { ...hooks, ...(hook === 'errorHandler' && { errorHandler }) }, handler)
}

interface Outcome {
  readonly act: (session: Session) => void
  /** What the store has of the old cookie's session, and how many sessions, after a 4xx and after a 5xx. */
  readonly after: Readonly<
    Record<400 | 500, readonly [stored: Record<string, string> | undefined, size: number]>
  >
  /** The cookie that goes out with each. */
  readonly cookie: Readonly<Record<400 | 500, RegExp | undefined>>
}

const SET = /^session_id=[0-9a-f]{64}\./
const CLEARED = /^session_id=; Max-Age=0/
const OUTCOMES: Record<string, Outcome> = {
  'a set': {
    act: (session) => session.set('late', 1),
    after: { 400: [{ ...BEFORE, late: '1' }, 1], 500: [BEFORE, 1] },
    cookie: { 400: undefined, 500: undefined }
  },
  'a rotation': {
    act: (session) => session.regenerate(),
    after: { 400: [undefined, 1], 500: [BEFORE, 1] },
    cookie: { 400: SET, 500: undefined }
  },
  'an end, and a set behind it': {
    act(session) {
      session.invalidate()
      session.set('late', 1)
    },
    after: { 400: [undefined, 1], 500: [undefined, 0] },
    cookie: { 400: SET, 500: CLEARED }
  }
}

for (const [kind, wrapping] of Object.entries(STORES)) {
  for (const hook of BEFORE_COMMIT) {
    void t.test(`an error in ${hook} on ${kind}: a 4xx is committed, of a 5xx only an end`, async (t) => {
      for (const statusCode of [400, 500] as const) {
        for (const [name, { act, after, cookie: expected }] of Object.entries(OUTCOMES)) {
          const served = await serve(t, wrapping, (app) => addFailing(app, hook, statusCode, act))
          const cookie = await signIn(served.port)
          const { status, cookies } = await ask(served.port, '/act', cookie)
          const what = `${name}, ${statusCode}`
          t.equal(status, statusCode, what)
          t.same([storedOf(served, cookie), served.memory.size], after[statusCode], what)
          t.match(cookies, expected[statusCode] === undefined ? [] : [expected[statusCode]], what)
          t.equal(cookies.length, expected[statusCode] === undefined ? 0 : 1, what)
        }
      }
    })
  }

  // Ours ran before them: the cookie is on the reply, and the store has what it was told.
  for (const hook of ['onSend', 'onResponse'] as const) {
    void t.test(`an error in ${hook} comes after the commit, on ${kind}`, async (t) => {
      const served = await serve(t, wrapping, (app) => {
        const fail = async (): Promise<never> => {
          throw new Failure(500)
        }
        app.get('/act', { [hook]: fail }, async ({ session }) => {
          session.regenerate()
          session.set('late', 1)
          return 'act'
        })
      })
      const cookie = await signIn(served.port)
      const response = await ask(served.port, '/act', cookie)
      t.equal(response.status, hook === 'onSend' ? 500 : 200)
      t.equal(storedOf(served, cookie), undefined)
      t.same(
        storedOf(served, cookieOf(response)),
        { ...BEFORE, late: '1' },
        'the browser has the session that lives'
      )
    })
  }

  void t.test(`what runs in onResponse cannot change the session, and says so, on ${kind}`, async (t) => {
    const codes: unknown[] = []
    const served = await serve(t, wrapping, (app) =>
      app.get(
        '/act',
        { onResponse: async ({ session }) => attempt(codes, () => session.set('late', 1)) },
        async () => 'x'
      )
    )
    const cookie = await signIn(served.port)
    await ask(served.port, '/act', cookie)
    await ask(served.port, '/act')
    await until('both', () => codes.length === 2)
    t.same(codes, ['SESSION_COMMITTED', 'SESSION_COMMITTED'])
    t.same(storedOf(served, cookie), BEFORE)
  })

  void t.test(`hooks that run before ours, on ${kind}`, async (t) => {
    const codes: unknown[] = []
    let moment: 'onRequest' | 'onSend' | undefined
    const served = await serve(
      t,
      wrapping,
      (app) => {
        app.get('/act', async ({ session }) => {
          session.set('late', 1)
          return 'act'
        })
        app.setErrorHandler(async (error, { session }, reply) => {
          attempt(codes, () => session.set('late', 2))
          return reply.send(error)
        })
      },
      {
        before(app) {
          app.addHook('onRequest', async () => {
            if (moment === 'onRequest') throw new Failure(500)
          })
          app.addHook('onSend', async (_request, reply) => {
            if (moment === 'onSend' && reply.statusCode === 200) throw new Failure(500)
          })
        }
      }
    )
    const cookie = await signIn(served.port)
    served.store.take()
    moment = 'onRequest'
    t.match(await ask(served.port, '/act', cookie), { status: 500, cookies: [] })
    t.same(served.store.takeNames(), [], 'nothing was loaded')
    moment = 'onSend'
    t.match(await ask(served.port, '/act', cookie), { status: 500, cookies: [] })
    t.same(served.store.takeNames(), ['get'], 'nothing was written')
    t.same(codes, ['SESSION_NOT_LOADED', undefined])
    t.same(storedOf(served, cookie), BEFORE)
  })

  void t.test(`an error handler that makes a good answer of it is committed, on ${kind}`, async (t) => {
    const served = await serve(t, wrapping, (app) => {
      app.get(
        '/act',
        { errorHandler: (_error, _request, reply) => void reply.code(200).send('mended') },
        async ({ session }) => {
          session.set('late', 1)
          throw new Failure(500)
        }
      )
    })
    const cookie = await signIn(served.port)
    t.match(await ask(served.port, '/act', cookie), { status: 200, body: 'mended' })
    t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
  })

  void t.test(`answers that Fastify cannot send, or is given twice, on ${kind}`, (t) =>
    testAnswers(t, wrapping)
  )
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/** Mistakes of an application; the answer that a client may get for each. */
const MISTAKES: Record<string, readonly [handler: Handler, status: readonly number[]]> = {
  'a header that cannot be sent': [
    async (_request, reply) => reply.header('x-name', 'a\nb').send('x'),
    [500]
  ],
  'a redirect to where no header can': [async (_request, reply) => reply.redirect('/\u0416'), [500]],
  'a body that is none': [async (_request, reply) => reply.type('text/html').send({}), [500]],
  'a body that is none, returned': [
    (_request, reply) => {
      reply.type('text/html')
      return {}
    },
    [500]
  ],
  'two answers': [
    (_request, reply) => {
      void reply.send('one')
      void reply.send('two')
    },
    [200]
  ],
  'an answer that is not waited for': [async (_request, reply) => void reply.send('one'), [200]],
  'an answer and an error': [
    async (_request, reply) => {
      void reply.send('one')
      throw new Error('after the answer')
    },
    [200, 500]
  ],
  'a save that is not waited for': [
    async ({ session }) => {
      void session.save()
      return 'one'
    },
    [200]
  ]
}

async function testAnswers(t: Test, wrapping: (typeof STORES)[string]): Promise<void> {
  for (const [index, [name, [handler, statuses]]] of Object.entries(MISTAKES).entries()) {
    void t.test(name, async (t) => {
      const served = await serve(t, wrapping, (app) =>
        app.get(`/${index}`, (request, reply) => {
          request.session.set('late', index)
          return handler(request, reply)
        })
      )
      const wire = await openWire(served.port)
      wire.write(requestText(`/${index}`, { connection: 'close' }))
      const response = await wire.next()
      wire.socket.destroy()
      t.ok(statuses.includes(response.status), `${response.status}`)
      if (response.status === 200) {
        t.equal(response.body, 'one', 'the first answer')
        t.same(storedOf(served, cookieOf(response)), { late: String(index) }, 'with its cookie')
      }
      await settle()
      t.same(unhandled, [])
    })
  }

  void t.test('a handler that is too slow for Fastify’s own time-out', async (t) => {
    const served = await serve(
      t,
      (memory) => {
        const store = wrapping(memory)
        return {
          get: (id) => store.get(id),
          create: async (id, record) => {
            await delay(60)
            return store.create(id, record)
          },
          update: (id, patch) => store.update(id, patch),
          destroy: (id) => store.destroy(id)
        }
      },
      undefined,
      { server: { handlerTimeout: 30 } }
    )
    t.equal((await ask(served.port, '/set?name=ada')).status, 503)
    await delay(60)
    t.same(unhandled, [])
  })
}

function attempt(codes: unknown[], work: () => void): void {
  try {
    work()
    codes.push(undefined)
  } catch (error) {
    codes.push((error as { code?: unknown }).code)
  }
}

void t.test('nothing of it was left unhandled', async (t) => void t.same(unhandled, []))
