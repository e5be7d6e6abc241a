import { EventEmitter, once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Response } from 'light-my-request'
import t from 'tap'
import { signIn } from '../../plugin/testing/index.js'
import { addRoutes, makeApp, setCookieOf } from '../fixtures/app.js'
import { counted, countsOf } from '../fixtures/counts.js'
import { findEngines } from '../fixtures/shared-engines.js'

// Logouts, revocations and rotations race against writes from requests that loaded the session earlier. The tests use
// the whole plugin, not only the store.

const ROUNDS = 1000
/**
 * In each round, a logout, a revocation or a rotation races against a write. This many rounds run at the same time,
 * which keeps the database busy.
 */
const AT_ONCE = 25
/**
 * Either the write or the call that ends the session can start first. This is the maximum time between the two starts,
 * in turns of the event loop.
 */
const MAX_LEAD = 12

interface Signed {
  readonly app: FastifyInstance
  readonly user: string
  readonly cookie: string
  readonly id: string
}

/** Functions that end a session or give it another id. Each returns whether it succeeded. */
const ENDS: Record<string, (signed: Signed) => Promise<boolean>> = {
  logout: async ({ app, cookie }) => (await send(app, cookie, '/logout')).statusCode === 200,
  rotation: async ({ app, cookie }) => (await send(app, cookie, '/rotate')).statusCode === 200,
  revocation: async ({ app, id }) => app.sessionManager.revoke(id),
  'revocation of all sessions': async ({ app, user }) => (await app.sessionManager.revokeAll(user)) === 1
}
const KINDS = Object.keys(ENDS)

for (const { engine, client, skip, open } of await findEngines(t)) {
  const name = client === undefined ? engine : `${engine} with ${client}`
  const title = `${ROUNDS} logouts, revocations and rotations race slow writes, and revive no session: ${name}`
  void t.test(title, { skip, timeout: 280_000 }, async (t) => {
    const { store } = await open(t)
    const { app, startWriter } = addWriters(await makeApp(t, { store, storeTimeout: 30_000 }))
    const raced = new Map(KINDS.map((kind) => [kind, [] as number[]]))
    const race = async (round: number): Promise<void> => {
      const kind = KINDS[round % KINDS.length] as string
      const user = `user ${round}`
      const { cookie } = await signIn(app, { userId: user })
      const id = (await send(app, cookie, '/id')).body
      const racing = await startWriter(cookie, `racing ${round}`)
      const late = await startWriter(cookie, `late ${round}`)

      const lead = (Math.floor(round / KINDS.length) % (2 * MAX_LEAD + 1)) - MAX_LEAD
      const ended = afterTurns(lead, () => (ENDS[kind] as (typeof ENDS)[string])({ app, user, cookie, id }))
      await afterTurns(-lead, async () => racing.release())
      const hasEnded = await ended
      late.release()
      const [first, last] = await Promise.all([racing.response, late.response])

      raced.get(kind)?.push(first.statusCode)
      const cookies = [setCookieOf(first), setCookieOf(last)]
      const [record, left] = [await store.get(id), await app.sessionManager.list(user, { data: true })]
      const data = { userId: user, ...(first.statusCode === 200 && { [`racing ${round}`]: true }) }
      t.same(
        { hasEnded, late: last.statusCode, cookies, record, left: left.map(({ data }) => data) },
        {
          hasEnded: true,
          late: 409,
          cookies: [undefined, undefined],
          record: undefined,
          left: kind === 'rotation' ? [data] : []
        }
      )
    }
    let rounds = 0
    const runRounds = async (): Promise<void> => {
      while (rounds < ROUNDS) await race(rounds++)
    }
    await Promise.all(Array.from({ length: AT_ONCE }, runRounds))
    for (const [kind, statuses] of raced) {
      t.comment(`${name}, ${kind}: ${counted(statuses)}`)
      t.same(
        Object.keys(countsOf(statuses)),
        ['200', '409'],
        'some writes came before the end and some after'
      )
    }
  })
}

async function afterTurns<T>(turns: number, work: () => Promise<T>): Promise<T> {
  for (; turns > 0; turns--) await nextTurn()
  return work()
}

/**
 * Adds the routes. Also returns `startWriter(cookie, key)`, which sends a request. The request loads its session and
 * sets the key. It writes the session only after the test has called the `release()` function that `startWriter`
 * returned.
 */
function addWriters(app: FastifyInstance) {
  const gates = new EventEmitter().setMaxListeners(0)
  addRoutes(app)
  app.get('/id', async ({ session }) => session.id)
  app.get('/rotate', async ({ session }) => session.regenerate())
  app.get('/write/:key', async ({ session, params }) => {
    const { key } = params as { key: string }
    session.set(key, true)
    const released = once(gates, `release ${key}`)
    gates.emit(`loaded ${key}`)
    await released
    return 'written'
  })
  async function startWriter(cookie: string, key: string) {
    const loaded = once(gates, `loaded ${key}`)
    const response = send(app, cookie, `/write/${key}`)
    await loaded
    return { response, release: () => gates.emit(`release ${key}`) }
  }
  return { app, startWriter }
}

async function send(app: FastifyInstance, cookie: string, url: string): Promise<Response> {
  return await app.inject({ url, headers: { cookie } })
}
