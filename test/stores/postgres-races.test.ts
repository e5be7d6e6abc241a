import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Response } from 'light-my-request'
import t, { type Test } from 'tap'
import { signIn } from '../../plugin/testing/index.js'
import { makeApp, setCookieOf } from '../fixtures/app.js'
import { findPostgres, makePool, makeStore } from '../fixtures/postgres.js'
import { counted, countsOf } from '../fixtures/counts.js'

// Through the whole plugin: ends of sessions race writes that loaded them before.

const found = await findPostgres(t)
const { skip } = found
const server = 'server' in found ? found.server : { url: '' }

const ROUNDS = 1000
/** As many rounds at once as keep the pool busy. */
const AT_ONCE = 25

interface Ending {
  /** Ends the session of `cookie`, or gives it another id. */
  end(app: FastifyInstance, cookie: string, id: string, user: string): Promise<unknown>
  /** How many sessions are left of each round. */
  readonly left: number
}

const ENDINGS: Record<string, Ending> = {
  logouts: { end: (app, cookie) => send(app, cookie, '/logout'), left: 0 },
  revocations: { end: (app, _cookie, id, user) => revoke(app, id, user), left: 0 },
  rotations: { end: (app, cookie) => send(app, cookie, '/rotate'), left: 1 }
}

for (const [name, { end, left }] of Object.entries(ENDINGS)) {
  void t.test(`1,000 ${name} race slow writes, and no session comes back`, { skip }, async (t) => {
    const pool = makePool(t, server)
    const { store, table } = await makeStore(t, pool)
    const { app, arrive } = addRacers(await makeApp(t, { store, storeTimeout: 30_000 }))
    const statuses: number[] = []
    let rounds = 0
    const race = async () => {
      for (let round = ++rounds; round <= ROUNDS; round = ++rounds) {
        const cookie = await signIn(app, { userId: `user ${round}` })
        const id = (await send(app, cookie, '/id')).body
        const arrived = arrive(id)
        const writer = send(app, cookie, `/slow/${round % 12}`)
        await arrived
        await end(app, cookie, id, `user ${round}`)
        const late = await writer
        statuses.push(late.statusCode)
        t.equal(setCookieOf(late), undefined)
        if ((await store.get(id)) !== undefined) t.fail(`round ${round}: ${id} is back`)
        if (left === 1) await checkKept(t, app, `user ${round}`, late)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, race))
    t.comment(`${ROUNDS} ${name}; the writes: ${counted(statuses)}`)
    t.same(Object.keys(countsOf(statuses)), ['200', '409'], 'some writes came before, some after')
    t.same((await pool.query(`SELECT count(*)::int AS n FROM ${table}`)).rows, [{ n: ROUNDS * left }])
  })
}

/** A write that was answered with 200 went along to the new id. */
async function checkKept(t: Test, app: FastifyInstance, user: string, late: Response): Promise<void> {
  const sessions = await app.sessionManager.list(user)
  t.equal(sessions.length, 1)
  t.equal(sessions[0]?.data['late'], late.statusCode === 200 ? true : undefined)
}

/** `arrive(id)` waits until a slow writer of this session has loaded it. */
function addRacers(app: FastifyInstance) {
  const arrivals = new Map<string, () => void>()
  app.get('/id', async ({ session }) => session.id)
  app.get('/logout', async ({ session }) => session.invalidate())
  app.get('/rotate', async ({ session }) => session.regenerate())
  app.get('/slow/:turns', async ({ session, params }) => {
    session.set('late', true)
    arrivals.get(session.id)?.()
    for (let turns = Number((params as { turns: string }).turns); turns > 0; turns--) await nextTurn()
    return 'written'
  })
  return { app, arrive: (id: string) => new Promise<void>((resolve) => arrivals.set(id, resolve)) }
}

/** By its id, or with all of its user's, in turn. */
async function revoke(app: FastifyInstance, id: string, user: string): Promise<unknown> {
  return /[02468]$/.test(user) ? app.sessionManager.revokeAll(user) : app.sessionManager.revoke(id)
}

async function send(app: FastifyInstance, cookie: string, url: string): Promise<Response> {
  return await app.inject({ url, headers: { cookie } })
}
