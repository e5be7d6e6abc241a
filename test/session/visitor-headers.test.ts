import { once } from 'node:events'
import { request as send, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import websocket from '@fastify/websocket'
import type { FastifyRequest } from 'fastify'
import t from 'tap'
import type { Session } from '../../plugin/index.js'
import { Browser, cookiesIn } from '../fixtures/app.js'
import { makeVisits } from '../fixtures/visits.js'

// These tests cover a visitor's cookie on replies that cannot carry it any more.

const note = (session: Session): unknown => session.getFlash('note')
const setNote = (session: Session): void => session.setFlash('note', 'hello')

void t.test('a change after the headers are sent throws SESSION_HEADERS_SENT', async (t) => {
  const { app, visit } = await makeVisits(t)
  const outcomes: unknown[] = []
  app.get('/hijacked', async ({ session }, reply) => {
    await reply.hijack()
    reply.raw.writeHead(200).write('sent')
    setNote(session)
    await session.save().catch((error: unknown) => outcomes.push(error))
    reply.raw.end()
  })
  app.get('/early', async ({ session }, reply) => {
    setNote(session)
    await session.save()
    await reply.hijack()
    reply.raw.writeHead(200, reply.getHeaders() as Record<string, string>).end()
  })
  const hijacked = await app.inject('/hijacked')
  t.match([outcomes, cookiesIn(hijacked)], [[{ code: 'SESSION_HEADERS_SENT' }], { length: 0 }])
  const browser = new Browser(app)
  await browser.get('/early')
  t.equal((await visit(note, browser)).result, 'hello', 'a hijacked reply needs save() before')
})

void t.test('a WebSocket handshake cannot set a visitor cookie: SESSION_HEADERS_SENT', async (t) => {
  const { app } = await makeVisits(t)
  await app.register(websocket)
  const saving = (work: (session: Session) => void) => async (request: FastifyRequest) => {
    work(request.session)
    await request.session.save()
  }
  app.get('/flash', { websocket: true, preHandler: saving(setNote) }, () => undefined)
  app.get(
    '/data',
    { websocket: true, preHandler: saving((session) => session.set('cart', 1)) },
    () => undefined
  )
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  for (const path of ['/flash', '/data']) {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': Buffer.alloc(16).toString('base64')
    }
    const request = send({ host: '127.0.0.1', port, path, headers, agent: false }).end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    t.match(JSON.parse(await text(response)), { statusCode: 500, code: 'SESSION_HEADERS_SENT' }, path)
    t.equal(response.headers['set-cookie'], undefined)
  }
})
