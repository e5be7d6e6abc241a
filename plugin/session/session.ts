import type { FastifyRequest } from 'fastify'
import { Draft, type Updater } from './changes.js'
import { SessionStoreError, SessionUsageError, SessionValueError } from '../errors.js'
import { toText } from './serialize.js'
import type { ResolvedOptions } from '../options/resolve.js'
import {
  CSRF_KEY,
  expiryOf,
  planOf,
  userIdOf,
  type FoundSession,
  type Plan,
  type SessionOutcome
} from './plan.js'
import { isOwn } from './record.js'
import { idOfToken, type Tokens } from '../cookies/tokens.js'
import type { SessionData, SessionKey, SessionRecord, SessionValue } from '../types.js'

/** What a session needs of the one who made it. */
export interface SessionHost {
  readonly options: ResolvedOptions
  readonly tokens: Tokens
  saveEarly(session: Session, request: FastifyRequest): Promise<void>
}

/**
 * `open`: changes are saved. `readonly`: they throw. `detached`: they are kept for this request only, because the
 * store failed. `unloaded`: the plugin's `onRequest` has not run yet, so they throw.
 */
export type SessionMode = 'open' | 'readonly' | 'detached' | 'unloaded'

const FLASH_PREFIX = '$flash.'
/** An hour: a message that nobody came to read by then would only confuse. */
const FLASH_LIFETIME = 3_600_000
interface Flash {
  readonly value: unknown
  readonly at: number
}

/** What the manager and the CSRF guard may do to a session, and nobody else can. */
interface Internals {
  /** Whether the session was committed before: a request commits once. */
  isCommitted(session: Session): boolean
  markCommitted(session: Session): void
  planOf(session: Session, failed: boolean): Plan
  /** Puts the request's changes on a record that is newer than the loaded one. */
  rebase(session: Session, record: SessionRecord): void
  /** Whether an object was changed in place after the commit. */
  changedSince(session: Session): boolean
  /** The id that the store knows the session by, until the commit; `undefined` for a new one. */
  storedId(session: Session): string | undefined
  csrfSecret(session: Session): unknown
  setCsrfSecret(session: Session, secret: string): void
}

// Assigned by the static block of Session, the only place that sees its private fields.
export let internals: Internals

/**
 * One request's view of a session. Everything is in memory and synchronous; what changed is written once, before the
 * reply's first byte. Values are whatever JSON can hold.
 *
 * Keys are any string but those that begin with `$`, which are the library's own: they read as absent, and writing them
 * throws. Every method that changes something throws a `SessionUsageError` once the session was saved
 * (`SESSION_COMMITTED`) and on a `session: 'readonly'` route (`SESSION_READONLY`).
 */
export class Session<D = SessionData> {
  readonly #host: SessionHost
  readonly #request: FastifyRequest
  readonly #mode: SessionMode
  #found: FoundSession | undefined
  #ended: string | undefined
  #draft: Draft
  #token: string | undefined
  #id: string | undefined
  #createdAt: number
  #rotated = false
  #committed = false

  /** @internal */
  constructor(host: SessionHost, request: FastifyRequest, mode: SessionMode, found?: FoundSession) {
    this.#host = host
    this.#request = request
    this.#mode = mode
    this.#found = found
    this.#token = found?.token
    this.#id = found?.id
    this.#createdAt = found === undefined ? Date.now() : found.record.createdAt
    this.#draft = new Draft(this, host.options.problemOf, found?.record.data)
  }

