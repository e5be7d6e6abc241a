import { inspect } from 'node:util'
import { isPromise } from '../awaitable.js'
import { SessionOptionError } from '../errors.js'
import type { SessionPatch, SessionRecord, SessionStore, UpdateResult } from '../types.js'
import { applyPatch, changesData } from './patch.js'
import { parseRecord } from './record.js'

/** A store of express-session or @fastify/session. */
export interface ExpressStore {
  get(sid: string, callback: (error?: unknown, session?: unknown) => void): unknown
  set(sid: string, session: never, callback: (error?: unknown) => void): unknown
  destroy(sid: string, callback: (error?: unknown) => void): unknown
  touch?(sid: string, session: never, callback: (error?: unknown) => void): unknown
}

/** The session object that the store keeps. The store reads its lifetime from the cookie and serializes the whole object. */
interface ExpressSession {
  readonly cookie: ExpressCookie
  /** The rest of the record as JSON, so that a document store does not interpret its keys. A touch does not change it. */
  readonly sesame: string
}

interface ExpressCookie {
  readonly originalMaxAge: number
  readonly maxAge: number
  /** ISO 8601. Some stores turn it into a Date. */
  readonly expires: string | Date
  /** Milliseconds since the epoch. A touch changes only this and the expiry. */
  readonly lastAccessed: number
}

/**
 * Adapts a store of express-session or @fastify/session. Within this process, writes to one session wait for each other,
 * so that no change is lost and no write revives a session.
 *
 * This does not hold across processes: such a store can only write whole sessions, so a concurrent write may lose a
 * change or revive a session. The adapter cannot find sessions by user, and does not close `store`.
 * @throws {SessionOptionError} if `store` lacks get, set or destroy.
 */
export function fromExpressStore(store: ExpressStore): SessionStore {
  requireStore(store)
  const calls = callsOf(store)
  const queue = createQueue()
  const read = async (id: string): Promise<SessionRecord | undefined> => {
    if (!ID.test(id)) return undefined
    const record = recordOf(id, await calls.get(id))
    return record !== undefined && Date.now() < record.expiresAt ? record : undefined
  }
  return {
    get: read,
    create: (id, record) =>
      queue([id], async () => {
        if ((await read(id)) !== undefined) return false
        await calls.set(id, sessionOf(record))
        return true
      }),
    update: (id, patch) => {
      const { renameTo } = patch
      return queue(renameTo === undefined ? [id] : [id, renameTo], () => update(calls, read, id, patch))
    },
    destroy: (id) =>
      queue([id], async () => {
        const existed = (await read(id)) !== undefined
        if (existed) await calls.destroy(id)
        return existed
      }),
    close: () => queue.idle()
  }
}

/** Only ids of this form reach the store, because some stores use an id as a file or property name. */
const ID = /^[0-9a-f]{64}$/

type Read = (id: string) => Promise<SessionRecord | undefined>

async function update(calls: Calls, read: Read, id: string, patch: SessionPatch): Promise<UpdateResult> {
  const { ifVersion, renameTo = id } = patch
  const record = await read(id)
  if (record === undefined) return 'gone'
  if (ifVersion !== undefined && ifVersion !== record.version) return 'conflict'
  if (renameTo !== id && (await read(renameTo)) !== undefined) return 'conflict'
  const session = sessionOf(applyPatch(record, patch))
  if (renameTo !== id) await move(calls, id, renameTo, session)
  else if (isTouch(patch, record)) await calls.touch(id, session)
  else await calls.set(id, session)
  return 'ok'
}

/**
 * Writes the new id first, so that a failure between the two steps does not log the user out. If the old id cannot be
 * removed, removes the new one, whose token no browser has.
 */
async function move(calls: Calls, id: string, renameTo: string, session: ExpressSession): Promise<void> {
  await calls.set(renameTo, session)
  try {
    await calls.destroy(id)
  } catch (error) {
    await calls.destroy(renameTo).catch(() => undefined)
    throw error
  }
}

/** The methods of the store as promises. */
interface Calls {
  get(id: string): Promise<unknown>
  set(id: string, session: ExpressSession): Promise<unknown>
  destroy(id: string): Promise<unknown>
  touch(id: string, session: ExpressSession): Promise<unknown>
}

