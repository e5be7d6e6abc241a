import fc, { type Arbitrary } from 'fast-check'
import type { Response } from 'light-my-request'
import t, { type Test } from 'tap'
import { MemoryStore, SessionError, type SessionStore } from '../../plugin/index.js'
import { Session } from '../../plugin/session/session.js'
import type { SessionContext } from '../../plugin/session/context.js'
import { SqliteStore } from '../../plugin/stores/sqlite/store.js'
import { contextOf, makeApp } from '../fixtures/app.js'
import { stopClock, type Clock } from '../fixtures/clock.js'
import { open, workingDriver } from '../fixtures/sqlite.js'
import { spyStore, type SpyStore } from '../fixtures/stores.js'
import { check } from './fixtures/check.js'
import { emptyJar, receive, verifyStore, type Jar, type Reply, type SentCookie } from './fixtures/jar.js'
import { ModelRequest, type ModelLogin, type ModelOptions, type Result } from './fixtures/model.js'
import { equal, PATHS, perform, performLate, type Op } from './fixtures/operations.js'

const HOUR = 3_600_000

/** An operation of a request, or `save`, or its end. `withhold` starts the request without the session cookie. */
type Step = Op | readonly ['save' | 'withhold'] | readonly ['end', isFailed: boolean]
type Command = readonly [request: number, Step] | readonly ['pass', minutes: number]

const key = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('a', 'b') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('__proto__', 'constructor', '', 'é', '\0', '\ud800', '\x01', 'a.b')
  }
)
const value = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.jsonValue({ maxDepth: 2 }))
/** Either a short value, or one that does not fit into a visitor cookie. */
const message = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(0, 1, '', 'é', null, true, ['x'], { n: 1 }) },
  { weight: 1, arbitrary: fc.constant('x'.repeat(4000)) }
)
const user = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('ada', 'bob') },
  { weight: 1, arbitrary: fc.constantFrom(7, '7', 0, '', false) }
)
const keep = fc.subarray(['a', 'b', 'list', 'userId'])
const login: Arbitrary<ModelLogin> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record(
      {
        keep,
        maxAge: fc.constantFrom(60, 1800, 21_600, 30 * 86_400),
        idleTimeout: fc.constantFrom(60, 1200, 7200, null),
        persistent: fc.boolean()
      },
      { requiredKeys: [] }
    )
  },
  { weight: 1, arbitrary: fc.constantFrom({ maxAge: 401 * 86_400 }, { rememberMe: true } as ModelLogin) }
)
const op: Arbitrary<Op> = fc.oneof(
  fc.tuple(fc.constant('set' as const), key, value),
  // `add` has a higher weight to make retries more likely. An update is retried only if another request changes the
  // same key at the same time.
  { weight: 3, arbitrary: fc.tuple(fc.constant('add' as const), fc.constantFrom('a', 'b')) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('append' as const), fc.constant('list')) },
  fc.tuple(fc.constant('mutate' as const), fc.oneof(key, fc.constant('list'))),
  fc.tuple(
    fc.constantFrom('remove' as const, 'take' as const),
    fc.oneof(key, fc.constantFrom('list', 'userId'))
  ),
  fc.tuple(fc.constant('set' as const), fc.oneof(key, fc.constant('userId')), fc.constant(undefined)),
  fc.tuple(fc.constant('setFlash' as const), key, message),
  fc.tuple(fc.constantFrom('getFlash' as const, 'peekFlash' as const), key),
  fc.tuple(fc.constant('remember' as const), fc.constantFrom(...PATHS)),
  fc.tuple(fc.constantFrom('printToken' as const, 'takeReturnTo' as const)),
  { weight: 2, arbitrary: fc.tuple(fc.constant('read' as const)) },
  fc.tuple(fc.constantFrom('clear' as const, 'invalidate' as const, 'rollback' as const)),
  { weight: 2, arbitrary: fc.tuple(fc.constant('login' as const), user, login) },
  fc.tuple(fc.constant('set' as const), fc.constant('userId'), fc.oneof(user, fc.constant(null))),
  fc.tuple(fc.constant('updateUser' as const), user),
  fc.tuple(fc.constant('regenerate' as const)),
  fc.tuple(fc.constant('regenerate' as const), keep)
)
const end = fc.tuple(
  fc.constant('end' as const),
  fc.oneof(fc.constant(false), fc.constant(false), fc.boolean())
)
const step: Arbitrary<Step> = fc.oneof(
  { weight: 24, arbitrary: op },
  { weight: 8, arbitrary: end },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('save' as const, 'withhold' as const)) }
)
const commandsOf = (requests: number): Arbitrary<Command[]> =>
  fc.array(
    fc.oneof(
      { weight: 16, arbitrary: fc.tuple(fc.nat(requests - 1), step) },
      { weight: 1, arbitrary: fc.tuple(fc.constant('pass' as const), fc.constantFrom(1, 19, 59, 60, 179)) }
    ),
    { minLength: 1, maxLength: 80, size: 'max' }
  )

