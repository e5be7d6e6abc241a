import { SessionOptionError } from '../../errors.js'
import { storeOptions } from '../../own-options.js'
import type { SessionPatch, SessionRecord, SessionStore, UpdateResult } from '../../types.js'
import { applyPatch, changesData } from '../patch.js'
import { parseRecord } from '../record.js'
import { callsOf, type Calls, type ExpressCookie, type ExpressSession, type ExpressStore } from './calls.js'
import { probe } from './probe.js'
import { Queue } from './queue.js'

export type { ExpressStore } from './calls.js'

export interface ExpressStoreOptions {
  /**
   * How many milliseconds a call of the store may take. After that, the request fails with a 503, and the calls that
   * wait behind it go on. Should be less than half of the plugin's `storeTimeout`, because most requests need two calls.
   * Default 900.
   */
  readonly timeout?: number
}

/**
 * Adapts a store for express-session or @fastify/session. Within one process, writes to the same session wait for each
 * other, so that no change is lost and no write revives a session that has ended.
 *
 * Across processes, a concurrent write may lose a change or revive a session that has ended, because such a store can
 * only write whole sessions. The adapter cannot find sessions by user, and does not close `store`. At registration, it
 * stores, reads and removes a session, to find out whether the store can hold one.
 * @throws {SessionOptionError} if `store` lacks `get`, `set` or `destroy`, or an option is wrong.
 */
export function fromExpressStore(store: ExpressStore, options?: ExpressStoreOptions): SessionStore {
  requireStore(store)
  const calls = callsOf(store, timeoutOf(options))
  const queue = new Queue()
  const read = readerOf(calls)
  const update = updaterOf(calls, read)
  return {
    get: read,
    create: (id, record) =>
      queue.run([id], async () => {
        if ((await read(id)) !== undefined) return false
        await calls.set(id, sessionOf(record))
        return true
      }),
    update(id, patch) {
      const { renameTo } = patch
      return queue.run(renameTo === undefined ? [id] : [id, renameTo], async () =>
        queue.isEnding(id) ? 'gone' : update(id, patch)
      )
    },
    destroy: (id) => queue.end(id, () => destroy(calls, read, id)),
    ready: () => probe(calls, sessionOf, recordOf),
    close: () => queue.idle()
  }
}

/** Only ids of this form are passed to the store, because some stores use an id as a file name or a property name. */
const ID = /^[0-9a-f]{64}$/

type Read = (id: string) => Promise<SessionRecord | undefined>

function readerOf(calls: Calls): Read {
  return async function read(id) {
    if (!ID.test(id)) return undefined
    const record = recordOf(id, await calls.get(id))
    return record !== undefined && Date.now() < record.expiresAt ? record : undefined
  }
}

function updaterOf(calls: Calls, read: Read) {
  const touch = toucherOf(calls)
  return async function update(id: string, patch: SessionPatch): Promise<UpdateResult> {
    const { ifVersion, renameTo = id } = patch
    const record = await read(id)
    if (record === undefined) return 'gone'
    if (ifVersion !== undefined && ifVersion !== record.version) return 'conflict'
    if (renameTo !== id && (await read(renameTo)) !== undefined) return 'conflict'
    const session = sessionOf(applyPatch(record, patch))
    if (renameTo !== id) await move(calls, id, renameTo, session)
    else if (isTouch(patch, record)) await touch(id, session)
    else await calls.set(id, session)
    return 'ok'
  }
}

/**
 * When a session is touched, some stores save the cookie, and others only extend the expiry time that they keep for the
 * session. The first touch shows which kind of store this is.
 */
function toucherOf(calls: Calls): Calls['touch'] {
  let keepsCookie: boolean | undefined
  return async function touch(id, session) {
    if (keepsCookie === false) return calls.set(id, session)
    await calls.touch(id, session)
    keepsCookie ??= hasTimes(await calls.get(id), session.cookie)
    if (!keepsCookie) await calls.set(id, session)
  }
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

/** Removes a session, even if the store cannot say whether it exists. */
async function destroy(calls: Calls, read: Read, id: string): Promise<boolean> {
  const existed = await read(id).then(
    (record) => record !== undefined,
    () => true
  )
  if (existed) await calls.destroy(id)
  return existed
}

/** Returns true for a touch that changes a time. Any other touch cannot show whether the store saves the cookie. */
function isTouch(patch: SessionPatch, { lastAccessed, expiresAt }: SessionRecord): boolean {
  if (changesData(patch) || patch.createdAt !== undefined || patch.userId !== undefined) return false
  return patch.lastAccessed !== lastAccessed || patch.expiresAt !== expiresAt
}

function sessionOf(record: SessionRecord): ExpressSession {
  const { lastAccessed, expiresAt } = record
  const maxAge = Math.max(expiresAt - Date.now(), 1)
  return {
    cookie: { originalMaxAge: maxAge, maxAge, expires: new Date(expiresAt), lastAccessed },
    sesame: asciiJson(record)
  }
}

/** Returns JSON in ASCII, because the column of the store may have a character set that lacks some characters. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
  )
}

/**
 * Returns the record in a session. If this adapter did not write the session, reports this and returns `undefined`. The
 * times are in the cookie, which a touch changes. If the store does not keep them there, those of the last write count.
 */
function recordOf(id: string, stored: unknown): SessionRecord | undefined {
  if (stored === undefined || stored === null) return undefined
  return parseRecord(id, () => {
    const { cookie, sesame } = parsed(stored) as ExpressSession
    const record = JSON.parse(sesame) as SessionRecord
    const { lastAccessed, expires } = timesOf(cookie)
    return {
      ...record,
      lastAccessed: lastAccessed || record.lastAccessed,
      expiresAt: expires || record.expiresAt
    }
  })
}

function hasTimes(stored: unknown, { lastAccessed, expires }: ExpressCookie): boolean {
  const { cookie } = (parsed(stored) ?? {}) as Partial<ExpressSession>
  const times = timesOf(cookie)
  return times.lastAccessed === lastAccessed && times.expires === timeOf(expires)
}

/** Returns the times in a cookie in milliseconds since the epoch, or NaN for those that it does not have. */
function timesOf(cookie: ExpressCookie | undefined): { lastAccessed: number; expires: number } {
  return { lastAccessed: Number(cookie?.lastAccessed ?? NaN), expires: timeOf(cookie?.expires ?? NaN) }
}

function timeOf(date: string | Date | number): number {
  return new Date(date).getTime()
}

/** Some stores return the JSON text that they keep. */
function parsed(stored: unknown): unknown {
  return typeof stored === 'string' ? JSON.parse(stored) : stored
}

function timeoutOf(options: ExpressStoreOptions | undefined): number {
  const { timeout = 900 } = storeOptions(options, ['timeout'], {})
  if (!Number.isInteger(timeout) || timeout <= 0)
    throw SessionOptionError.wrong('timeout', timeout, 'a positive whole number of milliseconds')
  return timeout
}

function requireStore(store: ExpressStore): void {
  const given = store as unknown as Partial<Record<string, unknown>> | null | undefined
  const isStore = ['get', 'set', 'destroy'].every((method) => typeof given?.[method] === 'function')
  // Do not quote the value in the message, because it may be a connection string with a password.
  if (!isStore) throw new SessionOptionError('store', 'has no get, set and destroy, so it is not a store')
}