  /** Hex SHA-256 of the token: 64 digits, safe to print, useless as a cookie. Changes with `regenerate()`. */
  get id(): string {
    return (this.#id ??= idOfToken(this.#secretToken()))
  }

  /** When the session was created or last regenerated, in ms since the epoch. */
  get createdAt(): number {
    return this.#createdAt
  }

  /** When the store last heard of the session, in ms since the epoch: its last write or touch before this request. */
  get lastAccessed(): number {
    return this.#found === undefined || this.#rotated ? this.#createdAt : this.#found.record.lastAccessed
  }

  /** When it ends, in ms since the epoch, as the store has it: what this request prolongs is not in it. */
  get expiresAt(): number {
    const expiry = expiryOf(this.#host.options, this.#createdAt, this.lastAccessed)
    return this.#found === undefined || this.#rotated
      ? expiry
      : Math.min(expiry, this.#found.record.expiresAt)
  }

  /** Whether the store has no session that this one continues. */
  get isNew(): boolean {
    return this.#found === undefined
  }

  /** Whether there is something to write: a change of data (in place too), a new id, or an end. */
  get modified(): boolean {
    return this.#ended !== undefined || this.#rotated || this.#draft.difference() !== undefined
  }

  /** The value at `key`, or `undefined` when there is none. An object may be changed in place: that is saved too. */
  get<K extends SessionKey<D>>(key: K): SessionValue<K, D> | undefined {
    return (isOwn(key) ? undefined : this.#draft.value(key)) as SessionValue<K, D> | undefined
  }

  /**
   * Keeps `value` at `key`. A value equal to the stored one is no change, but in a `regenerate()`.
   * @throws {SessionValueError} when JSON cannot hold the value, the schema refuses it, or the key begins with `$`.
   */
  set<K extends SessionKey<D>>(key: K, value: SessionValue<K, D>): void {
    this.#beforeChange(key)
    this.#check(key, value)
    this.#draft.set(key, value)
  }

  /**
   * Read, modify, write, without a lost update: when another request wrote first, `fn` runs again on the newer value.
   * So `fn` must depend on nothing but its argument. To change in place what it returned makes it a plain `set`.
   * @throws {SessionValueError} as `set` does, for what `fn` returns.
   */
  update<K extends SessionKey<D>>(
    key: K,
    fn: (current: SessionValue<K, D> | undefined) => SessionValue<K, D>
  ): void {
    this.#beforeChange(key)
    this.#draft.update(key, (current) => {
      const value = (fn as Updater)(current)
      this.#check(key, value)
      return value
    })
  }

  /** Removes the value at `key`. Absent is no change. */
  remove(key: SessionKey<D>): void {
    this.#beforeChange(key)
    this.#draft.remove(key)
  }

  has(key: SessionKey<D>): boolean {
    return !isOwn(key) && this.#draft.has(key)
  }

  /** The application's keys; flash messages and the CSRF secret are not among them. */
  keys(): SessionKey<D>[] {
    return this.#draft.keys().filter((key) => !isOwn(key)) as SessionKey<D>[]
  }

  /** Removes everything, flash messages and the CSRF secret too. The session itself goes on. */
  clear(): void {
    this.#beforeChange()
    this.#draft.clear()
  }

  /**
   * Leaves a message for a later request. A message that is not read within an hour is gone.
   * @throws {SessionValueError} when JSON cannot hold the value.
   */
  setFlash(key: string, value: unknown): void {
    this.#beforeChange()
    const text = toText(key, value)
    const there = this.#flash(key)
    // The same message again is no change, so that a page that is reloaded does not write each time.
    if (there !== undefined && JSON.stringify(there.value) === text) return
    this.#draft.set(FLASH_PREFIX + key, { value, at: Date.now() })
  }

  /** The message at `key`, once: it is removed. `undefined` when there is none. */
  getFlash(key: string): unknown {
    this.#beforeChange()
    const flash = this.#flash(key)
    this.#draft.remove(FLASH_PREFIX + key)
    return flash?.value
  }

  /** The message at `key`, which stays. `undefined` when there is none. */
  peekFlash(key: string): unknown {
    return this.#flash(key)?.value
  }

  /**
   * A new token and id, at once: for every login and every change of what the user may do. The data stays, the CSRF
   * secret goes, both clocks start again. At commit the store moves the record in one step; the old id is dead.
   */
  regenerate(): void {
    this.#beforeChange()
    this.#renew()
    this.#rotated = this.#found !== undefined
    this.#draft.remove(CSRF_KEY)
  }

  /**
   * Ends the session: its record goes and its cookie is cleared, whatever the reply's status. What is set afterwards
   * goes into a fresh session with a new id.
   * @throws {SessionStoreError} where the session could not be loaded (`onStoreError: 'anonymous'`), and so lives on.
   */
  invalidate(): void {
    this.#beforeChange()
    if (this.#mode === 'detached')
      throw new SessionStoreError(new Error('A session that could not be loaded cannot be ended'))
    this.#ended ??= this.#found?.id
    this.#found = undefined
    this.#rotated = false
    this.#draft = new Draft(this, this.#host.options.problemOf)
    this.#renew()
  }

  /**
   * Writes now instead of when the reply is sent: for a hijacked reply, a WebSocket or a stream. A change after it throws.
   * @throws {SessionUsageError} `SESSION_HEADERS_SENT` when a cookie is needed and the headers are gone.
   */
  async save(): Promise<void> {
    await this.#host.saveEarly(this as unknown as Session, this.#request)
  }

  #renew(): void {
    this.#token = undefined
    this.#id = undefined
    this.#createdAt = Date.now()
  }

  /** Minted when it is first needed: most visitors never get one. */
  #secretToken(): string {
    const { tokens, options } = this.#host
    return (this.#token ??= tokens.mint(this.#found?.id.slice(0, options.store.rotationPrefix ?? 0)))
  }

  #flash(key: string): Flash | undefined {
    const flash = this.#draft.value(FLASH_PREFIX + key) as Partial<Flash> | undefined
    return typeof flash?.at === 'number' && Date.now() - flash.at < FLASH_LIFETIME
      ? (flash as Flash)
      : undefined
  }

  /** The one gate that every change passes. */
  #beforeChange(key?: string): void {
    if (this.#committed)
      throw new SessionUsageError(
        'SESSION_COMMITTED',
        'The session was already saved: change it before save() or the reply'
      )
    if (this.#mode === 'readonly')
      throw new SessionUsageError(
        'SESSION_READONLY',
        "This route has config { session: 'readonly' }: its session cannot be changed"
      )
    if (this.#mode === 'unloaded')
      throw new SessionUsageError(
        'SESSION_NOT_LOADED',
        'The session is not loaded yet: change it after the onRequest hook of fastify-sesame'
      )
    if (key !== undefined && isOwn(key))
      throw new SessionValueError(key, 'begins with "$", which is reserved')
  }

  #check(key: string, value: unknown): void {
    const { options } = this.#host
    const problem = options.problemOf(key, value)
    if (problem !== undefined) throw new SessionValueError(key, problem)
    if (key === options.userKey && value !== null && userIdOf(value) === null) {
      throw new SessionValueError(
        key,
        'says whose session it is, so it must be a non-empty string, a finite number or null'
      )
    }
  }

  #outcome(): SessionOutcome {
    return {
      options: this.#host.options,
      draft: this.#draft,
      found: this.#found,
      ended: this.#ended,
      rotated: this.#rotated,
      createdAt: this.#createdAt,
      identity: () => ({ token: this.#secretToken(), id: this.id })
    }
  }

  static {
    internals = {
      isCommitted: (session) => session.#committed,
      markCommitted(session) {
        session.#committed = true
      },
      planOf(session, failed) {
        if (session.#mode !== 'open') return undefined
        return planOf(session.#outcome(), failed)
      },
      rebase(session, record) {
        const found = session.#found as FoundSession
        session.#found = { ...found, record }
        session.#draft.rebase(record.data, session.#rotated)
      },
      changedSince: (session) => session.#committed && session.#mode === 'open' && session.#draft.strayed(),
      storedId: (session) => (session.#committed ? session.id : session.#found?.id),
      csrfSecret: (session) => session.#draft.value(CSRF_KEY),
      setCsrfSecret(session, secret) {
        session.#beforeChange()
        session.#draft.set(CSRF_KEY, secret)
      }
    }
  }
}
