import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { ReadableStream } from 'node:stream/web'
import { setTimeout as delay } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { requireAuth, type Session } from '../../plugin/index.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { BEFORE, serve, settle, signIn, STORES, storedOf, until, watchProcess } from './fixtures/server.js'
import { ask, cookieOf, openWire, requestText, type Wire } from './fixtures/wire.js'

const unhandled = watchProcess()

const codeOf = (error: unknown) => (error as { code?: unknown }).code

/** Returns `'saved'` if `save()` succeeds, and otherwise the code of its error. */
async function outcomeOf(save: () => Promise<void>): Promise<unknown> {
  return save().then(() => 'saved', codeOf)
}

const STREAMS: Record<string, (chunks: () => Generator<string>) => unknown> = {
  'a Node stream': (chunks) => Readable.from(chunks()),
  'a web stream': (chunks) => ReadableStream.from(bytes(chunks())),
  'a Response': (chunks) => new Response(ReadableStream.from(bytes(chunks())) as never)
}

function* bytes(chunks: Generator<string>): Generator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk)
}

for (const [kind, wrapping] of Object.entries(STORES)) {
  for (const [name, make] of Object.entries(STREAMS)) {
    void t.test(
      `with ${kind}, the session is committed before the first byte of a reply with ${name}`,
      async (t) => {
        const served = await serve(t, wrapping, (app) => {
          app.get('/before', async ({ session }, reply) => {
            session.set('name', 'ada')
            function* chunks() {
              yield `${served.memory.size} `
              try {
                session.set('late', 1)
              } catch (error) {
                yield String(codeOf(error))
              }
            }
            return reply.send(make(chunks))
          })
          app.get('/breaks/:after', async ({ session, params }, reply) => {
            session.set('late', 1)
            function* chunks() {
              if ((params as { after: string }).after === 'first') yield 'first'
              throw new Error('the stream broke')
            }
            return reply.send(make(chunks))
          })
        })
        const response = await ask(served.port, '/before')
        t.equal(
          response.body,
          '1 SESSION_COMMITTED',
          'the session is stored before the first byte; a later change throws'
        )
        t.same(storedOf(served, cookieOf(response)), BEFORE)

        // The session is committed while the status is still 200. The stream breaks only afterwards, so the change is
        // kept.
        for (const after of ['none', 'first']) {
          const cookie = await signIn(served.port)
          const wire = await openWire(served.port)
          wire.write(requestText(`/breaks/${after}`, { cookie, connection: 'close' }))
          const got = await wire.ended()
          if (after === 'none') t.match(got, /^HTTP\/1.1 500 /)
          else t.notMatch(got, /\r\n0\r\n\r\n$/, 'the response has no final chunk')
          t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
        }
      }
    )
  }

  void t.test(`with ${kind}, handlers of server-sent events can use sessions`, async (t) => {
    let send: (text: string) => void = () => undefined
    let request: FastifyRequest | undefined
    let left = false
    const served = await serve(t, wrapping, (app) =>
      app.get('/events', async (asked, reply) => {
        request = asked
        reply.hijack()
        reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
        reply.raw.on('close', () => (left = true))
        send = (text) => void reply.raw.write(`data: ${text}\n\n`)
        send(String(asked.session.get('name')))
      })
    )
    const sessionNow = () => (request as FastifyRequest).session

    /** Opens an event stream. Returns the connection, and the session of the request that opened the stream. */
    async function begin(cookie: string): Promise<{ wire: Wire; session: Session }> {
      const wire = await openWire(served.port)
      wire.write(requestText('/events', { cookie }))
      await wire.sees('data: ')
      return { wire, session: sessionNow() }
    }

    void t.test(
      'after the headers have been sent, an existing session can still be saved, but only once',
      async (t) => {
        const cookie = await signIn(served.port)
        const { wire, session } = await begin(cookie)
        await ask(served.port, '/set?other=1', cookie)
        session.set('late', 1)
        t.equal(await outcomeOf(() => session.save()), 'saved')
        t.same(storedOf(served, cookie), { ...BEFORE, late: '1', other: '"1"' })
        t.throws(() => session.set('later', 1), { code: 'SESSION_COMMITTED' })
        send('bye')
        await wire.sees('bye')
        left = false
        wire.vanish()
        await until('the server sees the disconnect', () => left)
      }
    )

    void t.test(
      'after the headers have been sent, save() rejects a rotation or a new session but accepts invalidate()',
      async (t) => {
        const cookie = await signIn(served.port)
        const renewed = await begin(cookie)
        renewed.session.regenerate()
        t.equal(await outcomeOf(() => renewed.session.save()), 'SESSION_HEADERS_SENT')
        const fresh = await begin('')
        fresh.session.set('late', 1)
        const { size } = served.memory
        t.equal(await outcomeOf(() => fresh.session.save()), 'SESSION_HEADERS_SENT')
        t.equal(served.memory.size, size)
        t.same(storedOf(served, cookie), BEFORE)
        const ended = await begin(cookie)
        ended.session.invalidate()
        t.equal(await outcomeOf(() => ended.session.save()), 'saved')
        t.equal(storedOf(served, cookie), undefined)
        for (const { wire } of [renewed, fresh, ended]) wire.vanish()
      }
    )

    void t.test(
      'after the headers have been sent, save() does not revive a session that has ended',
      async (t) => {
        const cookie = await signIn(served.port)
        const { wire, session } = await begin(cookie)
        await ask(served.port, '/logout', cookie)
        session.set('late', 1)
        t.equal(await outcomeOf(() => session.save()), 'SESSION_GONE')
        t.equal(storedOf(served, cookie), undefined)
        wire.vanish()
      }
    )
  })

  void t.test(
    `with ${kind}, save() can still change and extend a session after the headers have been sent`,
    async (t) => {
      const outcomes: unknown[] = []
      const served = await serve(
        t,
        wrapping,
        (app) =>
          app.get('/events', async ({ session }, reply) => {
            reply.hijack()
            reply.raw.writeHead(200)
            await delay(5)
            session.set('late', 1)
            outcomes.push(await outcomeOf(() => session.save()))
            reply.raw.end()
          }),
        { idleTimeout: 60 }
      )
      const cookie = await signIn(served.port)
      const wire = await openWire(served.port)
      wire.write(requestText('/events', { cookie, connection: 'close' }))
      await wire.ended()
      t.same(outcomes, ['saved'])
      t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
    }
  )

  void t.test(`with ${kind}, nothing is written for a hijacked reply if save() is not called`, async (t) => {
    const served = await serve(t, wrapping, (app) =>
      app.get('/hijack', async ({ session }, reply) => {
        session.set('late', 1)
        reply.hijack()
        reply.raw.end('raw')
      })
    )
    const cookie = await signIn(served.port)
    const wire = await openWire(served.port)
    wire.write(requestText('/hijack', { cookie, connection: 'close' }))
    await wire.ended()
    await settle()
    t.same(storedOf(served, cookie), BEFORE)
  })

  void t.test(`with ${kind}, WebSocket handlers can use sessions`, (t) => testWebSocket(t, wrapping))
}

