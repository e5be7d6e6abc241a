import { randomBytes } from 'node:crypto'
import Module from 'node:module'
import sodium from 'sodium-native'
import t from 'tap'
import { MemoryStore, SessionOptionError } from '../../plugin/index.js'
import { expressSession, fastifySession, secureSession } from '../../plugin/migrate/index.js'
import { makeApp } from '../fixtures/app.js'
import { CountingStore, KEY, OLD_SECRET, sealed, UNTIL } from './fixtures/old-apps.js'

const store = new CountingStore()
const secret = OLD_SECRET

void t.test('a wrong option throws at once, and the message says what is right', async (t) => {
  const cases: [() => unknown, string, RegExp][] = [
    [
      () => expressSession({ store } as never),
      'secret',
      /undefined, but must be the secret of the other library/
    ],
    [() => expressSession({ secret: '', store }), 'secret', /must be the secret/],
    [() => expressSession({ secret: [], store }), 'secret', /must be the secret/],
    [() => expressSession({ secret: [7] as never, store }), 'secret', /must be the secret/],
    [() => expressSession({ secret: Buffer.alloc(0), store }), 'secret', /must be the secret/],
    [() => expressSession({ secret: [Buffer.from('x'), ''], store }), 'secret', /must be the secret/],
    [() => expressSession({ secret, store: {} as never }), 'store', /must be the store of the other library/],
    [() => expressSession({ secret } as never), 'store', /must be the store of the other library/],
    [
      () => expressSession({ secret, store, name: 'x' } as never),
      'name',
      /unknown; the options here are secret, store/
    ],
    [() => expressSession({ secret, store, cookieName: 'a b' }), 'cookieName', /must be a cookie name/],
    [() => expressSession({ secret, store, cookie: { path: 'x' } }), 'cookie.path', /begins with "\/"/],
    [() => expressSession({ secret, store, cookie: { domain: 'a b' } }), 'cookie.domain', /must be a host/],
    [() => expressSession({ secret, store, keep: 1 as never }), 'keep', /must be true or false/],
    [() => expressSession({ secret, store, until: new Date(NaN) }), 'until', /must be a Date/],
    [() => expressSession({ secret, store, userOf: 'x' as never }), 'userOf', /must be a function/],
    [() => fastifySession({ store } as never), 'secret', /must be the secret/],
    [() => fastifySession({ secret, store, algorithm: 'md 5' }), 'algorithm', /must be the name of a hash/],
    [() => fastifySession({ secret, store, algorithm: 'none' }), 'algorithm', /must be the name of a hash/],
    [() => secureSession({ key: KEY } as never), 'until', /must be a Date/],
    [() => secureSession({ until: UNTIL }), 'key', /is missing; give `key`, or `secret` and `salt`/],
    [() => secureSession({ key: KEY, until: UNTIL, expiry: 0 }), 'expiry', /above 0/]
  ]
  for (const [make, option, message] of cases)
    t.throws(make, { option, message, code: 'SESSION_OPTION_INVALID' }, option)
})

void t.test('a wrong key or salt of secure-session fails the registration', async (t) => {
  for (const key of [Buffer.alloc(31), 'c2hvcnQ=', [], [KEY, Buffer.alloc(2)], 7 as never as string])
    await t.rejects(makeApp(t, { migrateFrom: secureSession({ key, until: UNTIL }) }), {
      option: 'key',
      message: /must be a key of 32 bytes/
    })
  const migrateFrom = secureSession({ secret, salt: 'short', until: UNTIL })
  await t.rejects(makeApp(t, { migrateFrom }), { option: 'salt', message: /has 5 bytes, but must have 16/ })
})

void t.test('without sodium-native, the registration says how to install it', async (t) => {
  const loader = Module as unknown as { _load(name: string, ...rest: unknown[]): unknown }
  const load = loader._load
  t.intercept(loader, '_load', {
    value(name: string, ...rest: unknown[]) {
      if (name === 'sodium-native') throw new Error("Cannot find module 'sodium-native'\nRequire stack: …")
      return load.call(loader, name, ...rest)
    }
  })
  await t.rejects(makeApp(t, { migrateFrom: secureSession({ key: KEY, until: UNTIL }) }), {
    option: 'migrateFrom',
    message: /run npm install sodium-native \(Cannot find module 'sodium-native'\)$/
  })
})

void t.test('two cookies must not have the same name', async (t) => {
  const express = expressSession({ secret, store })
  await t.rejects(makeApp(t, { cookieName: 'connect.sid', migrateFrom: express }), {
    option: 'migrateFrom',
    message: /cookie with the name "connect.sid", which another cookie has too; choose another `cookieName`/
  })
  await t.rejects(makeApp(t, { migrateFrom: [express, express] }), SessionOptionError)
})

