import { isPromise } from '../awaitable.js'
import { SessionOptionError } from '../errors.js'
import type { SessionPatch, SessionRecord, SessionStore, UpdateResult } from '../types.js'
import { withoutValues } from './driver-error.js'
import { applyPatch, changesData } from './patch.js'
import { parseRecord } from './record.js'

/** A session store for express-session or @fastify/session. */
export interface ExpressStore {
  get(sid: string, callback: (error?: unknown, session?: unknown) => void): unknown
  set(sid: string, session: never, callback: (error?: unknown) => void): unknown
  destroy(sid: string, callback: (error?: unknown) => void): unknown
  touch?(sid: string, session: never, callback: (error?: unknown) => void): unknown
}

/** The session that the store receives. The store reads the lifetime from `cookie` and serializes the whole object. */
interface ExpressSession {
  readonly cookie: ExpressCookie
  /** The rest of the record as JSON text, so that a document database does not interpret its keys. */
  readonly sesame: string
}

interface ExpressCookie {
  readonly originalMaxAge: number
  readonly maxAge: number
  /** The expiry in ISO 8601 format. Some stores turn this string into a Date. */
  readonly expires: string | Date
  /** The time of the last write, in milliseconds since the epoch. A touch changes only this time and the expiry. */
  readonly lastAccessed: number
}

/**
 * Adapts a store for express-session or @fastify/session. Within one process, writes to the same session wait for each
 * other, so that no change is lost and no write revives a session that has ended.
 *
 * Across processes, a concurrent write may lose a change or revive a session that has ended, because such a store can
 * only write whole sessions. The adapter cannot find sessions by user, and does not close `store`.
 * @throws {SessionOptionError} if `store` lacks `get`, `set` or `destroy`.
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

/** Only ids of this form are passed to the store, because some stores use an id as a file name or a property name. */
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
 * Moves a session to a new id. Stores a copy under the new id before it deletes the original, so that a failure in
 * between does not log the user out. If this deletion fails, deletes the copy, because no browser has its token.
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

interface Calls {
  get(id: string): Promise<unknown>
  set(id: string, session: ExpressSession): Promise<unknown>
  destroy(id: string): Promise<unknown>
  touch(id: string, session: ExpressSession): Promise<unknown>
}

function callsOf(store: ExpressStore): Calls {
  const get = (id: string) => promised((callback) => store.get(id, callback))
  // A write passes the whole session to the store, and so more values than the patch has.
  const write = (method: 'set' | 'touch', id: string, session: ExpressSession) =>
    promised((callback) => store[method]?.(id, session as never, callback)).catch((error: unknown) => {
      throw withoutValues(error, session.sesame)
    })
  // When a session is touched, some stores save the cookie, and others only extend the expiry time that they keep for
  // the session. The first touch shows which kind of store this is.
  let keepsCookie: boolean | undefined
  return {
    get,
    set: (id, session) => write('set', id, session),
    destroy: (id) => promised((callback) => store.destroy(id, callback)),
    touch: async (id, session) => {
      if (store.touch === undefined || keepsCookie === false) return write('set', id, session)
      await write('touch', id, session)
      keepsCookie ??= hasTimes(await get(id), session.cookie)
      if (!keepsCookie) await write('set', id, session)
    }
  }
}

/** Returns a promise that settles as soon as `call` invokes its callback, throws, or returns a promise that rejects. */
function promised(call: (callback: (error?: unknown, value?: unknown) => void) => unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const answer = call((error, value) => {
      if (error === undefined || error === null) resolve(value)
      else reject(error instanceof Error ? error : new Error(describe(error)))
    })
    if (isPromise(answer)) answer.then(undefined, reject)
  })
}

/** Some stores report a text. Any other value is not quoted, because it may be the session. */
function describe(error: unknown): string {
  return typeof error === 'string' ? error : `The store reported a value of type ${typeof error} as an error`
}

interface Queue {
  /** Runs `work` as soon as all earlier work on these ids has finished. */
  <T>(ids: readonly string[], work: () => Promise<T>): Promise<T>
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

/** Returns true for a touch that changes a time. Any other touch cannot show whether the store saves the cookie. */
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

/** Returns the record in a session. If this adapter did not write the session, reports this and returns `undefined`. */
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
  // Do not quote the value in the message, because it may be a connection string with a password.
  if (!isStore) throw new SessionOptionError('store', 'has no get, set and destroy, so it is not a store')
}
