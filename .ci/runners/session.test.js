// Runs in Jest, also compiled to CommonJS, and in Vitest.
/* global test, expect */
import Fastify from 'fastify'
import sessions, { csrfProtection, guarded, SessionOptionError } from 'fastify-sesame'
import { secureSession } from 'fastify-sesame/migrate'
import { SqliteStore } from 'fastify-sesame/stores/sqlite'
import { signIn } from 'fastify-sesame/testing'
import { Type } from 'typebox'

async function build(options) {
  const app = Fastify()
  await app.register(sessions, { secret: 'a secret for the tests, 32 bytes or more', ...options })
  app.get(
    '/account',
    guarded(async ({ userId }) => userId)
  )
  app.post('/name', { preHandler: csrfProtection }, async () => 'changed')
  return app
}

async function checkAccount(options) {
  const app = await build(options)
  const { cookie, csrfToken } = await signIn(app, { userId: 'ada' })
  const account = await app.inject({ url: '/account', headers: { cookie } })
  expect(account.body).toBe('ada')
  const post = (token) =>
    app.inject({ method: 'POST', url: '/name', headers: { cookie, 'x-csrf-token': token } })
  expect((await post(csrfToken)).body).toBe('changed')
  expect((await post('wrong')).statusCode).toBe(403)
  await app.close()
}

test('the memory store', () => checkAccount({}))

test('a SQLite store', () => checkAccount({ store: new SqliteStore(':memory:') }))

test('a schema', () => checkAccount({ schema: Type.Object({ userId: Type.String() }) }), 60_000)

test('a wrong option', () => expect(build({ maxAge: 'long' })).rejects.toThrow(SessionOptionError))

test('an option that needs a native package', () => {
  const old = secureSession({ secret: 'a secret for the tests, 32 bytes or more', until: new Date(2100, 0) })
  return expect(build({ migrateFrom: old })).rejects.toThrow(/Cannot find module 'sodium-native'/)
})
