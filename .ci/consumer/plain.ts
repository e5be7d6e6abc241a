// An application that does not declare the types of its session data. It uses every entry point of the package.
import type { Http2Server } from 'node:http2'
import Fastify from 'fastify'
import { pino } from 'pino'
import sessions, {
  channels,
  csrfProtection,
  guarded,
  MemoryStore,
  requireAuth,
  type ChannelMessages,
  type JsonValue,
  type SignedInRequest
} from 'fastify-sesame'
import { fromExpressStore } from 'fastify-sesame/stores/express'
import { PostgresStore } from 'fastify-sesame/stores/postgres'
import { RedisStore } from 'fastify-sesame/stores/redis'
import { SqliteStore } from 'fastify-sesame/stores/sqlite'
import { testStore } from 'fastify-sesame/testing'

const secret = 'a secret for this check, 32 bytes or more'

const app = Fastify()
await app.register(sessions, { secret, store: new MemoryStore() })
app.get('/me', { preHandler: requireAuth() }, async ({ session }) => session.get('userId'))
app.post('/form', { preHandler: [csrfProtection, requireAuth({ freshWithin: 60 })] }, async () => 'ok')
app.addHook('preHandler', requireAuth())
app.addHook('preHandler', csrfProtection)
app.addHook('preHandler', app.csrfProtection)

interface Item {
  Params: { id: string }
  Body: { name: string }
}

app.get(
  '/id',
  guarded(async ({ userId, session }, reply) => {
    const id: string | number = userId
    // @ts-expect-error without a declaration the id may be a number
    const text: string = userId
    return reply.send({ id, text, cart: session.get('cart') })
  })
)
app.get(
  '/this',
  guarded(function () {
    return this.printRoutes()
  })
)
app.post(
  '/items/:id',
  guarded(async ({ params: { id }, body: { name }, userId }: SignedInRequest<Item>) => ({ id, name, userId }))
)
app.post<Item>(
  '/typed/:id',
  guarded<Item>(async ({ params: { id }, userId }) => ({ id, userId }))
)
app.route({
  method: 'POST',
  url: '/spread/:id',
  schema: {},
  ...guarded(async ({ params, userId }) => ({ id: (params as Item['Params']).id, userId }), {
    freshWithin: 300
  })
})
app.post('/guarded-form', { preValidation: csrfProtection, ...guarded(async ({ userId }) => userId) })
const renamed = guarded(async ({ params }: SignedInRequest<Item>) => params.id)
// @ts-expect-error the handler expects other params than the route has
app.get<{ Params: { name: string } }>('/other/:name', renamed)
app.get(
  '/read-only',
  guarded(async (request) => {
    // @ts-expect-error userId is read-only
    request.userId = 'grace'
  })
)

const withPino = Fastify({ loggerInstance: pino() })
await withPino.register(sessions, { secret })
withPino.get('/me', { preHandler: requireAuth() }, async ({ session }) => session.get('userId'))
withPino.post('/form', { preHandler: [csrfProtection, requireAuth()] }, async () => 'ok')
withPino.get(
  '/id',
  guarded(async ({ userId }) => userId)
)
withPino.post('/items/:id', { schema: {}, ...guarded(async ({ body }: SignedInRequest<Item>) => body.name) })
withPino.addHook('preHandler', requireAuth())
withPino.addHook('preHandler', csrfProtection)

const http2 = Fastify({ http2: true })
await http2.register(sessions, { secret })
http2.get('/me', { preHandler: requireAuth() }, async ({ session }) => session.get('userId'))
http2.post('/form', { preHandler: [csrfProtection, requireAuth()] }, async () => 'ok')
http2.get(
  '/id',
  guarded(async ({ userId }) => userId)
)
http2.post('/items/:id', { schema: {}, ...guarded(async ({ body }: SignedInRequest<Item>) => body.name) })
http2.get(
  '/stream',
  guarded(async ({ raw }: SignedInRequest<Item, 'userId', Http2Server>) => ({ stream: raw.stream.id }))
)
http2.addHook('preHandler', requireAuth())
http2.addHook('preHandler', csrfProtection)

app.post('/aliases', async ({ session }, reply) => {
  await session.destroy()
  session.destroy((error) => void reply.send(error ?? 'bye'))
  session.regenerate((error?: unknown) => void error)
  session.regenerate(['cart'], () => undefined)
  session.save(() => undefined)
  session.delete()
  const texts: string[] = [session.sessionId]
  const flags: boolean[] = [session.isModified(), session.isSaved()]
  // @ts-expect-error without SessionProperties, a session has no other properties
  session.user = 'ada'
  // @ts-expect-error a session has no cookie: the error of reading it says what to use
  session.cookie.maxAge = 60
  return { texts, flags }
})

interface Cart {
  items: { name: string; count: number }[]
}

app.get<{ Params: { id: string } }>('/values/:id', async ({ params, session }) => {
  const cart: Cart = { items: [{ name: params.id, count: 1 }] }
  session.set('cart', cart)
  session.set('seenAt', new Date())
  session.setFlash('notice', cart)
  // @ts-expect-error a bigint is not a JSON value
  session.set('count', 1n)
  session.set('count', undefined)

  const value: JsonValue | undefined = session.get('anything')
  const notice: JsonValue | undefined = session.getFlash('notice')
  const peeked: JsonValue | undefined = session.peekFlash('notice')
  const [info] = await app.sessionManager.list('ada', { data: true })
  const listed: JsonValue | undefined = info?.data['cart']
  session.update('visits', (visits) => (typeof visits === 'number' ? visits + 1 : 1))
  return { value, notice, peeked, listed }
})

const created: ChannelMessages['created'] = { id: '', userId: null, requestId: 'req-1' }
channels.created.subscribe(({ id, userId }) => [id.length, userId?.length])
channels.destroyed.subscribe((message) => `${message.reason}: ${message.id}`)
channels.created.publish(created)
// @ts-expect-error the message has no token
channels.created.subscribe(({ token }) => token)
// @ts-expect-error the message needs an id
channels.saved.publish({})

void [fromExpressStore, PostgresStore, RedisStore, SqliteStore, testStore]
