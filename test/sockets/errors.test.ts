import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import type { Session } from '../../plugin/index.js'
import { wrap } from '../fixtures/stores.js'
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

/** The hooks that run before the commit. If a hook throws, the error status decides which changes are committed. */
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

/** Adds a route at `/act` whose `hook` calls `act` with the session and then throws. */
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
  /**
   * For each error status, what the store contains after the failed request: the data still stored for the old cookie,
   * and the number of sessions.
   */
  readonly after: Readonly<
    Record<400 | 500, readonly [stored: Record<string, string> | undefined, size: number]>
  >
  /**
   * For each error status, the expected Set-Cookie header of the response, or `undefined` if the response must not have
   * one.
   */
  readonly cookie: Readonly<Record<400 | 500, RegExp | undefined>>
}

const SET = /^session_id=[0-9a-f]{64}\./
const CLEARED = /^session_id=; Max-Age=0/
const OUTCOMES: Record<string, Outcome> = {
  'set()': {
    act: (session) => session.set('late', 1),
    after: { 400: [{ ...BEFORE, late: '1' }, 1], 500: [BEFORE, 1] },
    cookie: { 400: undefined, 500: undefined }
  },
  'regenerate()': {
    act: (session) => session.regenerate(),
    after: { 400: [undefined, 1], 500: [BEFORE, 1] },
    cookie: { 400: SET, 500: undefined }
  },
  'invalidate() and then set()': {
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
    void t.test(
      `with ${kind}, if ${hook} fails, a 4xx commits all changes, but a 5xx commits only an invalidate()`,
      async (t) => {
        for (const statusCode of [400, 500] as const) {
          for (const [name, { act, after, cookie: expected }] of Object.entries(OUTCOMES)) {
            const served = await serve(t, wrapping, (app) => addFailing(app, hook, statusCode, act))
            const cookie = await signIn(served.port)
            const { status, cookies } = await ask(served.port, '/act', cookie)
            const label = `${name}, ${statusCode}`
            t.equal(status, statusCode, label)
            t.same([storedOf(served, cookie), served.memory.size], after[statusCode], label)
            t.match(cookies, expected[statusCode] === undefined ? [] : [expected[statusCode]], label)
            t.equal(cookies.length, expected[statusCode] === undefined ? 0 : 1, label)
          }
        }
      }
    )
  }

  // The hooks tested here run after the plugin's onSend hook, which has already stored the session and set its cookie
  // on the reply.
  for (const hook of ['onSend', 'onResponse'] as const) {
    void t.test(`with ${kind}, an error in ${hook} does not undo the commit of the session`, async (t) => {
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
        'the browser received the cookie of the live session'
      )
    })
  }

  void t.test(`with ${kind}, changing the session in onResponse throws SESSION_COMMITTED`, async (t) => {
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
    await until('both onResponse hooks have run', () => codes.length === 2)
    t.same(codes, ['SESSION_COMMITTED', 'SESSION_COMMITTED'])
    t.same(storedOf(served, cookie), BEFORE)
  })

  void t.test(
    `with ${kind}, nothing is committed if a hook that runs before the plugin's own hook throws`,
    async (t) => {
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
      t.same(codes, [undefined, undefined], 'the error handler’s change is ignored')
      t.same(storedOf(served, cookie), BEFORE)
    }
  )

  void t.test(`with ${kind}, all changes are committed if an error handler replies with a 200`, async (t) => {
    const served = await serve(t, wrapping, (app) => {
      app.get(
        '/act',
        { errorHandler: (_error, _request, reply) => void reply.code(200).send('recovered') },
        async ({ session }) => {
          session.set('late', 1)
          throw new Failure(500)
        }
      )
    })
    const cookie = await signIn(served.port)
    t.match(await ask(served.port, '/act', cookie), { status: 200, body: 'recovered' })
    t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
  })

  void t.test(`with ${kind}, a faulty handler causes only one reply`, (t) => testFaultyReplies(t, wrapping))
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/** Mistakes in a handler, each with the statuses that the client is allowed to receive. */
const MISTAKES: Record<string, readonly [handler: Handler, status: readonly number[]]> = {
  'an invalid header value': [async (_request, reply) => reply.header('x-name', 'a\nb').send('x'), [500]],
  'a redirect to a non-ASCII address': [async (_request, reply) => reply.redirect('/\u0416'), [500]],
  'a body of an unsupported type': [async (_request, reply) => reply.type('text/html').send({}), [500]],
  'a returned body of an unsupported type': [
    (_request, reply) => {
      reply.type('text/html')
      return {}
    },
    [500]
  ],
  'a second reply': [
    (_request, reply) => {
      void reply.send('one')
      void reply.send('two')
    },
    [200]
  ],
  'a reply that the handler does not return': [async (_request, reply) => void reply.send('one'), [200]],
  'an error after the reply': [
    async (_request, reply) => {
      void reply.send('one')
      throw new Error('after the reply')
    },
    [200, 500]
  ],
  'a save() without await': [
    async ({ session }) => {
      void session.save()
      return 'one'
    },
    [200]
  ]
}

async function testFaultyReplies(t: Test, wrapping: (typeof STORES)[string]): Promise<void> {
  for (const [index, [name, [handler, statuses]]] of Object.entries(MISTAKES).entries()) {
    void t.test(`${name} leads to exactly one response and no unhandled error`, async (t) => {
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
        t.equal(response.body, 'one', 'the first reply is sent')
        t.same(
          storedOf(served, cookieOf(response)),
          { late: String(index) },
          'the cookie belongs to the stored session'
        )
      }
      await settle()
      t.same(unhandled, [])
    })
  }

  void t.test(
    'a request that exceeds Fastify’s handlerTimeout receives a 503 and causes no unhandled error',
    async (t) => {
      const served = await serve(
        t,
        (memory) =>
          wrap(wrapping(memory), (method, _args, next) =>
            method === 'create' ? delay(60).then(next) : next()
          ),
        undefined,
        { server: { handlerTimeout: 30 } }
      )
      t.equal((await ask(served.port, '/set?name=ada')).status, 503)
      await delay(60)
      t.same(unhandled, [])
    }
  )
}

/** Runs `work` and records the code of its error, or `undefined` if it did not throw. */
function attempt(codes: unknown[], work: () => void): void {
  try {
    work()
    codes.push(undefined)
  } catch (error) {
    codes.push((error as { code?: unknown }).code)
  }
}

void t.test(
  'the tests in this file have caused no unhandled error and no warning',
  async (t) => void t.same(unhandled, [])
)
