import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import * as http2 from './fixtures/http2.js'
import { serve, STORES, watchProcess, type Served } from './fixtures/server.js'
import * as http1 from './fixtures/wire.js'

const unhandled = watchProcess()

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/** Handlers, and the names of the cookies that the client must receive. A hook has already set the raw cookie `hook`. */
const HANDLERS: Record<string, [handler: Handler, ...cookies: string[]]> = {
  read: [({ session }) => ({ name: session.get('name') ?? null }), 'hook'],
  set: [setName, 'hook', 'session_id'],
  end: [({ session }) => session.invalidate(), 'hook', 'session_id'],
  'more-cookies': [
    (request, reply) => {
      reply.header('set-cookie', 'fastify=1').header('set-cookie', 'fastify2=1')
      reply.raw.appendHeader('Set-Cookie', 'handler=1')
      return setName(request)
    },
    ...['hook', 'handler', 'fastify', 'fastify2', 'session_id']
  ],
  'after-save': [
    async (request, reply) => {
      setName(request)
      await request.session.save()
      reply.raw.setHeader('set-cookie', ['handler=1'])
    },
    ...['handler', 'hook', 'session_id']
  ],
  'copy-after-save': [
    async (request, reply) => {
      setName(request)
      await request.session.save()
      reply.raw.setHeader('set-cookie', reply.getHeader('set-cookie') as string[])
    },
    ...['hook', 'session_id']
  ],
  'hijack-after-save': [
    async (request, reply) => {
      setName(request)
      await request.session.save()
      reply.hijack()
      reply.raw.writeHead(200, reply.getHeaders() as Record<string, string>)
      reply.raw.end()
    },
    ...['hook', 'session_id']
  ],
  stream: [
    async (request, reply) => {
      setName(request)
      return reply.send(Readable.from(['stream']))
    },
    ...['hook', 'session_id']
  ],
  'broken-stream': [
    async (request, reply) => {
      setName(request)
      const stream = new Readable({ read: () => void stream.destroy(new Error('the stream broke')) })
      return reply.send(stream)
    },
    ...['hook', 'session_id']
  ]
}

function setName({ session }: FastifyRequest): void {
  session.set('name', 'ada')
}

const PROTOCOLS: Record<
  string,
  [
    options: { server?: object },
    ask: (t: Test, served: Served, path: string, cookie?: string) => Promise<{ cookies: readonly string[] }>
  ]
> = {
  'HTTP/1': [{}, async (_t, { port }, path, cookie) => http1.ask(port, path, cookie)],
  'HTTP/2': [
    http2.h2,
    async (t, served, path, cookie) =>
      http2.ask(http2.openSession(t, served), path, cookie === undefined ? {} : { cookie })
  ]
}

for (const [kind, wrapping] of Object.entries(STORES)) {
  for (const [protocol, [options, ask]] of Object.entries(PROTOCOLS)) {
    void t.test(
      `with ${kind} over ${protocol}, cookies of the raw response are sent once, before the session cookie`,
      async (t) => {
        const served = await serve(
          t,
          wrapping,
          (app) => {
            for (const [name, [handler]] of Object.entries(HANDLERS))
              app.get(`/raw/${name}`, async (request, reply) => (await handler(request, reply)) ?? 'done')
          },
          {
            ...options,
            before: (app) =>
              app.addHook('onRequest', async (request, { raw }) => {
                if (request.url.startsWith('/raw/')) raw.setHeader('set-cookie', 'hook=1')
              })
          }
        )
        for (const [name, [, ...cookies]] of Object.entries(HANDLERS)) {
          const cookie = name === 'end' ? http1.cookieOf(await ask(t, served, '/set?name=ada')) : undefined
          const answer = await ask(t, served, `/raw/${name}`, cookie)
          t.same(
            answer.cookies.map((text) => text.split('=', 1)[0]),
            cookies,
            name
          )
        }
      }
    )
  }
}

void t.test(
  'the tests in this file have caused no unhandled error and no warning',
  async (t) => void t.same(unhandled, [])
)
