import t from 'tap'
import { stopClock } from '../fixtures/clock.js'
import { setUpCore, type Core } from './fixtures/core.js'
import { emptyJar, receive, verifyStore, type Jar } from './fixtures/jar.js'
import { CSRF, FLASH, LIFETIME, ModelRequest, RETURN, type ModelRecord } from './fixtures/model.js'
import { equal, perform, type Op } from './fixtures/operations.js'
import { LONG, tell } from './fixtures/runs.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
/** A request extends its session after 6 minutes. */
const LIMITS = { maxAge: 3 * HOUR, idleTimeout: HOUR }

const OPERATIONS: readonly Op[] = [
  ['set', 'a', 2],
  ['add', 'a'],
  ['mutate', 'list'],
  ['remove', 'a'],
  ['clear'],
  ['setFlash', 'note', 2],
  ['getFlash', 'note'],
  ['printToken'],
  ['set', 'userId', 'ada'],
  ['set', 'userId', 'bob'],
  ['login', 'ada', { keep: ['a'] }],
  ['login', 'bob', { maxAge: 86_400, persistent: false }],
  ['set', 'userId', undefined],
  ['regenerate'],
  ['regenerate', ['list']],
  ['invalidate'],
  ['rollback']
]
/** Operations that are much like another one. `npm test` has them only in sequences of two. */
const MORE_OPERATIONS: readonly Op[] = [
  ['append', 'list'],
  ['remember', '/account?tab=1#name'],
  ['regenerate', ['a', 'userId']],
  ['set', 'a', undefined],
  ['set', 'userId', null],
  ['take', 'a'],
  ['take', 'userId'],
  ['remove', 'userId'],
  ['updateUser', 'bob'],
  ['login', 'ada'],
  ['login', 'bob'],
  ['login', 'ada', { idleTimeout: null }],
  ['login', 'ada', { idleTimeout: 600, persistent: true }],
  ['login', 'ada', { maxAge: 401 * 86_400 }],
  ['takeReturnTo'],
  ['peekFlash', 'note']
]

/** What a browser has when its request starts, and what happens while the request runs. */
interface Start {
  readonly session?: 'nobody' | 'ada'
  readonly visitor?: true
  /** Ends the session, or changes it, between the load and the commit. */
  readonly meanwhile?: 'end' | 'change'
  readonly isFailed?: true
  /** The number of operations in the longest sequences. */
  readonly longest: 2 | 3
}

const STARTS: Readonly<Record<string, Start>> = {
  'a new browser': { longest: 2 },
  'a visitor': { visitor: true, longest: 3 },
  'a session without a user': { session: 'nobody', longest: 3 },
  'the session of a user': { session: 'ada', longest: 3 },
  'a session without a user, beside a visitor cookie': { session: 'nobody', visitor: true, longest: 2 },
  'the session of a user, beside a visitor cookie': { session: 'ada', visitor: true, longest: 2 },
  'a session without a user that ends meanwhile': { session: 'nobody', meanwhile: 'end', longest: 2 },
  'the session of a user that ends meanwhile': { session: 'ada', meanwhile: 'end', longest: 2 },
  'a session that ends meanwhile, beside a visitor cookie': {
    session: 'nobody',
    visitor: true,
    meanwhile: 'end',
    longest: 2
  },
  'a session without a user that another request changes': {
    session: 'nobody',
    meanwhile: 'change',
    longest: 2
  },
  'the session of a user that another request changes': { session: 'ada', meanwhile: 'change', longest: 2 },
  'a visitor whose request fails': { visitor: true, isFailed: true, longest: 2 },
  'a session without a user whose request fails': { session: 'nobody', isFailed: true, longest: 2 },
  'the session of a user whose request fails': { session: 'ada', isFailed: true, longest: 2 }
}

function sequencesOf({ longest }: Start): Op[][] {
  const all = [...OPERATIONS, ...MORE_OPERATIONS]
  const pairs = all.flatMap((first) => all.map((second) => [first, second]))
  const some = LONG ? all : OPERATIONS
  const triples = some.flatMap((a) => some.flatMap((b) => some.map((c) => [a, b, c])))
  return [...all.map((op) => [op]), ...pairs, ...(longest === 3 ? triples : [])]
}

