import { Readable } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { Session } from '../../plugin/index.js'
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
  watchProcess,
  type Gate,
  type Served
} from './fixtures/server.js'
import { ask, openWire, requestText } from './fixtures/wire.js'

const unhandled = watchProcess()

/** An operation that a handler performs on its session, and the expected result after the commit. */
interface Action {
  readonly act: (session: Session) => void
  /** The data that is stored for the original session, or `undefined` if that session no longer exists. */
  readonly committed: Record<string, string> | undefined
  /** The total number of stored sessions. */
  readonly size: number
}

const ACTIONS: Record<string, Action> = {
  reads: { act: (session) => void session.get('name'), committed: BEFORE, size: 1 },
  'sets a key': { act: (session) => session.set('late', 1), committed: { ...BEFORE, late: '1' }, size: 1 },
  regenerates: { act: (session) => session.regenerate(), committed: undefined, size: 1 },
  invalidates: { act: (session) => session.invalidate(), committed: undefined, size: 0 }
}

/**
 * Adds a route for each action. The route performs the action, waits until the test opens its gate, and then returns
 * `answer`.
 */
function addActions(app: FastifyInstance, gates: Map<string, Gate>, answer: string | undefined): void {
  for (const [name, { act }] of Object.entries(ACTIONS)) {
    app.all(pathOf(name), async ({ session }) => {
      act(session)
      await gates.get(name)?.wait()
      return answer
    })
  }
}

const pathOf = (name: string) => `/${name.replaceAll(' ', '-')}`
const makeGates = () => new Map(Object.keys(ACTIONS).map((name) => [name, makeGate()]))

