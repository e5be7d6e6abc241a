import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { CLIENTS, connect, freshPrefix, sharedRedis, withoutRedis } from '../fixtures/redis.js'

const url = withoutRedis === false ? await sharedRedis(t) : ''
const CHILD = fileURLToPath(new URL('../fixtures/redis-child.js', import.meta.url))

async function setUp(t: Test, client = CLIENTS[0] as (typeof CLIENTS)[number]) {
  const prefix = freshPrefix()
  const store = await connect({ client, urls: [url], prefix })
  const app = addRoutes(await makeApp(t, { store, storeTimeout: 20_000 }))
  return { app, store, prefix }
}

void t.test(
  'eight processes add 10,000 to one session',
  { skip: withoutRedis, timeout: 280_000 },
  async (t) => {
    const [PROCESSES, TIMES] = [8, 1250]
    const { app, prefix } = await setUp(t)
    app.get('/count', async ({ session }) => String(session.get('count')))
    const browser = new Browser(app)
    await browser.get('/set?a=1')
    const argument = { url, prefix, secret: SECRET, cookie: browser.cookie, times: TIMES, parallel: 10 }
    const children = Array.from({ length: PROCESSES }, () => {
      const child = fork(CHILD, [JSON.stringify(argument)], { execArgv: [] })
      t.teardown(() => child.kill('SIGKILL'))
      return child
    })
    await Promise.all(children.map((child) => messageOf(child)))
    const start = performance.now()
    for (const child of children) child.send('go')
    const statuses = await Promise.all(children.map((child) => messageOf(child)))
    const seconds = (performance.now() - start) / 1000
    t.same(statuses, Array(PROCESSES).fill({ 200: TIMES }))
    t.equal((await browser.get('/count')).body, String(PROCESSES * TIMES))
    t.comment(`${PROCESSES * TIMES} increments by ${PROCESSES} processes in ${seconds.toFixed(1)} s`)
  }
)

async function messageOf(child: ChildProcess): Promise<unknown> {
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`the process ended: ${String(code)}`)
  })
  const [message] = (await Promise.race([once(child, 'message'), failed])) as [unknown]
  failed.catch(() => undefined)
  return message
}

/** What ends a session, while a slow request is still to write to it. */
const ENDS: Record<string, (browser: Browser, id: string) => Promise<unknown>> = {
  logout: (browser) => browser.get('/logout'),
  revocation: ({ app }, id) => Promise.resolve(app.sessionManager.revoke(id)),
  rotation: (browser) => browser.get('/rotate')
}
const ROUNDS = 1000
const AT_ONCE = 100

for (const client of CLIENTS) {
  void t.test(
    `${ROUNDS} logouts, revocations and rotations race slow writes, and none comes back: ${client}`,
    { skip: withoutRedis, timeout: 280_000 },
    async (t) => {
      const { app, store } = await setUp(t, client)
      const gates = addSlowRoute(app)
      const kinds = Object.keys(ENDS)
      const statuses: Record<string, number> = {}
      const round = async (index: number): Promise<void> => {
        const kind = kinds[index % kinds.length] as string
        const { id, old, racing, late } = await openSession(app, gates, index)
        const ending = (ENDS[kind] as (typeof ENDS)[string])(old, id)
        racing.release()
        await ending
        late.release()
        const [raced, after] = await Promise.all([racing.response, late.response])
        const name = `${kind}: ${raced.statusCode} in the race, ${after.statusCode} after it`
        statuses[name] = (statuses[name] ?? 0) + 1
        t.equal(setCookieOf(after), undefined)
        t.equal(await store.get(id), undefined)
        const left = await store.listByUser(`user${index}`)
        t.equal(left.length, kind === 'rotation' ? 1 : 0)
        t.not(left[0]?.record.data['late'], '"1"')
      }
      for (let from = 0; from < ROUNDS; from += AT_ONCE) {
        await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => round(from + index)))
      }
      for (const [name, count] of Object.entries(statuses)) {
        t.match(name, /: (200|409) in the race, 409 after it$/)
        t.comment(`${client}: ${name}: ${count}`)
      }
    }
  )
}

type App = Awaited<ReturnType<typeof makeApp>>
type Gates = Map<string, { arrived: () => void; opened: Promise<void> }>

/** `/slow?gate=…&key=…` loads the session, says so, and writes the key once its gate is opened. */
function addSlowRoute(app: App): Gates {
  const gates: Gates = new Map()
  app.get('/slow', async ({ session, query }) => {
    const { gate, key } = query as { gate: string; key: string }
    session.get('userId')
    const { arrived, opened } = gates.get(gate) as { arrived: () => void; opened: Promise<void> }
    arrived()
    await opened
    session.set(key, '1')
    return 'slow'
  })
  app.get('/rotate', async ({ session }) => {
    session.regenerate()
    return 'rotate'
  })
  app.get('/id', async ({ session }) => session.id)
  return gates
}

/** A signed-in session with two slow requests under way. */
async function openSession(app: App, gates: Gates, index: number) {
  const old = new Browser(app)
  await old.get(`/set?userId=user${index}`)
  const id = (await old.get('/id')).body
  const { cookie } = old
  const slow = async (key: string) => {
    const gate = `${key}${index}`
    let release = (): void => undefined
    const opened = new Promise<void>((resolve) => (release = resolve))
    const arriving = new Promise<void>((resolve) => gates.set(gate, { arrived: resolve, opened }))
    const response = app.inject({ url: `/slow?gate=${gate}&key=${key}`, headers: { cookie } })
    await arriving
    return { release, response }
  }
  const [racing, late] = await Promise.all([slow('racing'), slow('late')])
  return { id, old, racing, late }
}