/** A request that is still running, with its session in the library and its counterpart in the model. */
interface Running {
  readonly session: Session
  readonly model: ModelRequest
  readonly response: Promise<Response>
  /** Ends the request. The handler throws an error if `isFailed` is true, and otherwise returns. */
  readonly end: (isFailed: boolean) => void
  /** The result and the time of `save()`. */
  saved: { readonly result: Result; readonly at: number } | undefined
}

/** The app whose requests the test controls. */
interface Server {
  readonly store: SpyStore
  readonly context: SessionContext
  readonly options: ModelOptions
  /** Starts a request with the given cookies. The handler waits until `ended` resolves, and throws if it is `true`. */
  start(cookie: string, ended: Promise<boolean>): Promise<{ session: Session; response: Promise<Response> }>
}

type Handler = (session: Session) => Promise<boolean>

async function setUp(t: Test, backend: SessionStore, options: ModelOptions): Promise<Server> {
  const handlers: Handler[] = []
  const store = spyStore(backend)
  const { maxAge, idleTimeout } = options
  const seconds = {
    maxAge: maxAge / 1000,
    ...(idleTimeout < Infinity && { idleTimeout: idleTimeout / 1000 })
  }
  const app = await makeApp(t, { store, cleanupInterval: 0, ...seconds })
  app.get('/', async ({ session }) => {
    const isFailed = await handlers.shift()?.(session)
    if (isFailed === true) throw new Error('the handler failed')
    return 'done'
  })
  return {
    store,
    context: contextOf(app),
    options,
    async start(cookie, ended) {
      let response: Promise<Response> | undefined
      const session = await new Promise<Session>((resolve) => {
        handlers.push((given) => {
          resolve(given)
          return ended
        })
        response = app.inject({ url: '/', ...(cookie !== '' && { headers: { cookie } }) })
      })
      return { session, response: response as Promise<Response> }
    }
  }
}

/** Starts a request with the cookies in the jar. With SameSite=Strict, a browser may withhold the session cookie. */
async function begin(server: Server, jar: Jar, isWithheld: boolean): Promise<Running> {
  const session = isWithheld ? undefined : jar.session
  const { visitor } = jar
  const model = new ModelRequest({ record: session?.content, visitor: visitor?.content }, server.options)
  const cookies = [
    ...(session === undefined ? [] : [`session_id=${session.value}`]),
    ...(visitor === undefined ? [] : [`session_id_visitor=${visitor.value}`])
  ]
  let end: (isFailed: boolean) => void = () => undefined
  const ended = new Promise<boolean>((resolve) => (end = resolve))
  const started = await server.start(cookies.join('; '), ended)
  equal(server.store.takeNames(), session === undefined ? [] : ['get'], 'the store calls of the load')
  return { ...started, model, end, saved: undefined }
}

async function finish(server: Server, jar: Jar, request: Running, isFailed: boolean): Promise<void> {
  const { model, response, end, saved } = request
  const result = model.commit(isFailed)
  end(isFailed)
  const reply = await response
  // An error that `save()` has thrown, and that the handler has caught, does not change the reply.
  const error = saved === undefined ? result.error : undefined
  equal(reply.statusCode, isFailed ? 500 : statusOf(error), 'the status code')
  if (saved === undefined) equal(server.store.takeNames(), result.calls, 'the store calls')
  receive(jar, server.context, replyOf(reply, saved?.at ?? Date.now()), result)
  await verifyStore(jar, server.store)
  server.store.take()
}

