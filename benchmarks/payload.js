// The replies and the session data that all contenders use, so that they all do the same work.
import { setImmediate } from 'node:timers'

export const SECRET = 'a secret for the benchmarks, 32 bytes or more'
/**
 * The session cookie has the default name and attributes of fastify-sesame, but not `secure`, which needs TLS. `maxAge`
 * is in seconds.
 */
export const COOKIE = Object.freeze({
  name: 'session_id',
  path: '/',
  httpOnly: true,
  sameSite: 'lax',
  secure: false,
  maxAge: 86_400
})

export const HELLO = Object.freeze({ hello: 'world' })
export const NAME = 'Ada'
/** The size of a large session in bytes. A very full shopping cart takes about 64 KB of JSON. */
export const LARGE = 64 * 1024

/**
 * Waits for one turn of the event loop. The handlers of `/add` wait between reading and writing, so that concurrent
 * requests overlap.
 */
export function nextTurn() {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Returns the initial data of a session: two short values and, with `?bytes=N`, a cart of about N bytes. */
export function seedOf({ bytes = 0 }) {
  const short = { name: NAME, visits: 0 }
  return bytes > 0 ? { ...short, cart: makeItems(bytes) } : short
}

/** Returns the session values that check.js compares with the expected ones. */
export function readAll(get) {
  return Object.fromEntries(['name', 'visits', 'count', 'user'].map((key) => [key, get(key) ?? null]))
}

function makeItems(bytes) {
  const item = (number) => ({ sku: `A-${String(number).padStart(6, '0')}`, title: 'A thing', count: 1 })
  const length = JSON.stringify(item(0)).length + 1
  return Array.from({ length: Math.max(1, Math.round(bytes / length)) }, (_, number) => item(number))
}
