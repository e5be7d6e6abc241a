import Fastify from 'fastify'
import sessions, { requireAuth } from 'fastify-sesame'

const app = Fastify()
await app.register(sessions, { secret: 'a secret for this check, 32 bytes or more' })
app.post('/login', async ({ session }) => {
  session.regenerate()
  session.set('userId', 'ada')
  return 'in'
})
app.get('/me', { preHandler: requireAuth() }, async ({ session }) => session.get('userId'))

const login = await app.inject({ method: 'POST', url: '/login' })
const cookie = login.headers['set-cookie'].split(';')[0]
const me = await app.inject({ url: '/me', headers: { cookie } })
const nobody = await app.inject('/me')
if (me.body !== 'ada' || nobody.statusCode !== 401)
  throw new Error(`${me.statusCode} ${me.body}, ${nobody.statusCode}`)
console.log(`ES module on ${process.version}: logged in as ${me.body}`)
