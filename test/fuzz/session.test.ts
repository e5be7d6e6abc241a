import fc, { type Arbitrary } from 'fast-check'
import type { Response } from 'light-my-request'
import t, { type Test } from 'tap'
import {
  MemoryStore,
  SessionError,
  type JsonValue,
  type Session,
  type SessionStore
} from '../../plugin/index.js'
import { SqliteStore } from '../../plugin/stores/sqlite.js'
import { Browser, makeApp } from '../fixtures/app.js'
import { stopClock, type Clock } from '../fixtures/clock.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { open, workingDriver } from '../fixtures/sqlite.js'
import { check } from './fixtures/check.js'
import {
  add,
  append,
  isLive,
  MAX_AGE,
  ModelRequest,
  same,
  type ModelRecord,
  type Op
} from './fixtures/model.js'

type Command =
  readonly [request: number, Op | readonly ['end', isFailed: boolean]] | readonly ['pass', minutes: number]

const key = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('a', 'b') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('__proto__', 'constructor', '', 'é', '\0', '\ud800', '\x01', 'a.b')
  }
)
const value = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.jsonValue({ maxDepth: 2 }))
const op: Arbitrary<Op> = fc.oneof(
  fc.tuple(fc.constant('set' as const), key, value),
  // `add` has a higher weight to make retries more likely. An update is retried only if another request changes the
  // same key at the same time.
  { weight: 3, arbitrary: fc.tuple(fc.constant('add' as const), fc.constantFrom('a', 'b')) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('append' as const), fc.constant('list')) },
  fc.tuple(fc.constant('mutate' as const), fc.oneof(key, fc.constant('list'))),
  fc.tuple(fc.constantFrom('remove' as const, 'read' as const), fc.oneof(key, fc.constant('list'))),
  fc.tuple(fc.constant('setFlash' as const), key, value),
  fc.tuple(fc.constantFrom('getFlash' as const, 'peekFlash' as const), key),
  fc.tuple(fc.constantFrom('clear' as const, 'regenerate' as const, 'invalidate' as const, 'save' as const))
)
const end = fc.tuple(
  fc.constant('end' as const),
  fc.oneof(fc.constant(false), fc.constant(false), fc.boolean())
)
const commandsOf = (requests: number): Arbitrary<Command[]> =>
  fc.array(
    fc.oneof(
      { weight: 12, arbitrary: fc.tuple(fc.nat(requests - 1), op) },
      { weight: 4, arbitrary: fc.tuple(fc.nat(requests - 1), end) },
      { weight: 1, arbitrary: fc.tuple(fc.constant('pass' as const), fc.constantFrom(1, 59, 60, 179)) }
    ),
    { minLength: 1, maxLength: 60, size: 'max' }
  )

/** A request that is still running, with its session in the library and its counterpart in the model. */
interface Running {
  readonly session: Session
  readonly model: ModelRequest
  readonly response: Promise<Response>
  /** Ends the request. The handler throws an error if `isFailed` is true, and otherwise returns. */
  readonly end: (isFailed: boolean) => void
}

/** A browser, the store of the app, and the records that the model expects in the store. */
interface Visit {
  readonly browser: Browser
  readonly store: SessionStore
  /** The model's record for the browser's current cookie. */
  record: ModelRecord | undefined
  /** The model's record for each id that has ever been issued. */
  readonly records: Map<string, ModelRecord>
}

/**
 * Receives the session of a request. The returned promise resolves when the route handler must finish. The handler must
 * throw an error if the promise resolves to `true`.
 */
type Handler = (session: Session) => Promise<boolean>

/**
 * Creates an app with one route. The route handler passes the session to the test, and then waits until the test ends
 * the request.
 */
async function setUp(t: Test, store: SessionStore) {
  const handlers: Handler[] = []
  const app = await makeApp(t, { store, cleanupInterval: 0, maxAge: MAX_AGE / 1000 })
  app.get('/', async ({ session }) => {
    const isFailed = await handlers.shift()?.(session)
    if (isFailed === true) throw new Error('the handler failed')
    return 'done'
  })
  return { app, handlers }
}

async function begin(handlers: Handler[], { browser, record }: Visit): Promise<Running> {
  const model = new ModelRequest(record)
  let end: (isFailed: boolean) => void = () => undefined
  const ended = new Promise<boolean>((resolve) => (end = resolve))
  let response: Promise<Response> | undefined
  const session = await new Promise<Session>((resolve) => {
    handlers.push((given) => {
      resolve(given)
      return ended
    })
    response = browser.get('/')
  })
  return { session, model, response: response as Promise<Response>, end }
}

async function finish(visit: Visit, { model, response, end }: Running, isFailed: boolean): Promise<void> {
  const outcome = model.isCommitted ? 'nothing' : model.commit(isFailed)
  end(isFailed)
  const { statusCode, cookies } = await response
  equal(statusCode, isFailed ? 500 : outcome === 'SESSION_GONE' ? 409 : 200, 'the status code')
  const [cookie] = cookies
  const given = cookie === undefined ? undefined : cookie.value === '' ? null : cookie.value
  equal(
    typeof given,
    model.cookie == null ? typeof model.cookie : 'string',
    'the type of the cookie (string: set, object: cleared, undefined: absent)'
  )
  if (model.cookie !== undefined) visit.record = model.cookie ?? undefined
  if (model.cookie != null) visit.records.set(idOfCookie(`=${String(given)}`), model.cookie)
  await verifyStore(visit)
}

