import { inspect } from 'node:util'
import { isPromise } from '../awaitable.js'
import { SessionOptionError } from '../errors.js'
import type { SessionPatch, SessionRecord, SessionStore, UpdateResult } from '../types.js'
import { applyPatch, changesData } from './patch.js'
import { parseRecord } from './record.js'

/** What a store of express-session or @fastify/session has. */
export interface ExpressStore {
  get(sid: string, callback: (error?: unknown, session?: unknown) => void): unknown
  set(sid: string, session: never, callback: (error?: unknown) => void): unknown
  destroy(sid: string, callback: (error?: unknown) => void): unknown
  touch?(sid: string, session: never, callback: (error?: unknown) => void): unknown
}

/** The session object that the store keeps: it makes its time to live of the cookie, and JSON of the whole. */
interface ExpressSession {
  readonly cookie: ExpressCookie
  /** What a touch leaves, as JSON: a store that keeps documents must not see our keys as its own. */
  readonly sesame: string
}

interface ExpressCookie {
  readonly originalMaxAge: number
  readonly maxAge: number
  /** ISO 8601; some stores make a Date of it. */
  readonly expires: string | Date
  /** Milliseconds since the epoch: beside the expiry what a touch changes. */
  readonly lastAccessed: number
}

/**
 * Any store of express-session or @fastify/session under this library's contract. Writes to one session wait for each
 * other within this process, so that none is lost and none revives a session.
 *
 * What it cannot promise: that of another process on the same data. There a change may be lost, or a session that is being
 * changed outlive its end, because such a store can only put a whole session, whatever is there by then. It cannot find
 * sessions by user. The store stays open: whoever made it closes it.
 * @throws {SessionOptionError} when `store` has no get, set and destroy.
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
        const was = (await read(id)) !== undefined
        if (was) await calls.destroy(id)
        return was
      }),
    close: () => queue.idle()
  }
}

/** Nothing else goes to the store: some make a file name of it, or a property's. */
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

/** The new one first: a failure between the steps must not log anybody out. Then it is taken away, as nobody knows its token. */
async function move(calls: Calls, id: string, renameTo: string, session: ExpressSession): Promise<void> {
  await calls.set(renameTo, session)
  try {
    await calls.destroy(id)
  } catch (error) {
    await calls.destroy(renameTo).catch(() => undefined)
    throw error
  }
}

/** The store's methods, with promises. */
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
  // Some stores keep the cookie that a touch brings, others only move their own expiry: the first touch shows which.
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

/** Whatever comes first: the callback, a rejection or a throw. */
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
  /** Runs `work` when nothing else is at work on any of the ids. */
  <T>(ids: readonly string[], work: () => Promise<T>): Promise<T>
  /** When all that was asked for is done. */
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

/** Whether nothing changes but the times, and these do: of a touch that changes nothing one cannot learn what it keeps. */
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
  // Not inspected: it may well be a connection string with its password.
  if (!isStore) throw new SessionOptionError('store', 'has no get, set and destroy, so it is no store')
}
