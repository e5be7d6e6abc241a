import { once } from 'node:events'
import { constants } from 'node:http2'
import { Readable } from 'node:stream'
import t from 'tap'
import { ask, h2, openSession, start } from './fixtures/http2.js'
import { BEFORE, makeGate, serve, settle, storedOf, STORES, until, watchProcess } from './fixtures/server.js'
import { cookieOf } from './fixtures/wire.js'

const unhandled = watchProcess()

for (const [kind, wrapping] of Object.entries(STORES)) {
  void t.test(`with ${kind}, sessions work over HTTP/2`, async (t) => {
    void t.test('a session can be created, read, rotated and ended over HTTP/2', async (t) => {
      const served = await serve(t, wrapping, undefined, h2)
      const client = openSession(t, served)
      const first = await ask(client, '/set?name=ada')
      t.equal(first.cookies.length, 1)
      const cookie = cookieOf(first)
      t.same(JSON.parse((await ask(client, '/read', { cookie })).body), { name: 'ada' })
      const second = await ask(client, '/login', { cookie })
      t.equal(storedOf(served, cookie), undefined)
      t.same(storedOf(served, cookieOf(second)), { ...BEFORE, userId: '"ada"' })
      t.match((await ask(client, '/logout', { cookie: cookieOf(second) })).cookies, [
        /^session_id=; Max-Age=0/
      ])
      t.equal(served.memory.size, 0)
    })

    // RFC 9113 section 8.2.3 allows a client to send each cookie in a separate header field.
    void t.test('the session cookie is found if each cookie has its own header field', async (t) => {
      const served = await serve(t, wrapping, undefined, h2)
      const client = openSession(t, served)
      const cookie = cookieOf(await ask(client, '/set?name=ada'))
      const crumbs = ['theme=dark', cookie, 'lang=en']
      t.same(JSON.parse((await ask(client, '/read', { cookie: crumbs })).body), { name: 'ada' })
    })

    void t.test('no change is lost if 100 concurrent streams change one session', async (t) => {
      const served = await serve(t, wrapping, undefined, h2)
      const client = openSession(t, served)
      const cookie = cookieOf(await ask(client, '/set?name=ada'))
      const answers = await Promise.all(Array.from({ length: 100 }, () => ask(client, '/add', { cookie })))
      t.ok(answers.every(({ status, cookies }) => status === 200 && cookies.length === 0))
      t.same(storedOf(served, cookie), { ...BEFORE, count: '100' })
    })

    void t.test('the CSRF check compares the Origin header with the :authority pseudo-header', async (t) => {
      const served = await serve(t, wrapping, undefined, { ...h2, csrf: { protect: 'all', token: false } })
      const client = openSession(t, served)
      const json = { 'content-type': 'application/json' }
      const post = async (origin: string) =>
        (await ask(client, '/set', { ...json, origin }, '{"a":1}')).status
      t.equal(await post(`http://127.0.0.1:${served.port}`), 200)
      t.equal(await post('http://evil.test'), 403)
    })

    void t.test('a request writes nothing if its stream is reset before the body is complete', async (t) => {
      const served = await serve(t, wrapping, undefined, h2)
      const client = openSession(t, served)
      const cookie = cookieOf(await ask(client, '/set?name=ada'))
      served.store.take()
      const stream = start(client, '/set', {
        ':method': 'POST',
        'content-type': 'application/json',
        'content-length': 7,
        cookie
      })
      stream.write('{"a":')
      await until('the store read', () => served.store.takeNames().includes('get'))
      await settle()
      stream.close(constants.NGHTTP2_CANCEL)
      await once(stream, 'close')
      await settle()
      t.same(served.store.take(), [])
      t.same(
        JSON.parse((await ask(client, '/read', { cookie })).body),
        { name: 'ada' },
        'the connection still works'
      )
    })

    void t.test(
      'the session of a running handler is still committed if the client resets the stream',
      async (t) => {
        const gate = makeGate()
        const served = await serve(
          t,
          wrapping,
          (app) =>
            app.get('/wait', async ({ session }) => {
              session.set('late', 1)
              await gate.wait()
              return 'answer'
            }),
          h2
        )
        const client = openSession(t, served)
        const cookie = cookieOf(await ask(client, '/set?name=ada'))
        const stream = start(client, '/wait', { cookie })
        await gate.reached
        stream.close(constants.NGHTTP2_CANCEL)
        await once(stream, 'close')
        await settle()
        gate.open()
        await until('the commit', () => storedOf(served, cookie)?.['late'])
        t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
      }
    )

    void t.test(
      'the session is committed before the first byte of a response, even if the connection breaks later',
      async (t) => {
        let closed = false
        const served = await serve(
          t,
          wrapping,
          (app) =>
            app.get('/endless', async ({ session }, reply) => {
              session.set('late', 1)
              const body = new Readable({
                read: () => void setImmediate(() => body.push('x'.repeat(10_000)))
              })
              body.on('close', () => (closed = true))
              return reply.send(body)
            }),
          h2
        )
        const client = openSession(t, served)
        const cookie = cookieOf(await ask(client, '/set?name=ada'))
        const stream = start(client, '/endless', { cookie })
        await once(stream, 'data')
        t.same(storedOf(served, cookie), { ...BEFORE, late: '1' })
        client.destroy()
        await until('the stream is closed', () => closed)
      }
    )

    void t.test(
      'if save() is called before reply.hijack(), the hijacked reply can send the session cookie',
      async (t) => {
        const served = await serve(
          t,
          wrapping,
          (app) =>
            app.get('/hijack', async ({ session }, reply) => {
              session.set('name', 'ada')
              await session.save()
              reply.hijack()
              reply.raw.writeHead(200, reply.getHeaders() as Record<string, string>)
              reply.raw.end('raw')
            }),
          h2
        )
        const answer = await ask(openSession(t, served), '/hijack')
        t.equal(answer.body, 'raw')
        t.same(storedOf(served, cookieOf(answer)), BEFORE)
      }
    )
  })
}

void t.test(
  'the tests in this file have caused no unhandled error and no warning',
  async (t) => void t.same(unhandled, [])
)
