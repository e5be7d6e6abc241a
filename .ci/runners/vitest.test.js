// Runs only in Vitest.
import { expect, onTestFinished, test } from 'vitest'
import Fastify from 'fastify'
import sessions, { guarded } from 'fastify-sesame'
import { signIn, stopClock } from 'fastify-sesame/testing'

test('a session ends after an hour', async () => {
  const clock = stopClock()
  onTestFinished(() => clock.restore())
  const app = Fastify()
  await app.register(sessions, { secret: 'a secret for the tests, 32 bytes or more', maxAge: 3600 })
  app.get(
    '/account',
    guarded(async ({ userId }) => userId)
  )
  const { cookie } = await signIn(app, { userId: 'ada' })
  clock.move(3_599_000)
  expect((await app.inject({ url: '/account', headers: { cookie } })).statusCode).toBe(200)
  clock.move(1000)
  expect((await app.inject({ url: '/account', headers: { cookie } })).statusCode).toBe(401)
})
