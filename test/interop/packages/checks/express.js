import { deepEqual, equal } from 'node:assert/strict'
import fastifyExpress from '@fastify/express'

export const packages = ['@fastify/express']
export const notes = [
  'The raw request has no session. This hook adds it: ' +
    '`app.addHook("preValidation", async (request) => { request.raw.session = request.session })`.',
  "Set `expressHook: 'preHandler'`, so that Express runs later. With the default, use `onRequest` in the hook, and register " +
    'fastify-sesame, the hook and the package in this order.',
  'A change is saved with `res.send()` and `res.json()`. Before `res.redirect()` and `res.end()`, call `await req.session.save()`: ' +
    'they do not send a new cookie, so a login there has no effect.'
]

async function bridge(request) {
  request.raw.session = request.session
}

const startWithExpress = (start, { expressHook, isBridged = true, session = {} }) =>
  start({
    session,
    async register(app) {
      if (isBridged) app.addHook(expressHook === 'preHandler' ? 'preValidation' : 'onRequest', bridge)
      await app.register(fastifyExpress, { expressHook })
      addExpressHandlers(app)
    },
    routes(app) {
      app.get('/', async ({ session }) => ({ visits: session.get('visits') ?? 0 }))
      app.post('/login', async ({ session }) => (session.login('ada'), {}))
      // Fastify has routes for these paths, but Express answers them first.
      for (const path of ['/has', '/json', '/redirect', '/save']) app.get(path, async () => ({}))
    }
  })

function addExpressHandlers(app) {
  const count = ({ session }) => session.set('visits', (session.get('visits') ?? 0) + 1)
  // A handler must not return the result of res.json(), because it has a method `then`.
  app.use('/has', (req, res) => void res.json({ hasSession: req.session !== undefined }))
  app.use('/json', (req, res) => {
    count(req)
    res.json({ visits: req.session.get('visits') })
  })
  app.use('/redirect', (req, res) => {
    count(req)
    res.redirect('/')
  })
  app.use('/save', (req, res, next) => {
    count(req)
    req.session.save().then(() => res.redirect('/'), next)
  })
}

export const checks = {
  async 'without the hook, the raw request has no session'({ start }) {
    const browser = await startWithExpress(start, { expressHook: 'preHandler', isBridged: false })
    equal((await browser.get('/has')).hasSession, false)
  },

  async "with the hook and expressHook: 'preHandler', Express reads and changes the session"({ start }) {
    for (const properties of [false, true]) {
      const browser = await startWithExpress(start, { expressHook: 'preHandler', session: { properties } })
      equal((await browser.get('/json')).visits, 1)
      equal((await browser.get('/json')).visits, 2)
      equal((await browser.get()).visits, 2)
    }
  },

  async "with the hook and expressHook: 'onRequest', it works only after fastify-sesame"({ start, order }) {
    const browser = await startWithExpress(start, { expressHook: 'onRequest' })
    const { status } = await browser.get('/json')
    deepEqual(status, order === 'after' ? 200 : 500)
  },

  async 'before a redirect, only save() writes a change'({ start }) {
    const browser = await startWithExpress(start, { expressHook: 'preHandler' })
    await browser.post('/login')
    await browser.get('/redirect')
    equal((await browser.get()).visits, 0)
    await browser.get('/save')
    equal((await browser.get()).visits, 1)
  }
}
