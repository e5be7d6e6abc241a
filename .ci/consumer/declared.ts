// An application that declares the types of its session data in `SessionData`.
import Fastify from 'fastify'
import sessions, { guarded, requireAuth, type SignedInRequest, type UserId } from 'fastify-sesame'

interface Cart {
  items: { name: string; addedAt: Date }[]
  note?: string
}

declare module 'fastify-sesame' {
  interface SessionData {
    userId: string
    adminId?: number
    visits: number
    role: 'admin' | 'member'
    cart: Cart
    seenAt: Date
  }
  interface SessionProperties extends Partial<Pick<SessionData, 'role' | 'visits'>> {
    note?: string
  }
}

const app = Fastify()
await app.register(sessions, { secret: 'a secret for this check, 32 bytes or more' })

app.get('/values', async ({ session }) => {
  session.set('cart', { items: [] })
  session.set('role', 'admin')
  session.set('seenAt', new Date())
  session.update('visits', (visits = 0) => visits + 1)
  // @ts-expect-error the key is not declared
  session.set('vists', 1)
  // @ts-expect-error the role is not declared
  session.set('role', 'owner')
  // @ts-expect-error the value is declared as a number
  session.set('visits', '1')

  const userId: string | undefined = session.get('userId')
  const role: 'admin' | 'member' | undefined = session.get('role')
  const seenAt: string | undefined = session.get('seenAt')
  const cart: { items: { name: string; addedAt: string }[]; note?: string } | undefined = session.get('cart')
  // @ts-expect-error a Date is read back as a string
  const date: Date | undefined = session.get('seenAt')
  session.get('cart')?.items.push({ name: 'book', addedAt: new Date().toJSON() })
  return { userId, role, seenAt, cart, date }
})

app.get('/properties', async (request) => {
  const { session } = request
  session.role = 'admin'
  session.visits = (session.visits ?? 0) + 1
  delete session.note
  const role: 'admin' | 'member' | undefined = session.role
  const id: string = session.id
  // @ts-expect-error the role is not declared
  session.role = 'owner'
  // @ts-expect-error the property is not declared
  session.cart = { items: [] }
  // @ts-expect-error a member cannot be assigned
  session.id = 'x'
  const loaded = await app.sessionManager.get(request)
  return { role, id, note: loaded?.note }
})
app.get('/check', { preHandler: requireAuth({ check: ({ role }) => role === 'admin' }) }, async () => 'ok')

const id: UserId = 'ada'
// @ts-expect-error the id is declared as a string
const wrong: UserId = 7
const admin: UserId<'adminId'> = 7

app.get(
  '/id',
  guarded(async ({ userId }) => {
    const text: string = userId
    // @ts-expect-error the id is declared as a string
    const number: number = userId
    return { text, number }
  })
)
app.get(
  '/admin',
  guarded(
    async ({ userId }) => {
      const number: number = userId
      // @ts-expect-error the id at this key is declared as a number, and is not optional
      const text: string | undefined = userId
      return { text, number }
    },
    { userKey: 'adminId' }
  )
)
app.get(
  '/admin/:name',
  guarded(
    async ({ params, userId }: SignedInRequest<{ Params: { name: string } }, 'adminId'>) =>
      params.name.repeat(userId),
    { userKey: 'adminId' }
  )
)
app.get(
  '/other',
  guarded(
    async ({ userId }) => {
      const other: string | number = userId
      return other
    },
    { userKey: 'notDeclared' }
  )
)

void [id, wrong, admin]
