// An application whose dependencies bring the types of @fastify/session and @fastify/secure-session.
import fastifyPassport from '@fastify/passport'
import csrfProtection from '@fastify/csrf-protection'
import flash from '@fastify/flash'
// Some packages import the types of @fastify/session, as this line does.
import type {} from '@fastify/session'
import Fastify from 'fastify'
import sessions, { guarded } from 'fastify-sesame'

declare module 'fastify-sesame' {
  interface SessionData {
    cart: string[]
  }
}

const app = Fastify()
await app.register(sessions, { secret: 'x'.repeat(32), csrf: { decorate: false } })
await app.register(flash)
await app.register(csrfProtection, { sessionPlugin: '@fastify/secure-session' })
await app.register(fastifyPassport.initialize())

app.post('/cart', { preHandler: app.csrfProtection }, async ({ session }, reply) => {
  session.login('ada')
  session.update('cart', (cart) => [...(cart ?? []), 'tea'])
  const cart: string[] | undefined = session.get('cart')
  const token: string = reply.generateCsrf()
  return { cart, token, id: session.id }
})
app.get(
  '/account',
  guarded(async ({ session, userId }) => ({ userId, since: session.authenticatedAt }))
)