/** Returns the library's own values, as a session or a visitor cookie holds them. `from` tells the two apart. */
function ownValues(from: string): [string, unknown][] {
  return [
    [CSRF, from.padEnd(43, '0')],
    [`${FLASH}note`, { value: from, at: Date.now() - MINUTE }],
    [RETURN, { value: '/', at: Date.now() - MINUTE }]
  ]
}

function recordOf(session: 'nobody' | 'ada'): ModelRecord {
  const user: [string, unknown][] = [
    ['userId', 'ada'],
    [LIFETIME, { maxAge: 7200 }]
  ]
  const data: [string, unknown][] = [
    ['a', 1],
    ['b', { deep: [1] }],
    ['list', ['x']],
    ...(session === 'ada' ? user : []),
    ...ownValues('session')
  ]
  const lastAccessed = Date.now() - 10 * MINUTE
  const times = { createdAt: lastAccessed - 10 * MINUTE, lastAccessed, expiresAt: lastAccessed + HOUR }
  return { data: new Map(data), ...times, version: 1, isGone: false }
}

function makeJar(core: Core, { session }: Start, visitor: Jar['visitor']): Jar {
  const jar = { ...emptyJar(), visitor }
  if (session !== undefined) core.addSession(jar, recordOf(session))
  return jar
}

async function endSession({ store }: Core, { records }: Jar): Promise<void> {
  for (const [id, record] of records) {
    await store.destroy(id)
    record.isGone = true
  }
}

async function changeSession({ store }: Core, { records }: Jar): Promise<void> {
  for (const [id, record] of records) {
    const { lastAccessed, expiresAt } = record
    await store.update(id, { set: { a: '7', c: '8' }, remove: ['b'], lastAccessed, expiresAt })
    record.data = new Map([...record.data, ['a', 7], ['c', 8]] as const)
    ;(record.data as Map<string, unknown>).delete('b')
    record.version++
  }
}

/** Runs one request with the operations on the core and on the model. Throws an error if they differ in anything. */
async function run(
  core: Core,
  start: Start,
  visitor: Jar['visitor'],
  operations: readonly Op[]
): Promise<void> {
  const jar = makeJar(core, start, visitor)
  const { session } = jar
  const request = await core.begin(jar)
  const model = new ModelRequest({ record: session?.content, visitor: visitor?.content }, LIMITS)
  for (const op of operations) perform(request.session, model, op)
  perform(request.session, model, ['read'])
  if (start.meanwhile === 'end') await endSession(core, jar)
  if (start.meanwhile === 'change') await changeSession(core, jar)
  core.store.take()
  const reply = await request.end(start.isFailed === true)
  const calls = core.store.takeNames()
  const result = model.commit(start.isFailed === true)
  equal(reply.error, result.error, 'the error')
  equal(calls, result.calls, 'the store calls')
  equal([request.session.isNew, request.session.modified], [model.isNew, false], 'isNew and modified')
  receive(jar, core.context, reply, result)
  await verifyStore(jar, core.store)
}

for (const [name, start] of Object.entries(STARTS)) {
  void t.test(
    `for ${name}, every sequence of up to ${start.longest} operations has the same result as in the model`,
    async (t) => {
      stopClock(t)
      const core = await setUpCore(t, LIMITS)
      const visitor =
        start.visitor && core.seal({ data: new Map(ownValues('visitor')), sealedAt: Date.now() })
      const sequences = sequencesOf(start)
      const failures: string[] = []
      for (const operations of sequences) {
        await run(core, start, visitor, operations).catch((error: unknown) =>
          failures.push(`${JSON.stringify(operations)}: ${(error as Error).message}`)
        )
      }
      t.same(failures.slice(0, 5), [], `${failures.length} of ${sequences.length} sequences differ`)
      tell(t, 'sequences of operations tried', sequences.length)
    }
  )
}
