import { createHash, hkdfSync, randomUUID, type KeyObject } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { isPromise, withTimeout } from '../awaitable.js'
import { idOfToken } from '../cookies/tokens.js'
import { channels } from '../diagnostics.js'
import { SessionStoreError } from '../errors.js'
import type { OldCookie, OldSession, Predecessor } from '../migrate/predecessor.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { withoutValues } from '../stores/driver-error.js'
import type { GuardedStore } from '../stores/guarded.js'
import { isRecord } from '../stores/record.js'
import type { Awaitable, SessionPatch, SessionRecord } from '../types.js'
import { emptyTexts, type Texts } from './changes.js'
import { expiryOf, isLive } from './lifetime.js'
import type { FoundSession } from './plan.js'
import { MOVED_KEY, userIdOf } from './record.js'

/** A cookie of another library in a request, whose signature has not been verified yet. */
export interface GivenCookie {
  readonly predecessor: Predecessor
  readonly value: string
}

/** A correctly signed cookie of another library, with the session that it becomes. */
interface Mover {
  readonly predecessor: Predecessor
  readonly old: OldCookie
  readonly token: string
  readonly id: string
  /** The id of the claim: a record that exists once the old session has begun to move. */
  readonly claim: string
}

type Found = FoundSession | undefined

/** How many correctly signed cookies of other libraries may cause store calls. */
const CANDIDATES = 4
const CLAIM_BYTES = 32
/** How long a request waits until it looks again whether another server has moved its session, in milliseconds. */
const PAUSE = 20
/** The key of a claim whose session has been created. */
const DONE = 'done'

/**
 * Turns sessions of other libraries into sessions of this one.
 *
 * An old session moves at most once. Its token is derived from the secret and the old cookie, so that all requests with
 * this cookie find the same session. The request that moves it first creates a second record, the claim. The claim
 * outlives the session, so that the old cookie cannot bring back a session that has ended. If a server stops before it
 * has created the session that it has claimed, another one takes the claim over.
 */
export class MoveIn {
  readonly #options: ResolvedOptions
  readonly #store: GuardedStore
  readonly #derive: ReturnType<typeof createDerivation>
  /** The moves of this process that are running. The requests of one session share a move. */
  readonly #moves = new Map<string, Promise<Found>>()

  constructor(options: ResolvedOptions, store: GuardedStore) {
    this.#options = options
    this.#store = store
    this.#derive = createDerivation(options)
  }

  /**
   * Returns the session that a request's old cookies stand for, and creates it if it does not exist yet. Returns
   * `'ended'` if one is correctly signed but has no live session, and `undefined` if none is correctly signed.
   */
  load(cookies: readonly GivenCookie[], requestId: string): Awaitable<FoundSession | 'ended' | undefined> {
    const movers = this.#moversOf(cookies)
    return movers.length === 0 ? undefined : this.#first(movers, requestId)
  }

