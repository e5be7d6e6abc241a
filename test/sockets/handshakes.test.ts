import { once } from 'node:events'
import { connect, type AddressInfo, type Socket } from 'node:net'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import sessions from '../../plugin/index.js'
import { signIn } from '../../plugin/testing/index.js'
import { SECRET } from '../fixtures/app.js'
import { failingStore } from '../fixtures/stores.js'

/** Sends a handshake. Returns the status of the reply, after the server has closed the connection. */
async function refusedHandshake(
  t: Test,
  isFirst: boolean,
  headerOf: (app: FastifyInstance) => Promise<string>
): Promise<number> {
  const store = failingStore((method) => method === 'get')
  const app = Fastify()
  t.teardown(() => app.close())
  if (isFirst) await app.register(websocket)
  await app.register(sessions, { secret: SECRET, cleanupInterval: 0, store })
  if (!isFirst) await app.register(websocket)
  await app.register(async (scope) => scope.get('/', { websocket: true }, () => undefined))
  await app.listen({ host: '127.0.0.1', port: 0 })
  const opened = once(app.server, 'connection') as Promise<[Socket]>
  const client = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  t.teardown(() => client.destroy())
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='
  const lines = [
    'GET / HTTP/1.1',
    'Host: a',
    'Connection: Upgrade',
    'Upgrade: websocket',
    key,
    await headerOf(app)
  ]
  client.write(`${[...lines, 'Sec-WebSocket-Version: 13'].join('\r\n')}\r\n\r\n`)
  const [socket] = await opened
  const closed = once(socket, 'close')
  const [reply] = (await once(client, 'data')) as [Buffer]
  await closed
  return Number(reply.toString().split(' ')[1])
}

const fromOtherSite = async () => 'Origin: http://evil.test'
const withSession = async (app: FastifyInstance) => `Cookie: ${(await signIn(app, { userId: 'ada' })).cookie}`

for (const isFirst of [true, false]) {
  const order = isFirst ? 'before' : 'after'

  void t.test(
    `a refused handshake leaves no connection open, with @fastify/websocket registered ${order}`,
    { timeout: 10_000 },
    async (t) => {
      t.equal(await refusedHandshake(t, isFirst, fromOtherSite), 403)
      t.equal(await refusedHandshake(t, isFirst, withSession), 503)
    }
  )
}
