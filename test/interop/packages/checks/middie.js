import { deepEqual, equal } from 'node:assert/strict'
import middie from '@fastify/middie'

export const packages = ['@fastify/middie']
export const notes = [
  'Middleware gets the raw request, which has no session. This hook adds it: ' +
    '`app.addHook("preValidation", async (request) => { request.raw.session = request.session })`.',
  "Set `hook: 'preHandler'`, so that middleware runs later. With the default, use `onRequest` in the hook, and register " +
    'fastify-sesame, the hook and the package in this order.',
  'If middleware ends the reply itself, it must call `await req.session.save()` first, and a cookie is not sent.'
]

async function bridge(request) {
  request.raw.session = request.session
}

/** Middleware that counts the visits. With `?end`, it ends the reply itself. */
function count(req, res, next) {
  if (req.session === undefined) return next()
  req.session.set('visits', (req.session.get('visits') ?? 0) + 1)
  if (!req.url.includes('end')) return next()
  if (req.url.includes('save')) void req.session.save().then(() => res.end('{}'))
  else res.end('{}')
}

const startWithMiddleware = (start, { hook, isBridged = true, session = {} }) =>
  start({
    session,
    async register(app) {
      if (isBridged) app.addHook(hook === 'preHandler' ? 'preValidation' : 'onRequest', bridge)
      await app.register(middie, { hook })
      app.use(count)
    },
    routes(app) {
      app.get('/', async ({ session }) => ({ visits: session.get('visits') ?? 0 }))
      app.post('/login', async ({ session }) => (session.login('ada'), {}))
    }
  })

export const checks = {
  async 'without the hook, the raw request has no session'({ start }) {
    for (const hook of ['onRequest', 'preHandler']) {
      const browser = await startWithMiddleware(start, { hook, isBridged: false })
      deepEqual(await browser.get(), { status: 200, setCookies: [], visits: 0 })
    }
  },

  async "with the hook and hook: 'preHandler', middleware reads and changes the session"({ start }) {
    for (const properties of [false, true]) {
      const browser = await startWithMiddleware(start, { hook: 'preHandler', session: { properties } })
      equal((await browser.get()).visits, 1)
      equal((await browser.get()).visits, 2)
    }
  },

  async "with the hook and hook: 'onRequest', it works only after fastify-sesame"({ start, order }) {
    const browser = await startWithMiddleware(start, { hook: 'onRequest' })
    const { status, code, visits } = await browser.get()
    if (order === 'after') equal(visits, 1)
    else deepEqual({ status, code }, { status: 500, code: 'SESSION_NOT_LOADED' })
  },

  async 'if middleware ends the reply, only save() writes a change'({ start }) {
    const browser = await startWithMiddleware(start, { hook: 'preHandler' })
    await browser.post('/login')
    const { visits } = await browser.get()
    await browser.get('/?end')
    equal((await browser.get()).visits, visits + 1)
    await browser.get('/?end&save')
    equal((await browser.get()).visits, visits + 3)
  }
}