/** Asserts that the store contains the model's live records, and no records of sessions that have ended. */
async function verifyStore({ store, records }: Visit): Promise<void> {
  for (const [id, record] of records) {
    const stored = await store.get(id)
    const texts = isLive(record)
      ? [...record.data].map(([key, value]) => [key, JSON.stringify(value)])
      : undefined
    equal(stored && sorted(Object.entries(stored.data)), texts && sorted(texts), `the data of ${id}`)
  }
}

async function apply({ session, model }: Running, op: Op): Promise<void> {
  const [name, key = ''] = op
  if (name === 'save') {
    const outcome = model.isCommitted ? 'nothing' : model.commit(false)
    const code = await session.save().then(() => 'nothing', codeOf)
    return equal(code, outcome === 'SESSION_GONE' ? outcome : 'nothing', 'the outcome of save()')
  }
  if (!model.isCommitted) return perform(session, model, op)
  if (name === 'read' || name === 'peekFlash' || name === 'mutate') return
  // A change after the commit must throw instead of being lost silently.
  equal(
    errorCodeOf(() => perform(session, new ModelRequest(undefined), op)),
    'SESSION_COMMITTED',
    `the error code of ${name} ${key}`
  )
}

function perform(session: Session, model: ModelRequest, op: Op): void {
  switch (op[0]) {
    case 'set':
      session.set(op[1], copy(op[2]))
      return model.set(op[1], copy(op[2]))
    case 'add':
      session.update(op[1], add)
      return model.update(op[1], add)
    case 'append':
      session.update(op[1], append)
      return model.update(op[1], append)
    case 'remove':
      session.remove(op[1])
      return model.remove(op[1])
    case 'mutate':
      return mutate(session, model, op[1])
    case 'setFlash':
      session.setFlash(op[1], copy(op[2]) as JsonValue)
      return model.setFlash(op[1], copy(op[2]))
    case 'getFlash':
      return equal(session.getFlash(op[1]), model.getFlash(op[1]), 'the result of getFlash()')
    case 'peekFlash':
      return equal(session.peekFlash(op[1]), model.peekFlash(op[1]), 'the result of peekFlash()')
    case 'read':
      return read(session, model, op[1])
    case 'clear':
    case 'regenerate':
    case 'invalidate':
      session[op[0]]()
      return model[op[0]]()
  }
}

/** Mutates the object that `get` returns, and makes the same change in the model. */
function mutate(session: Session, model: ModelRequest, key: string): void {
  const value = session.get(key)
  if (typeof value !== 'object' || value === null) return
  if (Array.isArray(value)) value.push('mutated')
  else (value as Record<string, unknown>)['deeper'] = copy(value)
  model.set(key, copy(value))
}

function read(session: Session, model: ModelRequest, key: string): void {
  equal(session.get(key), model.value(key), `the result of get(${key})`)
  equal(session.has(key), model.value(key) !== undefined, `the result of has(${key})`)
  equal([...session.keys()].sort(), model.keys().sort(), 'keys')
  equal(session.isNew, model.isNew, 'isNew')
  equal(session.modified, model.isModified, 'modified')
}

function equal(seen: unknown, wanted: unknown, what: string): void {
  if (!same(seen, wanted))
    throw new Error(`${what} is ${JSON.stringify(seen)}, expected ${JSON.stringify(wanted)}`)
}

function sorted(entries: readonly string[][]): string[] {
  return entries.map((entry) => JSON.stringify(entry)).sort()
}

function errorCodeOf(work: () => void): string {
  try {
    work()
    return 'nothing'
  } catch (error) {
    return codeOf(error)
  }
}

function codeOf(error: unknown): string {
  if (error instanceof SessionError) return error.code
  throw error
}

const copy = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

/**
 * Runs the commands. The first command for a request also starts that request. After the last command, ends all
 * requests that are still running.
 */
async function play(
  handlers: Handler[],
  visit: Visit,
  clock: Clock,
  commands: readonly Command[]
): Promise<void> {
  const running = new Map<number, Running>()
  for (const [target, operation] of [
    ...commands,
    ...[0, 1, 2].map((request): Command => [request, ['end', false]])
  ]) {
    if (target === 'pass') {
      clock.move(operation * 60_000)
      continue
    }
    const [name, isFailed] = operation
    const request = running.get(target) ?? (name === 'end' ? undefined : await begin(handlers, visit))
    if (request === undefined) continue
    running.set(target, request)
    if (name !== 'end') await apply(request, operation)
    else if (running.delete(target)) await finish(visit, request, isFailed)
  }
}

const STORES: Record<string, () => SessionStore> = {
  'a memory store': () => new MemoryStore(),
  'a SQLite store': () => new SqliteStore(open(':memory:', workingDriver()))
}

for (const [name, makeStore] of Object.entries(STORES)) {
  for (const requests of [1, 2, 3]) {
    void t.test(
      `any sequence of session operations has the same results as in the model, on ${name} (concurrent requests: ${requests})`,
      async (t) => {
        const clock = stopClock(t)
        const store = makeStore()
        const { app, handlers } = await setUp(t, store)
        const property = fc.asyncProperty(commandsOf(requests), async (commands) => {
          handlers.length = 0
          await play(
            handlers,
            { browser: new Browser(app), store, record: undefined, records: new Map() },
            clock,
            commands
          )
        })
        await check(t, property, { runs: 150, what: 'sequences of operations tried' })
      }
    )
  }
}