/** The part of the @fastify/websocket socket that the tests use. */
interface Socket {
  send(text: string): void
  on(event: 'message', listener: (data: Buffer) => void): void
}

/**
 * The messages that a client can send, each with the change that it makes to the session. The server then saves the
 * session and replies with the outcome of `save()`.
 */
const CHANGES: Record<string, (session: Session) => void> = {
  read: () => undefined,
  set: (session) => session.set('late', 1),
  regenerate: (session) => session.regenerate(),
  invalidate: (session) => session.invalidate()
}

async function testWebSocket(t: Test, wrapping: (typeof STORES)[string]): Promise<void> {
  const served = await serve(t, wrapping, async (app) => {
    await app.register(websocket)
    const onSocket = (socket: Socket, { session }: FastifyRequest): void => {
      socket.send(`hello ${session.has('name') ? 'ada' : 'nobody'}`)
      socket.on('message', (data) => {
        CHANGES[data.toString()]?.(session)
        void outcomeOf(() => session.save()).then((outcome) => socket.send(String(outcome)))
      })
    }
    app.get('/chat', { websocket: true }, onSocket as never)
    const early = async ({ session }: FastifyRequest): Promise<void> => {
      session.set('seen', 1)
      await session.save()
    }
    app.get('/early', { websocket: true, preHandler: early }, onSocket as never)
    const byManager = async ({ session }: FastifyRequest, reply: FastifyReply): Promise<void> => {
      session.set('seen', 1)
      await app.sessionManager.save(session, reply)
    }
    app.get('/by-manager', { websocket: true, preHandler: byManager }, onSocket as never)
    app.get('/members', { websocket: true, preHandler: requireAuth() }, onSocket as never)
  })

  void t.test('a WebSocket handler can change and save the session of the handshake request', async (t) => {
    const cookie = await signIn(served.port)
    const wire = await handshake(served.port, '/chat', cookie)
    await wire.sees('hello ada')
    await ask(served.port, '/set?other=1', cookie)
    wire.socket.write(frame('set'))
    await wire.sees('saved')
    t.same(storedOf(served, cookie), { ...BEFORE, late: '1', other: '"1"' })
    wire.vanish()
  })

  for (const path of ['/early', '/by-manager']) {
    void t.test(
      `save() during the handshake saves an existing session and rejects a new session: ${path}`,
      async (t) => {
        const cookie = await signIn(served.port)
        const wire = await handshake(served.port, path, cookie)
        await wire.sees('hello ada')
        t.same(storedOf(served, cookie), { ...BEFORE, seen: '1' })
        wire.vanish()
        const { size } = served.memory
        const nobody = await handshake(served.port, path, '', false)
        t.match(await nobody.ended(), /^HTTP\/1.1 500 [^]*SESSION_HEADERS_SENT/)
        t.equal(served.memory.size, size)
      }
    )
  }

  // The 101 response does not carry the reply's headers, so the browser would never receive the cookie.
  void t.test(
    'a WebSocket handler cannot rotate or create a session, and the attempt writes nothing',
    async (t) => {
      for (const [action, signedIn] of [
        ['regenerate', true],
        ['set', false]
      ] as const) {
        const cookie = signedIn ? await signIn(served.port) : ''
        const { size } = served.memory
        const wire = await handshake(served.port, '/chat', cookie)
        await wire.sees('hello')
        wire.socket.write(frame(action))
        await wire.sees('SESSION_HEADERS_SENT')
        t.equal(served.memory.size, size)
        if (signedIn) t.same(storedOf(served, cookie), BEFORE)
        wire.vanish()
      }
    }
  )

  void t.test(
    'a WebSocket handler can end its session, and another WebSocket cannot change the session afterwards',
    async (t) => {
      const cookie = await signIn(served.port)
      const [ending, setting] = [
        await handshake(served.port, '/chat', cookie),
        await handshake(served.port, '/chat', cookie)
      ]
      await setting.sees('hello ada')
      ending.socket.write(frame('invalidate'))
      await ending.sees('saved')
      t.equal(served.memory.get(idOfCookie(cookie)), undefined)
      setting.socket.write(frame('set'))
      await setting.sees('SESSION_GONE')
      t.equal(served.memory.get(idOfCookie(cookie)), undefined)
      for (const wire of [ending, setting]) wire.vanish()
    }
  )

  void t.test('requireAuth() rejects a WebSocket handshake with 401 if no user is signed in', async (t) => {
    const wire = await handshake(served.port, '/members', await signIn(served.port), false)
    t.match(await wire.ended(), /^HTTP\/1.1 401 [^]*SESSION_UNAUTHENTICATED/)
  })
}

async function handshake(port: number, path: string, cookie: string, accepted = true): Promise<Wire> {
  const key = randomBytes(16).toString('base64')
  const wire = await openWire(port)
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': key
  }
  wire.write(requestText(path, { ...headers, ...(cookie !== '' && { cookie }) }))
  if (accepted) {
    // RFC 6455 section 1.3 defines how a server derives Sec-WebSocket-Accept from the key.
    await wire.sees(createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64'))
  }
  return wire
}

/** Returns a short WebSocket text frame as a client sends it. The masking key is all zeros (RFC 6455 section 5.2). */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)])
}

void t.test(
  'the tests in this file have caused no unhandled error and no warning',
  async (t) => void t.same(unhandled, [])
)