function callsOf(store: ExpressStore): Calls {
  const get = (id: string) => promised((callback) => store.get(id, callback))
  const set = (id: string, session: ExpressSession) =>
    promised((callback) => store.set(id, session as never, callback))
  // On a touch, some stores save the cookie and others only extend their own expiry. The first touch shows which.
  let keepsCookie: boolean | undefined
  return {
    get,
    set,
    destroy: (id) => promised((callback) => store.destroy(id, callback)),
    touch: async (id, session) => {
      if (store.touch === undefined || keepsCookie === false) return set(id, session)
      await promised((callback) => store.touch?.(id, session as never, callback))
      keepsCookie ??= hasTimes(await get(id), session.cookie)
      if (!keepsCookie) await set(id, session)
    }
  }
}

/** Returns a promise that settles when `call` uses its callback, rejects or throws, whichever is first. */
function promised(call: (callback: (error?: unknown, value?: unknown) => void) => unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const answer = call((error, value) => {
      if (error === undefined || error === null) resolve(value)
      else reject(error instanceof Error ? error : new Error(inspect(error)))
    })
    if (isPromise(answer)) answer.then(undefined, reject)
  })
}

interface Queue {
  /** Runs `work` when no earlier work on any of the ids is running. */
  <T>(ids: readonly string[], work: () => Promise<T>): Promise<T>
  /** Resolves when all queued work is done. */
  idle(): Promise<void>
}

function createQueue(): Queue {
  const last = new Map<string, Promise<unknown>>()
  const queue = <T>(ids: readonly string[], work: () => Promise<T>): Promise<T> => {
    const before = ids.flatMap((id) => last.get(id) ?? [])
    const done = Promise.allSettled(before).then(work)
    for (const id of ids) last.set(id, done)
    const forget = () => {
      for (const id of ids) if (last.get(id) === done) last.delete(id)
    }
    done.then(forget, forget)
    return done
  }
  return Object.assign(queue, {
    idle: async () => {
      await Promise.allSettled(last.values())
    }
  })
}

/** Returns true if only the times change. A touch that changes nothing does not show whether the store keeps the cookie. */
function isTouch(patch: SessionPatch, { lastAccessed, expiresAt }: SessionRecord): boolean {
  if (changesData(patch) || patch.createdAt !== undefined || patch.userId !== undefined) return false
  return patch.lastAccessed !== lastAccessed || patch.expiresAt !== expiresAt
}

function sessionOf({ lastAccessed, expiresAt, ...rest }: SessionRecord): ExpressSession {
  const maxAge = Math.max(expiresAt - Date.now(), 1)
  return {
    cookie: { originalMaxAge: maxAge, maxAge, expires: new Date(expiresAt).toISOString(), lastAccessed },
    sesame: JSON.stringify(rest)
  }
}

/** Returns the record in a session, or reports the session and returns `undefined` if this adapter did not write it. */
function recordOf(id: string, session: unknown): SessionRecord | undefined {
  if (session === undefined || session === null) return undefined
  return parseRecord(id, () => {
    const { cookie, sesame } = session as ExpressSession
    const record = JSON.parse(sesame) as SessionRecord
    return { ...record, lastAccessed: cookie.lastAccessed, expiresAt: timeOf(cookie.expires) }
  })
}

function hasTimes(session: unknown, { lastAccessed, expires }: ExpressCookie): boolean {
  const cookie = cookieOf(session)
  if (cookie === undefined) return false
  return cookie.lastAccessed === lastAccessed && timeOf(cookie.expires) === timeOf(expires)
}

function timeOf(date: string | Date): number {
  return new Date(date).getTime()
}

function cookieOf(session: unknown): ExpressCookie | undefined {
  const { cookie } = (session ?? {}) as Partial<ExpressSession>
  return cookie
}

function requireStore(store: ExpressStore): void {
  const given = store as unknown as Partial<Record<string, unknown>> | null | undefined
  const isStore = ['get', 'set', 'destroy'].every((method) => typeof given?.[method] === 'function')
  // The value is not quoted, because it may be a connection string with a password.
  if (!isStore) throw new SessionOptionError('store', 'has no get, set and destroy, so it is not a store')
}
