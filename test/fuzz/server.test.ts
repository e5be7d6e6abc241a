import { once } from 'node:events'
import { connect, type AddressInfo, type Socket } from 'node:net'
import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { MemoryStore } from '../../plugin/index.js'
import { signIn } from '../../plugin/testing/index.js'
import { makeApp } from '../fixtures/app.js'
import { collectGarbage } from '../fixtures/garbage.js'
import { spyStore } from '../fixtures/stores.js'
import { check } from './fixtures/check.js'
import { mutated } from './fixtures/mutations.js'
import { RUNS } from './fixtures/runs.js'

/** The number of requests that are pipelined on one connection at the same time. */
const BATCH = 100
/** Two memory measurements can differ by this many bytes for reasons unrelated to the test. */
const NOISE = 1024 * 1024

async function setUp(t: Test) {
  const store = spyStore(new MemoryStore())
  const app = await makeApp(t, { store, cleanupInterval: 0 })
  app.get('/', async ({ session }) => (session.isNew ? 'nobody.' : 'somebody.'))
  const { cookie } = await signIn(app, { name: 'ada' })
  await app.listen({ host: '127.0.0.1', port: 0 })
  store.take()
  return { app, store, cookie }
}

/** Opens a keep-alive connection for pipelined requests. */
async function open(app: FastifyInstance): Promise<Socket> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1').setEncoding('latin1')
  await once(socket, 'connect')
  return socket
}

/** Sends one request for each cookie and returns the responses in the same order. */
async function ask(socket: Socket, cookies: readonly string[]): Promise<string[]> {
  let text = ''
  const answers = new Promise<string[]>((resolve, reject) => {
    const read = (part: string): void => {
      text += part
      const parts = text.split(/(?<=\r\n\r\n(?:nobody|somebody)\.)/)
      if (parts.length >= cookies.length && parts[cookies.length - 1]?.endsWith('body.'))
        done(() => resolve(parts))
    }
    const closed = (): void => done(() => reject(new Error(`the connection was closed: ${text.slice(-300)}`)))
    const done = (settle: () => void): void => {
      socket.off('data', read).off('close', closed)
      settle()
    }
    socket.on('data', read).on('close', closed)
  })
  socket.write(
    cookies.map((cookie) => `GET / HTTP/1.1\r\nHost: a.test\r\nCookie: ${cookie}\r\n\r\n`).join(''),
    'latin1'
  )
  return answers
}

function memory(): number {
  collectGarbage()
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Replaces the characters that Node's HTTP parser rejects: all control characters except the tab. */
const sendable = (text: string): string => text.replace(/[^\t\x20-\x7e\x80-\xff]/g, '~')

void t.test(
  'hostile cookies sent over a socket cause no 5xx, no store call and no memory growth',
  async (t) => {
    const { app, store, cookie } = await setUp(t)
    const socket = await open(app)
    t.teardown(() => socket.destroy())
    const value = cookie.slice(cookie.indexOf('=') + 1)
    const junk = fc.string({ unit: 'binary', maxLength: 60 })
    const forged = fc.oneof(
      mutated(fc.constant(value)),
      junk,
      fc.base64String({ minLength: 40, maxLength: 110 })
    )
    const long = fc.tuple(junk, fc.integer({ min: 1, max: 100 })).map(([text, times]) => text.repeat(times))
    const hostile = fc
      .oneof(
        { weight: 6, arbitrary: forged.map((text) => `session_id=${text}`) },
        {
          weight: 2,
          arbitrary: fc
            .array(forged, { maxLength: 6 })
            .map((list) => list.map((text) => `session_id=${text}`).join('; '))
        },
        { weight: 2, arbitrary: junk },
        { weight: 1, arbitrary: long }
      )
      .map(sendable)
      .filter((text) => !text.includes(value))
    const measurements: number[] = []
    let batches = 0
    const property = fc.asyncProperty(
      fc.array(hostile, { minLength: BATCH, maxLength: BATCH }),
      async (cookies) => {
        // The last cookie is valid. The response to it shows that the server reads cookies at all.
        const answers = await ask(socket, [...cookies, cookie])
        const [last, others] = [answers.pop() ?? '', answers]
        if (!last.endsWith('somebody.')) throw new Error(last)
        for (const [at, answer] of others.entries()) {
          const isRight =
            answer.startsWith('HTTP/1.1 200 ') && answer.endsWith('nobody.') && !/^set-cookie/im.test(answer)
          if (!isRight) throw new Error(`${JSON.stringify(cookies[at])}: ${answer}`)
        }
        const calls = store.takeNames().join()
        if (calls !== 'get') throw new Error(`expected exactly one store call, a get, but got: ${calls}`)
        // Memory is measured after each third of the batches. The first third is the warm-up, so the first measurement
        // is the baseline.
        if (++batches % Math.ceil((runs * RUNS) / 3) === 0) measurements.push(memory())
      }
    )
    const runs = 210
    await check(t, property, { runs, what: 'hostile inputs tried', each: BATCH })
    measurements.push(memory())
    const [first = 0, ...later] = measurements
    const growth = Math.max(...later) - first
    t.ok(growth < NOISE, `memory grew by ${growth} bytes`)
    t.comment(`memory grew by ${Math.round(growth / 1024)} KiB`)
  }
)

void t.test('an invalid HTTP request closes only its own connection and does not cause a 5xx', async (t) => {
  const { app, store, cookie } = await setUp(t)
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
    fc
      .constantFrom(
        'session_id='.padEnd(20_000, 'x'),
        `session_id=${'\0'.repeat(9)}`,
        'a\r\nSet-Cookie: b=c',
        'a\nb',
        '\r'
      )
      .map((text) => Buffer.from(text))
  )
  const property = fc.asyncProperty(bytes, async (bytes) => {
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1').setEncoding('latin1')
    let text = ''
    socket.on('data', (part: string) => (text += part)).on('error', () => undefined)
    socket.write(
      Buffer.concat([
        Buffer.from('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nCookie: '),
        bytes,
        Buffer.from('\r\n\r\n')
      ])
    )
    await once(socket, 'close')
    if (/^HTTP\/1\.1 5/m.test(text)) throw new Error(text)
  })
  await check(t, property, { runs: 400, what: 'hostile inputs tried' })
  t.same(store.takeNames(), [])
  const socket = await open(app)
  t.match(await ask(socket, [cookie]), [/somebody\.$/])
  socket.destroy()
})