for (const [kind, wrapping] of Object.entries(STORES)) {
  void t.test(`with ${kind}, pipelined requests lose no changes and do not mix up sessions`, async (t) => {
    void t.test(
      'all pipelined changes to one session are kept, and the responses arrive in order',
      async (t) => {
        const served = await serve(t, wrapping)
        const cookie = await signIn(served.port)
        const wire = await openWire(served.port)
        const paths = Array.from({ length: 50 }, (_, index) =>
          index % 2 === 0 ? '/add' : `/set?k${index}=v${index}`
        )
        wire.write(paths.map((path) => requestText(path, { cookie })).join(''))
        for (const path of paths) {
          const { status, body, cookies } = await wire.next()
          t.same([status, body, cookies], [200, path.slice(1, 4), []], path)
        }
        wire.socket.destroy()
        const stored = storedOf(served, cookie)
        t.equal(stored?.['count'], '25')
        t.equal(Object.keys(stored ?? {}).length, 2 + 25)
      }
    )

    void t.test('each pipelined request reads only the data of its own session', async (t) => {
      const { port } = await serve(t, wrapping)
      const names = ['ada', 'eve', 'bob', '']
      const cookies = await Promise.all(names.map(async (name) => (name === '' ? '' : signIn(port, name))))
      const wire = await openWire(port)
      const order = Array.from({ length: 40 }, (_, index) => (index * 7) % 4)
      wire.write(order.map((index) => requestText('/read', { cookie: cookies[index] as string })).join(''))
      for (const index of order) {
        t.same(JSON.parse((await wire.next()).body), { name: names[index] === '' ? null : names[index] })
      }
      wire.socket.destroy()
    })

    void t.test('a pipelined logout ends the session, no matter which requests follow', async (t) => {
      const served = await serve(t, wrapping)
      const cookie = await signIn(served.port)
      const wire = await openWire(served.port)
      wire.write(
        ['/set?a=1', '/logout', '/set?b=2', '/add', '/read']
          .map((path) => requestText(path, { cookie }))
          .join('')
      )
      const [before, logout, ...after] = [
        await wire.next(),
        await wire.next(),
        await wire.next(),
        await wire.next(),
        await wire.next()
      ]
      wire.socket.destroy()
      t.same([before.status, logout.status], [200, 200])
      t.match(logout.cookies, [/^session_id=; Max-Age=0/])
      t.equal(storedOf(served, cookie), undefined)
      for (const { status, cookies } of after) {
        // A request that starts after the logout is anonymous, so it is allowed to create a new session.
        t.ok(status === 409 || status === 200, `${status}`)
        t.not(cookies[0]?.split(';', 1)[0], cookie)
        if (status === 409) t.same(cookies, [])
      }
    })
  })

  void t.test(`with ${kind}, a client that disconnects never causes a partial commit`, async (t) => {
    const withGates = async (
      t: Test,
      answer: string | undefined,
      run: (served: Served, gates: Map<string, Gate>) => Promise<void>
    ) => {
      const gates = makeGates()
      await run(await serve(t, wrapping, (app) => addActions(app, gates, answer)), gates)
    }

    for (const [name, { committed, size }] of Object.entries(ACTIONS)) {
      void t.test(`if the client disconnects, a handler that ${name} still commits its session`, (t) =>
        withGates(t, 'answer', async (served, gates) => {
          const cookie = await signIn(served.port)
          const wire = await openWire(served.port)
          wire.write(requestText(pathOf(name), { cookie }))
          const gate = gates.get(name) as Gate
          await gate.reached
          wire.vanish()
          await wire.ended()
          await settle()
          gate.open()
          await until(
            'the commit',
            () => committed === BEFORE || !isDeepStrictEqual(storedOf(served, cookie), BEFORE)
          )
          await settle()
          t.same(storedOf(served, cookie), committed)
          t.equal(served.memory.size, size)
        })
      )
    }

    // If a handler returns `undefined` after its client has disconnected, Fastify sends no reply and runs no onSend
    // hook. To save any changes, such a handler must call save() itself.
    void t.test(
      'nothing is committed if a handler returns undefined after its client has disconnected',
      (t) =>
        withGates(t, undefined, async (served, gates) => {
          for (const [name, gate] of gates) {
            const cookie = await signIn(served.port)
            const wire = await openWire(served.port)
            wire.write(requestText(pathOf(name), { cookie }))
            await gate.reached
            wire.vanish()
            await wire.ended()
            await settle()
            gate.open()
            await settle()
            t.same(storedOf(served, cookie), BEFORE, name)
          }
        })
    )

    void t.test(
      'if the client disconnects while it sends the request body, no handler runs and nothing is written',
      (t) =>
        withGates(t, 'answer', async (served) => {
          const cookie = await signIn(served.port)
          served.store.take()
          for (const name of Object.keys(ACTIONS)) {
            const wire = await openWire(served.port)
            const text = requestText(
              pathOf(name),
              { cookie, 'content-type': 'application/json' },
              '{"a":"b"}'
            )
            wire.write(text.slice(0, -4))
            await until('the session is read', () => served.store.takeNames().includes('get'))
            await settle()
            wire.vanish()
            await wire.ended()
          }
          await settle()
          t.same(served.store.take(), [], 'no store call follows the get')
          t.same(storedOf(served, cookie), BEFORE)
        })
    )

    void t.test('the session is committed even if the client disconnects during a store call', async (t) => {
      const moments = ['get', 'update'] as const
      for (const moment of moments) {
        const gate = makeGate()
        const served = await serve(t, (memory) =>
          wrap(wrapping(memory), (method, _args, next) =>
            method === moment ? gate.wait().then(next) : next()
          )
        )
        const cookie = await signIn(served.port)
        const wire = await openWire(served.port)
        wire.write(requestText('/set?late=1', { cookie }))
        await gate.reached
        wire.vanish()
        await wire.ended()
        gate.open()
        await until('the commit', () => storedOf(served, cookie)?.['late'])
        t.same(storedOf(served, cookie), { ...BEFORE, late: '"1"' })
      }
    })

    void t.test(
      'the session is committed before the first byte of a response, and stays committed if the client disconnects',
      async (t) => {
        let destroyed = false
        const served = await serve(t, wrapping, (app) =>
          app.get('/endless', async ({ session }, reply) => {
            session.set('late', 1)
            const body = new Readable({ read: () => void setImmediate(() => body.push('x'.repeat(10_000))) })
            body.on('close', () => (destroyed = true))
            return reply.send(body)
          })
        )
        const cookie = await signIn(served.port)
        const wire = await openWire(served.port)
        wire.write(requestText('/endless', { cookie }))
        await wire.sees('xxx')
        t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
        wire.vanish()
        await until('the stream is closed', () => destroyed)
        t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
      }
    )
  })

  void t.test(`with ${kind}, slow clients do not cause lost or partial changes`, async (t) => {
    void t.test(
      'if two clients send their requests byte by byte, the changes of both clients are kept',
      async (t) => {
        const served = await serve(t, wrapping)
        const cookie = await signIn(served.port)
        const texts = ['{"a":1}', '{"b":2}'].map((body) =>
          requestText('/set', { cookie, 'content-type': 'application/json' }, body)
        )
        const wires = await Promise.all(texts.map(() => openWire(served.port)))
        for (let at = 0; at < (texts[0] as string).length; at++) {
          wires.forEach((wire, index) => wire.write((texts[index] as string)[at] as string))
          await new Promise(setImmediate)
        }
        for (const wire of wires) {
          t.equal((await wire.next()).status, 200)
          wire.socket.destroy()
        }
        t.same(storedOf(served, cookie), { ...BEFORE, a: '1', b: '2' })
      }
    )

    void t.test(
      'a change is committed and visible to other requests even if its client does not read the response',
      async (t) => {
        const served = await serve(t, wrapping, (app) =>
          app.get('/large', async ({ session }) => {
            session.set('name', 'eve')
            return 'x'.repeat(20_000_000)
          })
        )
        const cookie = await signIn(served.port)
        const wire = await openWire(served.port)
        wire.socket.pause()
        wire.write(requestText('/large', { cookie }))
        await until('the commit', () => storedOf(served, cookie)?.['name'] === '"eve"')
        t.same(JSON.parse((await ask(served.port, '/read', cookie)).body), { name: 'eve' })
        wire.vanish()
      }
    )

    void t.test('a request that is cut off by requestTimeout writes nothing', async (t) => {
      const served = await serve(t, wrapping, undefined, {
        server: { requestTimeout: 100, http: { connectionsCheckingInterval: 20, headersTimeout: 50 } }
      })
      const cookie = await signIn(served.port)
      served.store.take()
      const wire = await openWire(served.port)
      wire.write(requestText('/set', { cookie, 'content-type': 'application/json' }, '{"a":1}').slice(0, -1))
      await wire.ended()
      await settle()
      t.same(served.store.takeNames(), ['get'])
      t.same(storedOf(served, cookie), BEFORE)
    })
  })
}

void t.test('a request with a whole URL instead of a path sets a cookie without a warning', async (t) => {
  const { port, logs } = await serve(t, (store) => store)
  const { status, cookies } = await ask(port, 'http://app.test/set?name=ada')
  t.equal(status, 200)
  t.match(cookies, [/^session_id=/])
  t.same(logs, [])
})

void t.test(
  'the tests in this file have caused no unhandled error and no warning',
  async (t) => void t.same(unhandled, [])
)