  /** Ends the old sessions of a request, so that their cookies sign nobody in any more. */
  async end(cookies: readonly GivenCookie[]): Promise<void> {
    for (const { old, claim } of this.#moversOf(cookies)) {
      const record = { ...this.#claimRecord(0), data: { [DONE]: 'true' } }
      if (!(await this.#store.create(claim, record))) await this.#store.update(claim, patchOf(record))
      await guarded('destroy', this.#options.storeTimeout, () => old.destroy())
    }
  }

  #moversOf(cookies: readonly GivenCookie[]): Mover[] {
    const movers: Mover[] = []
    for (const { predecessor, value } of cookies) {
      const old = Date.now() < predecessor.until ? predecessor.open(value) : undefined
      if (old !== undefined) movers.push({ predecessor, old, ...this.#derive(predecessor, old) })
      if (movers.length === CANDIDATES) break
    }
    return movers
  }

  async #first(movers: readonly Mover[], requestId: string): Promise<FoundSession | 'ended'> {
    for (const mover of movers) {
      const found = (await this.#find(mover)) ?? (await this.#moveOnce(mover, requestId))
      if (found === undefined) continue
      const { id, record } = found
      if (channels.loaded.hasSubscribers) channels.loaded.publish({ id, userId: record.userId, requestId })
      return found
    }
    return 'ended'
  }

  async #find({ token, id }: Mover): Promise<Found> {
    const record = await this.#store.get(id)
    const isFound = record !== undefined && isRecord(id, record) && isLive(this.#options, record, Date.now())
    return isFound ? foundOf(token, id, record) : undefined
  }

  #moveOnce(mover: Mover, requestId: string): Promise<Found> {
    const running = this.#moves.get(mover.id)
    if (running !== undefined) return running
    const move = this.#move(mover, requestId).finally(() => this.#moves.delete(mover.id))
    this.#moves.set(mover.id, move)
    return move
  }

  async #move(mover: Mover, requestId: string): Promise<Found> {
    const { predecessor, old, token, id } = mover
    const { storeTimeout } = this.#options
    const session = await guarded('get', storeTimeout, () => old.read())
    // Another server may have moved the session in between.
    if (session === undefined) return this.#find(mover)
    const record = recordOf(session, predecessor, this.#options, Date.now())
    const claim = await this.#claim(mover, record.expiresAt)
    if (claim === undefined || !(await this.#store.create(id, record))) return this.#find(mover)
    if (!(await this.#settle(mover, claim))) return undefined
    if (!predecessor.keep) await guarded('destroy', storeTimeout, () => old.destroy(), session.data)
    publish(predecessor, id, record, requestId)
    return foundOf(token, id, record)
  }

  /** Returns the claim if this request has to create the session, otherwise `undefined`. */
  async #claim(mover: Mover, expiresAt: number): Promise<SessionRecord | undefined> {
    const own = this.#claimRecord(expiresAt)
    if (await this.#store.create(mover.claim, own)) return own
    for (;;) {
      const claim = await this.#store.get(mover.claim)
      if (claim === undefined || Object.hasOwn(claim.data, DONE)) return undefined
      if ((await this.#find(mover)) !== undefined) return undefined
      if (Date.now() >= claim.createdAt + this.#options.storeTimeout) return this.#takeOver(mover, claim)
      await delay(PAUSE)
    }
  }

  async #takeOver(mover: Mover, claim: SessionRecord): Promise<SessionRecord | undefined> {
    const { version, expiresAt } = claim
    const own = { ...this.#claimRecord(expiresAt), data: { by: randomUUID() }, version: version + 1 }
    const result = await this.#store.update(mover.claim, { ...patchOf(own), ifVersion: version })
    return result === 'ok' ? own : undefined
  }

  /**
   * Marks the claim as done. If another server has taken it over, because this one was so slow, the session of that
   * server may have ended since. So this function then removes the session that this server has created.
   */
  async #settle({ claim, id }: Mover, own: SessionRecord): Promise<boolean> {
    const patch = patchOf({ ...own, data: { [DONE]: 'true' } })
    if ((await this.#store.update(claim, { ...patch, ifVersion: own.version })) === 'ok') return true
    await this.#store.destroy(id)
    return false
  }

  /** A claim exists for as long as a session that begins now can live, or the old one could have lived. */
  #claimRecord(end: number): SessionRecord {
    const now = Date.now()
    const expiresAt = Math.max(end, now + this.#options.maxAge)
    return { version: 1, data: emptyTexts(), createdAt: now, lastAccessed: now, expiresAt, userId: null }
  }
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
  { userOf }: Predecessor,
  { lifetime, userKey }: ResolvedOptions,
  now: number
): SessionRecord {
  const user = userOf === undefined ? data[userKey] : userOf(data)
  const end = Math.min(expiresAt, now + lifetime.maxAge)
  // Without an idle timeout, the session ends when it would have ended in the other library.
  const createdAt = lifetime.idleTimeout === Infinity ? Math.min(now, end - lifetime.maxAge) : now
  return {
    version: 1,
    data: textsOf({ ...data, [userKey]: user ?? undefined }),
    createdAt,
    lastAccessed: now,
    expiresAt: Math.min(end, expiryOf(lifetime, createdAt, now)),
    userId: userIdOf(user)
  }
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
    const text = JSON.stringify(value) as string | undefined
    if (text !== undefined && !key.startsWith('$')) texts[key] = text
  }
  texts[MOVED_KEY] = 'true'
  return texts
}

/** HKDF-SHA256 (RFC 5869) makes the token and the id of the claim from the newest secret and the old session. */
function createDerivation({ secrets, idLength }: ResolvedOptions) {
  const [secret] = secrets
  return ({ cookieName }: Predecessor, { identity }: OldCookie): Pick<Mover, 'token' | 'id' | 'claim'> => {
    const salt = createHash('sha256').update(identity).digest()
    const info = `fastify-sesame session of ${cookieName}`
    const bytes = Buffer.from(hkdfSync('sha256', secret as KeyObject, salt, info, idLength + CLAIM_BYTES))
    const token = bytes.toString('hex', 0, idLength)
    return { token, id: idOfToken(token), claim: bytes.toString('hex', idLength) }
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
