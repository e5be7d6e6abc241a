import { deepEqual, equal } from 'node:assert/strict'
import flash from '@fastify/flash'

export const packages = ['@fastify/flash']
export const refuses = { before: /session/ }
export const notes = [
  'Register it after fastify-sesame: otherwise registration fails.',
  'Its messages are data at the key `flash`, so a message for a visitor creates a session. `setFlash` does not.'
]

const startWithFlash = (start, session) =>
  start({
    session,
    register: (app) => app.register(flash),
    routes(app) {
      app.post('/flash', async (request) => ({ count: request.flash('info', request.body.text) }))
      app.get('/flash', async (_request, reply) => ({ info: reply.flash('info') }))
      app.get('/all', async (_request, reply) => ({ all: reply.flash() }))
      app.post('/login', async ({ session }) => (session.login('ada'), {}))
    }
  })

/** Runs a check with and without the option `properties`. */
function both(check) {
  return async ({ start }) => {
    for (const properties of [false, true]) await check(await startWithFlash(start, { properties }))
  }
}

export const checks = {
  'a later request reads the messages once': both(async (browser) => {
    equal((await browser.post('/flash', { text: 'one' })).count, 1)
    equal((await browser.post('/flash', { text: 'two' })).count, 2)
    deepEqual((await browser.get('/flash')).info, ['one', 'two'])
    deepEqual((await browser.get('/flash')).info, [])
  }),

  'reply.flash() without a type returns all messages': both(async (browser) => {
    await browser.post('/flash', { text: 'one' })
    deepEqual((await browser.get('/all')).all, { info: ['one'] })
    deepEqual((await browser.get('/all')).all, {})
  }),

  'a message stays at a login': both(async (browser) => {
    await browser.post('/flash', { text: 'one' })
    await browser.post('/login')
    deepEqual((await browser.get('/flash')).info, ['one'])
  })
}
