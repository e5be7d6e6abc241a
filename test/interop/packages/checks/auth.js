import { equal } from 'node:assert/strict'
import auth from '@fastify/auth'
import { requireAuth } from '../../../../dist/index.js'

export const packages = ['@fastify/auth']
export const notes = [
  'In a list, put `requireAuth()` last, or set `loginPath: false`: otherwise it redirects a page request before another ' +
    'function of the list can accept it.'
]

async function verifyKey({ headers }) {
  if (headers['x-api-key'] !== 'secret') throw Object.assign(new Error('Wrong key'), { statusCode: 401 })
}

async function verifyAdmin({ session }) {
  if (session.get('userId') !== 'root')
    throw Object.assign(new Error('Not an administrator'), { statusCode: 403 })
}

const startWithAuth = (start) =>
  start({
    register: (app) => app.register(auth),
    routes(app) {
      const guard = () => requireAuth({ loginPath: false })
      app.post('/login', async ({ session, body }) => (session.login(body.name), {}))
      app.get('/either', { preHandler: app.auth([verifyKey, guard()]) }, async () => ({}))
      app.get('/both', { preHandler: app.auth([guard(), verifyKey], { relation: 'and' }) }, async () => ({}))
      app.get('/admin', { preHandler: app.auth([verifyAdmin]) }, async () => ({}))
    }
  })

const KEY = { 'x-api-key': 'secret' }

export const checks = {
  async 'a user or an API key is enough'({ start }) {
    const browser = await startWithAuth(start)
    equal((await browser.get('/either')).status, 401)
    equal((await browser.get('/either', KEY)).status, 200)
    await browser.post('/login', { name: 'ada' })
    equal((await browser.get('/either')).status, 200)
  },

  async 'a user and an API key are both needed'({ start }) {
    const browser = await startWithAuth(start)
    equal((await browser.get('/both', KEY)).status, 401)
    await browser.post('/login', { name: 'ada' })
    equal((await browser.get('/both')).status, 401)
    equal((await browser.get('/both', KEY)).status, 200)
  },

  async 'a function of the application reads the session'({ start }) {
    const browser = await startWithAuth(start)
    await browser.post('/login', { name: 'ada' })
    equal((await browser.get('/admin')).status, 403)
    await browser.post('/login', { name: 'root' })
    equal((await browser.get('/admin')).status, 200)
  }
}
