import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { SessionOptions, SessionStore } from '../../plugin/index.js'
import { Browser, makeApp, SECRET } from '../fixtures/app.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { counted } from '../fixtures/counts.js'
import { findEngines, type SharedEngine } from '../fixtures/shared-engines.js'
import { makeRecord, spyStore } from '../fixtures/stores.js'

// Two processes sign in one user at the same time, with maxSessionsPerUser.

const CHILD = fileURLToPath(new URL('../fixtures/sign-ins-child.js', import.meta.url))
/** How many sign-ins each of the two processes sends at the same time. */
const TIMES = 20
const MAX = 5
const LIMITS = ['end-oldest', 'reject'] as const
/** By how many milliseconds the clock of the second process is ahead. */
const SKEWS = [0, 3000]

interface Answer {
  readonly status: number
  readonly code?: string
  readonly cookies: readonly string[]
}

const children = Array.from({ length: 2 }, () => fork(CHILD, { execArgv: [] }))
t.teardown(() => children.map((child) => child.kill('SIGKILL')))

/** Sends an order to a child, and returns its first message that meets the condition. */
async function ask<T>(
  child: ChildProcess,
  order: object,
  isAnswer: (message: unknown) => boolean
): Promise<T> {
  child.send(order)
  return waitFor<T>(child, isAnswer)
}

async function waitFor<T>(child: ChildProcess, isAnswer: (message: unknown) => boolean): Promise<T> {
  for (;;) {
    const [message] = (await once(child, 'message')) as [unknown]
    if (isAnswer(message)) return message as T
  }
}

async function signIn(child: ChildProcess, user: string, times: number): Promise<Answer[]> {
  return ask<Answer[]>(child, { signIn: { user, times } }, Array.isArray)
}

/** Opens a store in this process and in both children. */
async function setUp(t: Test, { open }: SharedEngine, onLimit: SessionOptions['onLimit'], skew: number) {
  const { store, ways } = await open(t)
  const options = { secret: SECRET, maxSessionsPerUser: MAX, onLimit } as const
  await Promise.all(
    children.map((child, index) =>
      ask(
        child,
        { serve: { skew: index * skew, options, way: ways[index % ways.length] } },
        (message) => message === 'ready'
      )
    )
  )
  const spy = spyStore(store)
  const app = await makeApp(t, { ...options, store: spy, cleanupInterval: 0 })
  app.get('/login/:user', async ({ session, params }) => session.login((params as { user: string }).user))
  const idsOf = async (user: string) => ((await store.listByUser?.(user)) ?? []).map(({ id }) => id).sort()

  /** Signs in a user in this process. Returns the ids of the sessions, and the id of the lock of these sign-ins. */
  async function prepare(user: string, times: number): Promise<{ before: string[]; lock: string }> {
    spy.take()
    for (let count = 0; count < times; count++) await new Browser(app).get(`/login/${user}`)
    const before = await idsOf(user)
    const created = spy.take().flatMap(([method, id]) => (method === 'create' ? [id as string] : []))
    return { before, lock: created.find((id) => !before.includes(id)) as string }
  }

  return { store, prepare, idsOf }
}

/**
 * Sends 40 sign-ins from the two processes. All of them overlap, because a lock that a third process seems to hold keeps
 * them waiting until each of them has begun.
 */
async function signInTogether(store: SessionStore, user: string, lock: string): Promise<Answer[]> {
  await store.create(lock, makeRecord({ data: {}, expiresAt: Date.now() + 30_000 }))
  const waiting = children.map((child) => waitFor(child, (message) => message === 'waiting'))
  const answers = children.map((child) => signIn(child, user, TIMES))
  await Promise.all(waiting)
  await store.destroy(lock)
  return (await Promise.all(answers)).flat()
}

function idsIn(answers: readonly Answer[]): string[] {
  return answers.filter(({ status }) => status === 200).map(({ cookies }) => idOfCookie(cookies[0] as string))
}

const engines = (await findEngines(t)).filter(({ client }) => client !== 'ioredis')

for (const shared of engines) {
  for (const skew of SKEWS) {
    const place = `${shared.engine}, clocks ${skew} ms apart`
    const limits = { skip: shared.skip, timeout: 120_000 }

    for (const onLimit of LIMITS) {
      void t.test(
        `F8: of 40 overlapping sign-ins in two processes, each that succeeds lives: ${onLimit}, ${place}`,
        limits,
        async (t) => {
          const { store, prepare, idsOf } = await setUp(t, shared, onLimit, skew)
          for (const count of [2, MAX]) {
            const user = `user ${count}`
            const { before, lock } = await prepare(user, count)
            const answers = await signInTogether(store, user, lock)
            const [successful, live] = [idsIn(answers), await idsOf(user)]
            t.comment(`${count} before: ${counted(answers.map(({ status }) => status))}, ${live.length} live`)
            t.equal(await store.get(lock), undefined, 'the lock does not stay')
            t.ok(live.length <= MAX, `${live.length} sessions live`)
            t.same(minus(successful, live), [], 'no success is told to the dead')
            assertRefusals(t, answers, onLimit)
            if (onLimit === 'reject') {
              t.equal(successful.length, MAX - count)
              t.same(minus(before, live), [], 'only the newcomer ever goes')
            } else t.ok(successful.length >= 1, 'at least one lives')
          }
        }
      )

      void t.test(
        `F8: whenever 40 sign-ins in two processes are over, at most ${MAX} live: ${onLimit}, ${place}`,
        limits,
        async (t) => {
          const { store, prepare, idsOf } = await setUp(t, shared, onLimit, skew)
          const { before, lock } = await prepare('ada', 1)
          let earlier = before
          for (let round = 0; round < 2; round++) {
            const answers = (await Promise.all(children.map((child) => signIn(child, 'ada', TIMES)))).flat()
            const [successful, live] = [idsIn(answers), await idsOf('ada')]
            t.equal(await store.get(lock), undefined, 'the lock does not stay')
            t.ok(live.length <= MAX, `${live.length} sessions live`)
            t.same(minus(live, [...earlier, ...successful]), [], 'no refused sign-in lives')
            assertRefusals(t, answers, onLimit)
            const newcomers = minus(live, earlier)
            if (onLimit === 'end-oldest') t.ok(newcomers.length >= 1, 'at least one lives')
            else t.same(newcomers, successful.sort(), 'each that succeeds lives')
            earlier = live
          }
        }
      )
    }

    void t.test(`F8: the oldest login ends, in whichever process it was: ${place}`, limits, async (t) => {
      const { store, prepare, idsOf } = await setUp(t, shared, 'end-oldest', skew)
      const { before, lock } = await prepare('ada', 1)
      const ids = [...before]
      for (const index of [0, 0, 1, 1, 0, 1, 0, 0, 1]) {
        ids.push(...idsIn(await signIn(children[index] as ChildProcess, 'ada', 1)))
        t.same(await idsOf('ada'), ids.slice(-MAX).sort(), `sign-in ${ids.length}`)
      }
      t.equal(ids.length, 10)
      t.equal(await store.get(lock), undefined)
    })
  }
}

function minus(ids: readonly string[], others: readonly string[]): string[] {
  return ids.filter((id) => !others.includes(id)).sort()
}

function assertRefusals(t: Test, answers: readonly Answer[], onLimit: SessionOptions['onLimit']): void {
  const [status, code] = onLimit === 'reject' ? [403, 'SESSION_LIMIT'] : [409, 'SESSION_GONE']
  const others = answers.filter((answer) => answer.status !== 200)
  t.same(others, Array(others.length).fill({ status, code, cookies: [] }), 'the others get no cookie')
}
