// What every contender answers and keeps, so that all of them do the same work.
import { setImmediate } from 'node:timers'

export const SECRET = 'a secret for the benchmarks, 32 bytes or more'
/** The cookie's name and attributes, those of our defaults but for `secure`, which needs TLS. `maxAge`: seconds. */
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
/** About 64 KB of JSON: what a shop keeps in a session that nobody looked after. */
export const LARGE = 64 * 1024

/** What a handler waits for between reading and writing, where several write at once: one turn of the event loop. */
export function nextTurn() {
  return new Promise((resolve) => setImmediate(resolve))
}

/** The values that a session begins with: two short ones, and, with `?bytes=`, a cart of about so many bytes. */
export function seedOf({ bytes = 0 }) {
  const short = { name: NAME, visits: 0 }
  return bytes > 0 ? { ...short, cart: makeItems(bytes) } : short
}

/** What `check` looks at. */
export function readAll(get) {
  return Object.fromEntries(['name', 'visits', 'count', 'user'].map((key) => [key, get(key) ?? null]))
}

function makeItems(bytes) {
  const item = (number) => ({ sku: `A-${String(number).padStart(6, '0')}`, title: 'A thing', count: 1 })
  const length = JSON.stringify(item(0)).length + 1
  return Array.from({ length: Math.max(1, Math.round(bytes / length)) }, (_, number) => item(number))
}