void t.test('the key of secure-session can be derived from a secret and a salt', async (t) => {
  for (const salt of [undefined, 'sixteen bytes ok', randomBytes(16)]) {
    const key = Buffer.alloc(32)
    const bytes = salt === undefined ? Buffer.from('mq9hDxBVDbspDR6nLfFT1g==', 'base64') : Buffer.from(salt)
    sodium.crypto_pwhash(
      key,
      Buffer.from(secret),
      bytes,
      sodium.crypto_pwhash_OPSLIMIT_MODERATE,
      sodium.crypto_pwhash_MEMLIMIT_MODERATE,
      sodium.crypto_pwhash_ALG_DEFAULT
    )
    const migrateFrom = secureSession({ secret, until: UNTIL, ...(salt !== undefined && { salt }) })
    const app = await makeApp(t, { migrateFrom })
    app.get('/', async ({ session }) => session.get('name'))
    const text = JSON.stringify({ name: 'Ada', __ts: Math.round(Date.now() / 1000) })
    const { body } = await app.inject({ url: '/', headers: { cookie: `session=${sealed(text, key)}` } })
    t.equal(body, 'Ada')
  }
})

void t.test(
  'the prefix, the algorithm and the name of a cookie of @fastify/session can be given',
  async (t) => {
    const { Signer } = await import('@fastify/cookie')
    store.records.set('id', JSON.stringify({ cookie: {}, name: 'Ada' }))
    const options = { secret, store, cookieName: 'sid', cookiePrefix: 's:', algorithm: 'sha512' }
    const app = await makeApp(t, { migrateFrom: fastifySession({ ...options, keep: true }) })
    app.get('/', async ({ session }) => session.get('name') ?? 'nobody')
    const get = async (cookie: string) => (await app.inject({ url: '/', headers: { cookie } })).body
    const signed = encodeURIComponent(new Signer(secret, 'sha512').sign('id'))
    t.equal(await get(`sid=s:${signed}`), 'Ada')
    t.equal(await get(`sid=${signed}`), 'nobody')
    t.equal(await get(`sessionId=s:${signed}`), 'nobody')
  }
)

void t.test('a stored session that is not an object, or has no valid expiry, does no harm', async (t) => {
  const { Signer } = await import('@fastify/cookie')
  const records: Record<string, [stored: unknown, name: string]> = {
    text: [JSON.stringify(JSON.stringify({ name: 'Ada' })), 'Ada'],
    broken: ['"{"', 'nobody'],
    number: ['7', 'nobody'],
    none: ['null', 'nobody'],
    'no cookie': ['{"name":"Ada"}', 'Ada'],
    'a wrong date': ['{"name":"Ada","cookie":{"expires":"soon"}}', 'Ada'],
    'original expiry': ['{"name":"Ada","cookie":{"originalExpires":"2001-01-01T00:00:00.000Z"}}', 'nobody']
  }
  const app = await makeApp(t, { migrateFrom: fastifySession({ secret, store }) })
  app.get('/', async ({ session }) => session.get('name') ?? 'nobody')
  for (const [id, [stored, name]] of Object.entries(records)) {
    store.records.set(id, stored as string)
    const cookie = `sessionId=${encodeURIComponent(new Signer(secret).sign(id))}`
    t.equal((await app.inject({ url: '/', headers: { cookie } })).body, name, id)
  }
})

void t.test('a sealed cookie whose content is not a session does no harm', async (t) => {
  const app = await makeApp(t, { migrateFrom: secureSession({ key: KEY, until: UNTIL }) })
  app.get('/', async ({ session }) => session.get('name') ?? 'nobody')
  for (const text of ['', '{', 'null', '[]', '{"name":"Ada"}', '{"name":"Ada","__ts":"1"}']) {
    const { body, statusCode } = await app.inject({
      url: '/',
      headers: { cookie: `session=${sealed(text)}` }
    })
    t.same([statusCode, body], [200, 'nobody'], text)
  }
  const nonce = Buffer.alloc(sodium.crypto_secretbox_NONCEBYTES).toString('base64')
  for (const value of [`AAAA;${nonce}`, `${nonce};AAAA`, 'AAAA', `${nonce};${nonce}`])
    t.equal(
      (await app.inject({ url: '/', headers: { cookie: `session=${encodeURIComponent(value)}` } })).body,
      'nobody'
    )
})

void t.test('migrateFrom takes at most one store', async (t) => {
  const stores = [new MemoryStore(), new MemoryStore()]
  await t.rejects(makeApp(t, { migrateFrom: stores }), {
    option: 'migrateFrom',
    message: /has two stores, but can have only one/
  })
})
