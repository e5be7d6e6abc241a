// Runs only in Jest.
/* global test, expect, jest */
const Fastify = require('fastify')
const { default: sessions, guarded } = require('fastify-sesame')
const { signIn, stopClock } = require('fastify-sesame/testing')

test('a session ends after an hour', async () => {
  const app = Fastify()
  await app.register(sessions, { secret: 'a secret for the tests, 32 bytes or more', maxAge: 3600 })
  app.get(
    '/account',
    guarded(async ({ userId }) => userId)
  )
  jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate', 'setTimeout'] })
  const { cookie } = await signIn(app, { userId: 'ada' })
  jest.advanceTimersByTime(3_599_000)
  expect((await app.inject({ url: '/account', headers: { cookie } })).statusCode).toBe(200)
  jest.advanceTimersByTime(1000)
  expect((await app.inject({ url: '/account', headers: { cookie } })).statusCode).toBe(401)
  jest.useRealTimers()
  await app.close()
})

test('stopClock() says what to use instead', () => {
  expect(() => stopClock()).toThrow(/jest\.useFakeTimers/)
})
