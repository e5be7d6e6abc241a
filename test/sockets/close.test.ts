import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { SessionStore } from '../../plugin/index.js'
import { SqliteStore } from '../../plugin/stores/sqlite/store.js'
import { wrap } from '../fixtures/stores.js'
import {
  BEFORE,
  makeGate,
  serve,
  settle,
  signIn,
  STORES,
  storedOf,
  until,
  watchProcess
} from './fixtures/server.js'
import { cookieOf, openWire, requestText } from './fixtures/wire.js'

const unhandled = watchProcess()

for (const [kind, wrapping] of Object.entries(STORES)) {
  void t.test(
    `with ${kind}, app.close() waits until a running request has been committed, and does not close the store`,
    async (t) => {
      const gate = makeGate()
      const served = await serve(t, wrapping, (app) =>
        app.get('/wait', async ({ session }) => {
          session.set('name', 'ada')
          await gate.wait()
          return 'answer'
        })
      )
      const wire = await openWire(served.port)
      wire.write(requestText('/wait', { connection: 'close' }))
      await gate.reached
      const closed = served.app.close()
      await settle()
      await t.rejects(openWire(served.port), { code: 'ECONNREFUSED' })
      gate.open()
      const response = await wire.next()
      await closed
      t.match(response, { status: 200, body: 'answer' })
      t.same(storedOf(served, cookieOf(response)), BEFORE)
      t.same(served.store.takeNames(), ['create'])
    }
  )

  void t.test(`with ${kind}, app.close() waits for a write that the store is still processing`, async (t) => {
    const gate = makeGate()
    const served = await serve(t, (memory) =>
      wrap(wrapping(memory), (method, _args, next) => (method === 'create' ? gate.wait().then(next) : next()))
    )
    const wire = await openWire(served.port)
    wire.write(requestText('/set?name=ada', { connection: 'close' }))
    await gate.reached
    const closed = served.app.close()
    await settle()
    gate.open()
    const response = await wire.next()
    await closed
    t.same(storedOf(served, cookieOf(response)), BEFORE)
  })

  void t.test(
    `with ${kind}, a pipelined request that arrives while the app closes receives a 503 and makes no store call`,
    async (t) => {
      const gate = makeGate()
      const served = await serve(t, wrapping, (app) =>
        app.get('/wait', async () => {
          await gate.wait()
          return 'answer'
        })
      )
      const cookie = await signIn(served.port)
      const wire = await openWire(served.port)
      wire.write(requestText('/wait', { cookie }))
      await gate.reached
      served.store.take()
      const closed = served.app.close()
      await settle()
      wire.write(requestText('/logout', { cookie }))
      await settle()
      gate.open()
      t.equal((await wire.next()).status, 200)
      t.equal((await wire.next()).status, 503)
      await closed
      t.same(served.store.takeNames(), [])
      t.same(storedOf(served, cookie), BEFORE)
    }
  )
}

const CLOSING_STORES: Record<string, () => SessionStore | undefined> = {
  'a store that stays open': () => undefined,
  'a store that fails because it is closed': () => new SqliteStore(':memory:')
}

for (const [kind, makeStore] of Object.entries(CLOSING_STORES)) {
  void t.test(
    `with ${kind}, a request that is cut off by forceCloseConnections causes no unhandled error`,
    async (t) => {
      const gate = makeGate()
      let answered = false
      const served = await serve(
        t,
        (memory) => makeStore() ?? memory,
        (app) =>
          app.get('/wait', async ({ session }) => {
            session.set('name', 'ada')
            await gate.wait()
            answered = true
            return 'answer'
          }),
        { server: { forceCloseConnections: true } }
      )
      const wire = await openWire(served.port)
      wire.write(requestText('/wait', { connection: 'close' }))
      await gate.reached
      await served.app.close()
      t.equal(await wire.ended(), '')
      gate.open()
      await until('the answer', () => answered)
      await settle()
      t.same(unhandled, [])
    }
  )
}

void t.test('app.close() stops a running sweep, and waits no longer than storeTimeout for it', async (t) => {
  const stops: (AbortSignal | undefined)[] = []
  const cleanup = async (signal?: AbortSignal): Promise<number> => {
    stops.push(signal)
    return new Promise(() => undefined)
  }
  const served = await serve(t, (memory) => Object.assign(memory, { cleanup }), undefined, {
    storeTimeout: 50,
    cleanupInterval: 1,
    server: { logger: false }
  })
  await until('the sweep', () => stops.length > 0)
  const start = performance.now()
  await served.app.close()
  const took = performance.now() - start
  t.ok(took >= 45 && took < 2000, `${Math.round(took)} ms`)
  t.equal(stops[0]?.aborted, true)
})

void t.test(
  'a process exits by itself after its apps have been used and closed, because no timer or handle is left',
  async (t) => {
    const program = fileURLToPath(new URL(`./fixtures/closing${extname(import.meta.url)}`, import.meta.url))
    const child = spawn(process.execPath, [...process.execArgv, '--unhandled-rejections=strict', program])
    const killer = setTimeout(() => child.kill('SIGKILL'), 20_000)
    const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
    clearTimeout(killer)
    t.same([child.exitCode, child.signalCode, errors], [0, null, ''])
    const runs = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Run)
    t.equal(runs.length, 5)
    for (const { kind, before, after } of runs) t.same(after.sort(), before.sort(), kind)
  }
)

interface Run {
  readonly kind: string
  readonly before: string[]
  readonly after: string[]
}

void t.test(
  'the tests in this file have caused no unhandled error and no warning',
  async (t) => void t.same(unhandled, [])
)
