// The servers of run.js. `node servers.js LIBRARY REDIS_URL [keep]` starts one of them and sends its port to the parent.
// LIBRARY is `@fastify/session`, `@fastify/secure-session` or `express-session`. With `new` in front, such as
// `new express-session`, fastify-sesame serves the same application and takes over the sessions of that library.
import cookie from '@fastify/cookie'
import secureSession from '@fastify/secure-session'
import fastifySession from '@fastify/session'
import { Buffer } from 'node:buffer'
import { RedisStore as ConnectRedis } from 'connect-redis'
import express from 'express'
import expressSession from 'express-session'
import Fastify from 'fastify'
import { createClient } from 'redis'
import sesame from '../../dist/index.js'
import * as migrate from '../../dist/migrate/index.js'
import { RedisStore } from '../../dist/stores/redis/store.js'

const SECRET = 'the secret of the old application, long enough'
const KEY = Buffer.alloc(32, 'key')
const DAY = 86_400
const COOKIE = { path: '/', httpOnly: true, secure: false, sameSite: 'lax', maxAge: DAY * 1000 }

const [, , library, url, keep] = process.argv
const client = await createClient({ url, disableOfflineQueue: true }).connect()
const oldStore = new ConnectRedis({ client, prefix: 'old:' })

/** How each old application begins, and how the new one takes over from it. */
const OLD = {
  '@fastify/session': {
    async start() {
      const app = Fastify()
      await app.register(cookie)
      await app.register(fastifySession, {
        secret: SECRET,
        store: oldStore,
        cookie: COOKIE,
        saveUninitialized: false
      })
      return routes(app)
    },
    migrateFrom: () => migrate.fastifySession({ secret: SECRET, store: oldStore, keep: keep === 'keep' })
  },
  '@fastify/secure-session': {
    async start() {
      const app = Fastify()
      await app.register(secureSession, { key: KEY, expiry: DAY, cookie: { ...COOKIE, maxAge: DAY } })
      return routes(app)
    },
    migrateFrom: () =>
      migrate.secureSession({
        key: KEY,
        expiry: DAY,
        until: new Date(Date.now() + DAY * 1000),
        keep: keep === 'keep'
      })
  },
  'express-session': {
    async start() {
      const app = express()
      app.use(
        expressSession({
          secret: SECRET,
          store: oldStore,
          cookie: COOKIE,
          resave: false,
          saveUninitialized: false
        })
      )
      app.post('/login', ({ session, query }, response) => {
        session.userId = query.user
        response.send('ok')
      })
      app.post('/set', ({ session, query }, response) => {
        session[query.key] = 'kept'
        response.send('ok')
      })
      app.get('/me', ({ session }, response) => {
        response.json({ ...session, cookie: undefined })
      })
      return new Promise((resolve) => {
        const server = app.listen(0, '127.0.0.1', () => resolve(server))
      })
    },
    migrateFrom: () => migrate.expressSession({ secret: SECRET, store: oldStore, keep: keep === 'keep' })
  }
}

async function startNew(name) {
  const app = Fastify()
  await app.register(sesame, {
    secret: 'the secret of the new application, long enough',
    store: new RedisStore({ client, prefix: 'new:' }),
    cookie: { secure: false },
    migrateFrom: OLD[name].migrateFrom(),
    properties: true
  })
  return routes(app)
}

/** The routes are the same for the old application and the new one, which has the option `properties`. */
async function routes(app) {
  app.post('/login', async ({ session, query }) => {
    session.userId = query.user
    return 'ok'
  })
  app.post('/set', async ({ session, query }) => {
    session[query.key] = 'kept'
    return 'ok'
  })
  app.get('/me', async ({ session }) => {
    if (typeof session.data === 'function') return session.data()
    return { ...session, cookie: undefined }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app.server
}

const server = await (library.startsWith('new ') ? startNew(library.slice(4)) : OLD[library].start())
process.send(server.address().port)
process.once('disconnect', () => process.exit())
