import { setTimeout as delay } from 'node:timers/promises'
import { isPromise, withTimeout } from '../../awaitable.js'
import { withoutValues } from '../driver-error.js'

/** A session store for express-session or @fastify/session. */
export interface ExpressStore {
  get(sid: string, callback: (error?: unknown, session?: unknown) => void): unknown
  set(sid: string, session: never, callback: (error?: unknown) => void): unknown
  destroy(sid: string, callback: (error?: unknown) => void): unknown
  touch?(sid: string, session: never, callback: (error?: unknown) => void): unknown
}

/** The session that the store receives. The store reads the lifetime from `cookie` and serializes the whole object. */
export interface ExpressSession {
  readonly cookie: ExpressCookie
  /** The record as JSON text in ASCII, so that a document database does not interpret its keys. */
  readonly sesame: string
}

export interface ExpressCookie {
  readonly originalMaxAge: number
  readonly maxAge: number
  /** The expiry: a Date, as express-session passes it. Most stores return it in ISO 8601 format. */
  readonly expires: Date | string
  /**
   * The time of the last write, in milliseconds since the epoch. A touch changes only this time and the expiry. Some
   * stores turn this number into a string.
   */
  readonly lastAccessed: number | string
}

/** The methods of the store as functions that return promises. */
export interface Calls {
  get(id: string): Promise<unknown>
  set(id: string, session: ExpressSession): Promise<unknown>
  /**
   * Removes a session, and waits until it is gone or half a second has passed. If a write to it that took too long comes
   * later, removes the session again.
   */
  destroy(id: string): Promise<unknown>
  touch(id: string, session: ExpressSession): Promise<unknown>
}

/** The store has not called back in time. */
export class NoCallbackError extends Error {
  /** True if the method returned a promise that has resolved. */
  readonly hasResolved: boolean

  constructor(method: string, milliseconds: number, hasResolved: boolean) {
    super(`The store's ${method}() did not call its callback within ${milliseconds} ms`)
    this.hasResolved = hasResolved
  }
}

/** Returns the calls of `store`. Each rejects with a `NoCallbackError` after `timeout` milliseconds. */
export function callsOf(store: ExpressStore, timeout: number): Calls {
  /** The writes to each session that took too long and are still running. */
  const late = new Map<string, Set<Promise<unknown>>>()

  /** A write passes the whole session to the store, and so more values than the patch has. */
  function write(method: 'set' | 'touch', id: string, session: ExpressSession): Promise<unknown> {
    const { answer, inTime } = call(method, timeout, (callback) =>
      store[method]?.(id, session as never, callback)
    )
    return inTime.catch((error: unknown) => {
      if (!(error instanceof NoCallbackError)) throw withoutValues(error, session.sesame)
      remember(late, id, answer)
      throw error
    })
  }

  const get = (id: string): Promise<unknown> =>
    call('get', timeout, (callback) => store.get(id, callback)).inTime.catch(absentIfNoFile)

  async function destroy(id: string): Promise<void> {
    const once = (): Promise<unknown> =>
      call('destroy', timeout, (callback) => store.destroy(id, callback)).inTime
    const again = (): unknown => once().catch(() => undefined)
    for (const answer of late.get(id) ?? []) answer.then(again, again)
    await once()
    await untilAbsent(() => get(id))
  }

  return {
    get,
    set: (id, session) => write('set', id, session),
    destroy,
    touch: (id, session) => write(store.touch === undefined ? 'set' : 'touch', id, session)
  }
}

interface Call {
  /** Settles when the store calls back, throws, or returns a promise that rejects. This may be never. */
  readonly answer: Promise<unknown>
  /** Settles as `answer` does, or rejects after the timeout. */
  readonly inTime: Promise<unknown>
}

function call(
  method: string,
  timeout: number,
  work: (callback: (error?: unknown, value?: unknown) => void) => unknown
): Call {
  let hasResolved = false
  const answer = new Promise((resolve, reject) => {
    const returned = work((error, value) => {
      if (error === undefined || error === null) resolve(value)
      else reject(error instanceof Error ? error : new Error(describe(error)))
    })
    if (isPromise(returned)) returned.then(() => (hasResolved = true), reject)
  })
  const inTime = withTimeout(answer, timeout, () => new NoCallbackError(method, timeout, hasResolved))
  return { answer, inTime }
}

/** Some stores report a text. Any other value is not quoted, because it may be the session. */
function describe(error: unknown): string {
  return typeof error === 'string' ? error : `The store reported a value of type ${typeof error} as an error`
}

/** The longest wait between two reads in milliseconds. All waits together take half a second. */
const LONGEST_WAIT = 256

/** Some stores call back before they have removed a session. A write that comes too early would bring it back. */
async function untilAbsent(get: () => Promise<unknown>): Promise<void> {
  const isThere = async (): Promise<boolean> =>
    get().then(
      (session) => session !== undefined && session !== null,
      () => false
    )
  for (let wait = 1; wait <= LONGEST_WAIT && (await isThere()); wait *= 2) await delay(wait)
}

/** A store that keeps sessions in files reports a missing session as an error. */
function absentIfNoFile(error: unknown): undefined {
  if ((error as { code?: unknown } | null)?.code === 'ENOENT') return undefined
  throw error
}

function remember(late: Map<string, Set<Promise<unknown>>>, id: string, answer: Promise<unknown>): void {
  const answers = late.get(id) ?? new Set()
  late.set(id, answers.add(answer))
  const forget = (): void => {
    answers.delete(answer)
    if (answers.size === 0) late.delete(id)
  }
  answer.then(forget, forget)
}
