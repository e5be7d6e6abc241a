import { createHash, hash, hkdfSync, randomUUID, type KeyObject } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { isPromise, withTimeout } from '../awaitable.js'
import { idOfToken } from '../cookies/tokens.js'
import { channels } from '../diagnostics.js'
import { SessionOptionError, SessionStoreError } from '../errors.js'
import type { OldCookie, OldSession, Predecessor } from '../migrate/predecessor.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { withoutValues } from '../stores/driver-error.js'
import type { GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { Awaitable, SessionPatch, SessionRecord } from '../types.js'
import { emptyTexts, type Texts } from './changes.js'
import { expiryOf, isLive } from './lifetime.js'
import type { FoundSession, Ids } from './plan.js'
import { MOVED_KEY, userIdOf } from './record.js'

/** A cookie of another library in a request, whose signature has not been verified yet. */
export interface GivenCookie {
  readonly predecessor: Predecessor
  readonly value: string
}

/** A correctly signed cookie of another library. */
interface Mover {
  readonly predecessor: Predecessor
  readonly old: OldCookie
  /** The id of the claim: a record that exists once the old session has begun to move. */
  readonly claim: string
}

type Found = FoundSession | undefined

/** How many correctly signed cookies of other libraries may cause store calls. */
const CANDIDATES = 4
/** How long a request waits until it looks again whether another server has moved its session, in milliseconds. */
const PAUSE = 20
/** How long a kept session without an expiry may live in the other library, in milliseconds. */
const YEAR = 365 * 86_400_000
/** The key of a claim whose session has been created. */
const DONE = 'done'
/** The key of the random text in a claim that a request has taken over. It leads to another token. */
const BY = 'by'

/**
 * Turns sessions of other libraries into sessions of this one.
 *
 * An old session moves at most once. The request that moves it first creates a record, the claim. The token of the new
 * session is derived from the secret, the old cookie and the claim, so that all requests with this cookie find the same
 * session. The claim outlives the session, so that the old cookie cannot bring back a session that has ended. If a
 * server stops before it has created the session that it has claimed, another one takes the claim over. This changes
 * the token, so a session that the first server still creates is one that nobody finds.
 */
export class MoveIn {
  readonly #options: ResolvedOptions
  readonly #store: GuardedStore
  /** The moves of this process that are running. The requests of one session share a move. */
  readonly #moves = new Map<string, Promise<Found>>()

  constructor(options: ResolvedOptions, store: GuardedStore) {
    this.#options = options
    this.#store = store
  }

  /**
   * Returns the session that a request's old cookies stand for, and creates it if it does not exist yet. Returns
   * `'ended'` if one is correctly signed but has no live session, and `undefined` if none is correctly signed.
   */
  load(cookies: readonly GivenCookie[], requestId: string): Awaitable<FoundSession | 'ended' | undefined> {
    const movers = moversOf(cookies)
    return movers.length === 0 ? undefined : this.#first(movers, requestId)
  }

  /** Ends the old sessions of a request, so that their cookies sign nobody in any more. */
  async end(cookies: readonly GivenCookie[]): Promise<void> {
    for (const mover of moversOf(cookies)) {
      const end = endOf(mover, await this.#read(mover))
      // A claim with another text leads to a session that does not exist.
      const data = { ...textsBy(randomUUID()), [DONE]: 'true' }
      const ended = { ...this.#claimRecord(end), data }
      if (!(await this.#store.create(mover.claim, ended)))
        await this.#store.update(mover.claim, patchOf(ended))
      await this.#destroy(mover)
    }
  }

  async #first(movers: readonly Mover[], requestId: string): Promise<FoundSession | 'ended'> {
    for (const mover of movers) {
      const claim = await this.#store.get(mover.claim)
      const found = await (claim !== undefined && isDone(claim)
        ? this.#find(mover, claim)
        : this.#moveOnce(mover, requestId))
      if (found === undefined) continue
      const { id, record } = found
      if (channels.loaded.hasSubscribers) channels.loaded.publish({ id, userId: record.userId, requestId })
      return found
    }
    return 'ended'
  }

  /** Returns the live session of a claim. It may have moved before the newest secret was added. */
  async #find(mover: Mover, claim: SessionRecord): Promise<Found> {
    for (const secret of this.#options.secrets) {
      const { token, id } = this.#idsOf(mover, claim, secret)
      const record = await this.#store.get(id)
      if (record !== undefined && isRecord(id, record) && isLive(this.#options, record, Date.now()))
        return foundOf(token, id, record)
    }
    return undefined
  }

  #moveOnce(mover: Mover, requestId: string): Promise<Found> {
    const running = this.#moves.get(mover.claim)
    if (running !== undefined) return running
    const move = this.#move(mover, requestId).finally(() => this.#moves.delete(mover.claim))
    this.#moves.set(mover.claim, move)
    return move
  }

  async #move(mover: Mover, requestId: string): Promise<Found> {
    for (;;) {
      const claim = await this.#claimOf(mover)
      if (claim !== undefined && isDone(claim)) return this.#find(mover, claim)
      const session = await this.#read(mover)
      // Another server may have moved the session in between.
      if (session === undefined) return this.#findMoved(mover)
      const record = recordOf(session, mover.predecessor, this.#options, Date.now())
      const own = await this.#claim(mover, claim, endOf(mover, session))
      if (own === undefined) continue
      if (claim !== undefined) await this.#store.destroy(this.#idsOf(mover, claim).id)
      const found = await this.#create(mover, own, record, requestId)
      if (found !== undefined) return found
    }
  }

  async #findMoved(mover: Mover): Promise<Found> {
    const claim = await this.#store.get(mover.claim)
    return claim === undefined ? undefined : this.#find(mover, claim)
  }

  /**
   * Returns the claim of a session, or `undefined` if there is none. Waits until its session has been created, or the
   * server that creates it seems to have stopped. Compares no times of two servers, because their clocks may differ.
   */
  async #claimOf(mover: Mover): Promise<SessionRecord | undefined> {
    const deadline = performance.now() + this.#options.storeTimeout
    for (;;) {
      const claim = await this.#store.get(mover.claim)
      if (claim === undefined || isDone(claim) || performance.now() >= deadline) return claim
      await delay(PAUSE)
    }
  }

  /** Creates a claim, or takes over `before`. Returns `undefined` if another server was faster. */
  async #claim(
    { claim: id }: Mover,
    before: SessionRecord | undefined,
    end: number
  ): Promise<SessionRecord | undefined> {
    const own = this.#claimRecord(end)
    if (before === undefined) return (await this.#store.create(id, own)) ? own : undefined
    const { version } = before
    const taken = { ...own, version: version + 1, data: textsBy(randomUUID()) }
    const result = await this.#store.update(id, { ...patchOf(taken), ifVersion: version })
    return result === 'ok' ? taken : undefined
  }

  /** Creates the session of a claim. Returns `undefined` if it did not, or if the session has ended since. */
  async #create(
    mover: Mover,
    claim: SessionRecord,
    record: SessionRecord,
    requestId: string
  ): Promise<Found> {
    const { predecessor } = mover
    const { token, id } = this.#idsOf(mover, claim)
    const isCreated = await this.#store.create(id, record)
    if (!(await this.#settle(mover, claim))) return undefined
    // The session exists already if the store has lost its claim.
    if (!isCreated) return this.#find(mover, claim)
    if (!predecessor.keep) await this.#destroy(mover, record.data)
    publish(predecessor, id, record, requestId)
    return foundOf(token, id, record)
  }

  /**
   * Marks a claim as done. If another server has taken it over, because this one was so slow, or a logout has ended it,
   * removes the session that this server has created and returns `false`.
   */
  async #settle(mover: Mover, own: SessionRecord): Promise<boolean> {
    const patch = patchOf({ ...own, data: { ...own.data, [DONE]: 'true' } })
    if ((await this.#store.update(mover.claim, { ...patch, ifVersion: own.version })) !== 'conflict')
      return true
    const claim = await this.#store.get(mover.claim)
    // In a store whose writes are not atomic, two servers can create the same claim, and so the same session.
    if (claim?.data[BY] === own.data[BY]) return true
    await this.#store.destroy(this.#idsOf(mover, own).id)
    return false
  }

  #read({ old }: Mover): Promise<OldSession | undefined> {
    return guarded('get', this.#options.storeTimeout, () => old.read(), old.identity)
  }

  #destroy({ old }: Mover, values?: unknown): Promise<unknown> {
    return guarded('destroy', this.#options.storeTimeout, () => old.destroy(), [old.identity, values])
  }

  /** A claim exists until `end`, but at least for as long as a session that begins now can live. */
  #claimRecord(end: number): SessionRecord {
    const now = Date.now()
    const expiresAt = Math.max(end, now + this.#options.maxAge)
    return { version: 1, data: emptyTexts(), createdAt: now, lastAccessed: now, expiresAt, userId: null }
  }

  /** HKDF-SHA256 (RFC 5869) makes the token from a secret, the old session and the claim. */
  #idsOf({ predecessor, old }: Mover, { data }: SessionRecord, secret?: KeyObject): Ids {
    const { secrets, idLength } = this.#options
    const salt = createHash('sha256').update(old.identity).digest()
    const info = `fastify-sesame session of ${predecessor.cookieName} ${data[BY] ?? ''}`
    const bytes = hkdfSync('sha256', secret ?? (secrets[0] as KeyObject), salt, info, idLength)
    const token = Buffer.from(bytes).toString('hex')
    return { token, id: idOfToken(token) }
  }
}

function moversOf(cookies: readonly GivenCookie[]): Mover[] {
  const movers: Mover[] = []
  for (const { predecessor, value } of cookies) {
    const old = Date.now() < predecessor.until ? predecessor.open(value) : undefined
    if (old !== undefined) movers.push({ predecessor, old, claim: claimIdOf(predecessor, old) })
    if (movers.length === CANDIDATES) break
  }
  return movers
}

/** Returns the id of a claim. It does not depend on a secret, so it stays the same when the secrets change. */
function claimIdOf({ cookieName }: Predecessor, { identity }: OldCookie): string {
  return hash('sha256', `fastify-sesame claim of ${cookieName}\n${identity}`, 'hex')
}

function isDone({ data }: SessionRecord): boolean {
  return Object.hasOwn(data, DONE)
}

/** Returns the data of a claim whose session has a token of its own. */
function textsBy(text: string): Texts {
  return { [BY]: JSON.stringify(text) }
}

/** Returns when an old cookie stops working, in milliseconds since the epoch. */
function endOf({ predecessor: { keep, until } }: Mover, session: OldSession | undefined): number {
  // Without `keep`, the record of a stored session is removed.
  const unknown = keep ? Date.now() + YEAR : 0
  return Math.min(session?.expiresAt ?? unknown, until)
}

/** `stale` makes the reply set the session's cookie, which the browser does not have yet. */
function foundOf(token: string, id: string, record: SessionRecord): FoundSession {
  return { token, id, stale: true, record }
}

/** Returns the patch that writes the data and the times of a claim. */
function patchOf({ data, createdAt, lastAccessed, expiresAt }: SessionRecord): SessionPatch {
  return { set: data, remove: [], createdAt, lastAccessed, expiresAt }
}

function recordOf(
  { data, expiresAt = Infinity }: OldSession,
  predecessor: Predecessor,
  { lifetime, userKey }: ResolvedOptions,
  now: number
): SessionRecord {
  const user = userOf(predecessor, data, userKey)
  const end = Math.min(expiresAt, now + lifetime.maxAge)
  // Without an idle timeout, the session ends when it would have ended in the other library.
  const createdAt = lifetime.idleTimeout === Infinity ? Math.min(now, end - lifetime.maxAge) : now
  return {
    version: 1,
    data: textsOf({ ...data, [userKey]: user }),
    createdAt,
    lastAccessed: now,
    expiresAt: Math.min(end, expiryOf(lifetime, createdAt, now)),
    userId: userIdOf(user)
  }
}

/**
 * Returns the user of an old session, or `undefined`. Other libraries often keep `null`, `false` or `''` after a logout.
 * @throws {SessionOptionError} if the value is not a user id. Without one, the data would pass to the next user.
 */
function userOf({ userOf }: Predecessor, data: OldSession['data'], userKey: string): unknown {
  const user = userOf !== undefined ? userOf(data) : Object.hasOwn(data, userKey) ? data[userKey] : undefined
  if (user === undefined || user === null || user === false || user === '') return undefined
  if (typeof user === 'string' || Number.isFinite(user)) return user
  const got = typeof user === 'number' ? String(user) : `a value of type ${typeof user}`
  throw new SessionOptionError(
    'migrateFrom.userOf',
    `returned ${got}, but must return a text, a finite number or undefined. Without it, the user is the value at "${userKey}"`
  )
}

function publish(
  { cookieName }: Predecessor,
  id: string,
  { userId }: SessionRecord,
  requestId: string
): void {
  if (channels.created.hasSubscribers) channels.created.publish({ id, userId, requestId })
  if (channels.migrated.hasSubscribers) channels.migrated.publish({ id, userId, cookieName, requestId })
}

/** Returns the values as JSON texts. Leaves out what JSON cannot represent, and keys that this library reserves. */
function textsOf(data: Readonly<Record<string, unknown>>): Texts {
  const texts = emptyTexts()
  for (const [key, value] of Object.entries(data)) {
    const text = textOf(value)
    if (text !== undefined && !key.startsWith('$')) texts[key] = text
  }
  texts[MOVED_KEY] = 'true'
  return texts
}

function textOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    // A store in memory can hold a BigInt or a cycle.
    return undefined
  }
}

/** Calls the old store. Its failure is a failure of the store, and shows no values of the session. */
async function guarded<T>(
  operation: string,
  timeout: number,
  call: () => Awaitable<T>,
  values?: unknown
): Promise<T> {
  try {
    const answer = call()
    return isPromise(answer) ? await withTimeout(answer, timeout) : answer
  } catch (error) {
    const cause = withoutValues(error, values)
    if (channels.storeFailure.hasSubscribers) channels.storeFailure.publish({ operation, error: cause })
    throw new SessionStoreError(cause)
  }
}