function statusOf(error: string | undefined): number {
  if (error === undefined) return 200
  return error === 'SESSION_GONE' ? 409 : 500
}

function replyOf({ cookies }: Response, at: number): Reply {
  equal(new Set(cookies.map(({ name }) => name)).size, cookies.length, 'the number of cookies')
  const sent = (wanted: string): SentCookie | undefined => {
    const cookie = cookies.find(({ name }) => name === wanted)
    if (cookie === undefined) return undefined
    return cookie.value === '' ? null : { value: cookie.value, maxAge: cookie.maxAge }
  }
  return { at, session: sent('session_id'), visitor: sent('session_id_visitor') }
}

async function save({ store }: Server, request: Running): Promise<void> {
  const { session, model } = request
  const isFirst = !model.isCommitted
  const code = await session.save().then(() => undefined, codeOf)
  if (!isFirst) return equal(code, undefined, 'the outcome of a second save()')
  const result = model.commit(false)
  request.saved = { result, at: Date.now() }
  equal(code, result.error, 'the outcome of save()')
  equal(store.takeNames(), result.calls, 'the store calls of save()')
}

function codeOf(error: unknown): string {
  if (error instanceof SessionError) return error.code
  throw error
}

/**
 * Runs the commands. The first command for a request also starts that request. After the last command, ends all
 * requests that are still running.
 */
async function play(server: Server, clock: Clock, commands: readonly Command[]): Promise<void> {
  const jar = emptyJar()
  const running = new Map<number, Running>()
  // A sequence that failed may have left calls behind.
  server.store.take()
  const ends = [0, 1, 2].map((request): Command => [request, ['end', false]])
  for (const [target, step] of [...commands, ...ends]) {
    if (target === 'pass') {
      for (const { session } of running.values()) openVisitor(session)
      clock.move(step * 60_000)
      continue
    }
    let request = running.get(target)
    if (request === undefined && step[0] === 'end') continue
    request ??= await begin(server, jar, step[0] === 'withhold')
    running.set(target, request)
    if (step[0] === 'end') {
      running.delete(target)
      await finish(server, jar, request, step[1])
    } else await apply(server, request, step)
  }
}

/** Reads the visitor cookie, which is otherwise read when it is first needed, and may have expired by then. */
function openVisitor(session: Session): unknown[] {
  const state = Session.stateOf(session)
  return [state.own('$csrf'), state.secretBesideSession]
}

async function apply(server: Server, request: Running, step: Exclude<Step, readonly ['end', boolean]>) {
  const { session, model, saved } = request
  if (step[0] === 'save') await save(server, request)
  else if (step[0] === 'withhold') return
  else if (saved === undefined) perform(session, model, step as Op)
  else if (saved.result.error === undefined) performLate(session, model, step as Op)
}

const STORES: Record<string, { makeStore: () => SessionStore; options: ModelOptions }> = {
  'a memory store': {
    makeStore: () => new MemoryStore(),
    options: { maxAge: 3 * HOUR, idleTimeout: Infinity }
  },
  'a SQLite store with an idle timeout': {
    makeStore: () => new SqliteStore(open(':memory:', workingDriver())),
    options: { maxAge: 3 * HOUR, idleTimeout: HOUR }
  }
}

for (const [name, { makeStore, options }] of Object.entries(STORES)) {
  for (const requests of [1, 2, 3]) {
    void t.test(
      `any sequence of session operations has the same results as in the model, on ${name} (concurrent requests: ${requests})`,
      async (t) => {
        const clock = stopClock(t)
        const server = await setUp(t, makeStore(), options)
        const property = fc.asyncProperty(commandsOf(requests), (commands) => play(server, clock, commands))
        await check(t, property, { runs: 150, what: 'sequences of operations tried' })
      }
    )
  }
}
