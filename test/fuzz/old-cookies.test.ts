import { Signer } from '@fastify/cookie'
import fc from 'fast-check'
import t from 'tap'
import { expressSession, fastifySession, secureSession } from '../../plugin/migrate/index.js'
import { makeApp } from '../fixtures/app.js'
import { spyStore } from '../fixtures/stores.js'
import { CountingStore, KEY, OLD_SECRET, sealed, UNTIL } from '../migrate/fixtures/old-apps.js'
import { check } from './fixtures/check.js'
import { mutated } from './fixtures/mutations.js'

const COOKIES = ['connect.sid', 'sessionId', 'session'] as const

/** Correct cookies of sessions that do not exist. A mutation of one is no longer correct, or means the same. */
const id = new Signer(OLD_SECRET).sign('an id')
const GENUINE = [`s:${id}`, encodeURIComponent(`s:${id}`), id, encodeURIComponent(id), sealed('{"__ts":1}')]

const value = fc.oneof(
  { weight: 4, arbitrary: mutated(fc.constantFrom(...GENUINE)) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
  { weight: 1, arbitrary: fc.base64String({ maxLength: 200 }).map((text) => `${text};${text}`) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', 's:', 's:.', '.', ';', '%', '%3B', 's%3A', '__proto__', 'x'.repeat(8192))
  }
)
const header = fc
  .array(fc.tuple(fc.constantFrom(...COOKIES), value), { minLength: 1, maxLength: 6 })
  .map((pairs) => pairs.map(([name, text]) => `${name}=${text}`).join('; '))

void t.test(
  'hostile cookies of other libraries cause no error, and no store call unless they are signed',
  async (t) => {
    const [store, old] = [spyStore(), new CountingStore()]
    const express = expressSession({ secret: OLD_SECRET, store: old })
    const fastify = fastifySession({ secret: OLD_SECRET, store: old })
    const secure = secureSession({ key: KEY, until: UNTIL })
    const app = await makeApp(t, { store, migrateFrom: [express, fastify, secure] })
    app.get('/', async ({ session }) => session.keys())
    await app.ready()
    store.take()
    /** Tells whether a cookie is correctly signed, without the code of this library if that is possible. */
    const signer = new Signer(OLD_SECRET)
    const isSigned: Record<string, (text: string) => boolean> = {
      'connect.sid': (text) => decoded(text).startsWith('s:') && signer.unsign(decoded(text).slice(2)).valid,
      sessionId: (text) => signer.unsign(decoded(text)).valid,
      session: (text) => secure.open(text) !== undefined
    }
    let signed = 0
    const property = fc.asyncProperty(header, async (cookie) => {
      const calls = old.calls
      const { statusCode, body, headers } = await app.inject({ url: '/', headers: { cookie } })
      const isQuiet = store.take().length === 0 && old.calls === calls
      const hasSigned = cookie.split(/[ \t]*;[ \t]*/).some((part) => {
        const [name = '', text = ''] = part.replace(/[ \t]+$/, '').split(/=(.*)/s)
        return isSigned[name]?.(text) === true
      })
      if (hasSigned) signed++
      return (
        statusCode === 200 && body === '[]' && headers['set-cookie'] === undefined && isQuiet !== hasSigned
      )
    })
    await check(t, property, { runs: 2000, what: 'cookie headers of other libraries tried' })
    t.ok(signed > 10, `${signed} headers are still signed`)
  }
)

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
