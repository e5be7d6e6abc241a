import { SessionOptionError } from '../errors.js'
import { callsOf, type ExpressStore } from '../stores/express/calls.js'
import type { OldCookie, OldSession } from './predecessor.js'

/** How many milliseconds a call of the old store may take. */
const TIMEOUT = 900

/**
 * Returns a function that finds the session of an id in a store of express-session or @fastify/session.
 * @throws {SessionOptionError} if `store` is not such a store.
 */
export function createFinder(store: ExpressStore): (id: string) => OldCookie {
  const methods = ['get', 'destroy'] as const
  if (!methods.every((name) => typeof (store as Partial<ExpressStore> | undefined)?.[name] === 'function'))
    throw new SessionOptionError('store', 'must be the store of the other library, with get and destroy')
  const calls = callsOf(store, TIMEOUT)
  return (id) => ({
    identity: id,
    read: async () => sessionOf(await calls.get(id), Date.now()),
    destroy: () => calls.destroy(id)
  })
}

/** Some stores return JSON text. A session that has expired, or is not an object, is absent. */
function sessionOf(stored: unknown, now: number): OldSession | undefined {
  const session = typeof stored === 'string' ? parsed(stored) : stored
  if (typeof session !== 'object' || session === null) return undefined
  const { cookie, ...data } = session as Record<string, unknown>
  const expiresAt = expiryOf(cookie)
  return expiresAt === undefined || now < expiresAt ? { data, expiresAt } : undefined
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function expiryOf(cookie: unknown): number | undefined {
  const { originalExpires, expires = originalExpires } = Object(cookie) as Record<string, unknown>
  if (typeof expires !== 'string' && !(expires instanceof Date)) return undefined
  const time = new Date(expires).getTime()
  return Number.isNaN(time) ? undefined : time
}
