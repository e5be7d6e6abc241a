import type { JsonValue, SessionData, SessionInput, SessionKey, SessionValue } from '../types.js'
import { SessionUsageError } from '../errors.js'
import { checkCallback, refuseReplaced, runWith, type SessionCallback } from './aliases.js'
import type { Updater } from './changes.js'
import { expiring, unexpired } from './expiring.js'
import { checkKeep, type LoginOptions } from './login.js'
import { checkKey, isOwnKey, RETURN_KEY } from './record.js'
import { pageToReturnTo } from './return-path.js'
import { serialize } from './serialize.js'
import type { SessionState } from './state.js'
import { tooLarge } from './visitor.js'

const FLASH_PREFIX = '$flash.'

const DELETES_NO_KEY =
  'session.delete(key) does not exist: use session.remove(key) for a value. session.delete() ends the session'

/** The key at which the proxy of the option `properties` gives its session. */
export const SELF = Symbol('fastify-sesame.self')

/** Writes the session of a request before its reply is sent. */
export interface Saver {
  save(): Promise<void>
}

/**
 * The session of one request. All methods except `save` are synchronous and work in memory. The changes are written
 * together, before the first byte of the reply. A value can be anything that JSON can hold.
 *
 * A key can be any string, but keys that begin with `$` are reserved for the library. The application cannot read
 * them, and writing one throws an error. Every method that changes the session throws a `SessionUsageError` after the
 * session has been saved (`SESSION_COMMITTED`) and on a `session: 'readonly'` route (`SESSION_READONLY`).
 */
export class Session<D = SessionData> {
  readonly #state: SessionState
  readonly #saver: Saver

  /** @internal */
  constructor(state: SessionState, saver: Saver) {
    this.#state = state
    this.#saver = saver
  }

  /** @internal Returns the internal state of a session. */
  static stateOf(session: Session): SessionState {
    // A proxy does not have the private fields of its session.
    return #state in session ? session.#state : (Reflect.get(session, SELF) as Session).#state
  }

  /**
   * The SHA-256 hash of the token, as 64 hex digits. It is safe to print, because it cannot be used as a cookie. Until
   * the session is stored, each request of the same browser has another id, so the id cannot serve to limit requests.
   */
  get id(): string {
    return this.#state.id
  }

  /** When the session was created, or when the user logged in since, in milliseconds since the epoch. */
  get createdAt(): number {
    return this.#state.createdAt
  }

  /** When the user logged in, in milliseconds since the epoch. `undefined` without a user. */
  get authenticatedAt(): number | undefined {
    return this.#state.authenticatedAt
  }

  /** When the session was last written or extended before this request, in milliseconds since the epoch. */
  get lastAccessed(): number {
    return this.#state.lastAccessed
  }

  /** When the session ends, in milliseconds since the epoch. An extension by this request is not included yet. */
  get expiresAt(): number {
    return this.#state.expiresAt
  }

  /** True if the store does not have this session (yet). This is always so for a visitor. */
  get isNew(): boolean {
    return !this.#state.isStored
  }

  /** True until the session is saved, if there is something to write: data (even if changed in place), an id, or an end. */
  get modified(): boolean {
    return this.#state.modified
  }

  /** Returns the value at `key`, or `undefined`. If you change a returned object, the change is saved too. */
  get<K extends SessionKey<D>>(key: K): SessionValue<K, D> | undefined {
    return (isOwnKey(key) ? undefined : this.#state.data.value(key)) as SessionValue<K, D> | undefined
  }

  /**
   * Sets the value at `key`. `undefined` removes it. A value equal to the current one causes no write, unless the
   * request calls `regenerate()`. Setting the user (the plugin's `userKey`) is a login, as `login()` is, if the session
   * has another user or none, or if the request also calls `regenerate()`.
   * @throws {SessionValueError} if JSON cannot hold the value, the schema refuses it, or the key begins with `$`.
   */
  set<K extends SessionKey<D>>(key: K, value: SessionInput<K, D> | undefined): void {
    this.#state.set(key, value)
  }

  /**
   * Changes a value without losing the changes of other requests. If another request has written first, `fn` runs
   * again on the newer value, so `fn` must be a pure function. If you later change the object that `fn` returned, the
   * update becomes a plain `set`.
   * @throws {SessionValueError} if `set` would refuse the value that `fn` returns.
   */
  update<K extends SessionKey<D>>(
    key: K,
    fn: (current: SessionValue<K, D> | undefined) => SessionInput<K, D>
  ): void {
    this.#state.update(key, fn as Updater)
  }

  /** Returns the value at `key` and removes it. Returns `undefined` if there is none. */
  take<K extends SessionKey<D>>(key: K): SessionValue<K, D> | undefined {
    const value = this.get(key)
    this.remove(key)
    return value
  }

  /** Removes the value at `key`. Removing an absent key is not a change. Removing the user is a logout. */
  remove(key: SessionKey<D>): void {
    this.#state.remove(key)
  }

  has(key: SessionKey<D>): boolean {
    return !isOwnKey(key) && this.#state.data.has(key)
  }

  /** Returns the application's keys, without those of the library. */
  keys(): SessionKey<D>[] {
    return this.#state.data.keys().filter((key) => !isOwnKey(key)) as SessionKey<D>[]
  }

  /**
   * Removes all data, including flash messages and the CSRF secret. The session itself stays, unless it has a user: then
   * this is a logout.
   */
  clear(): void {
    this.#state.clear()
  }

  /**
   * Stores a flash message for a later request. A message that is not read within an hour is dropped.
   * @throws {SessionValueError} if JSON cannot hold the value, or if it does not fit into a visitor's cookie.
   */
  setFlash(key: string, value: JsonValue | object): void {
    const text = serialize(key, value)
    const flash = this.#flash(key)
    // Setting the same message again is not a change, so that reloading a page does not cause a write each time.
    const isSame = flash !== undefined && JSON.stringify(flash) === text
    if (!isSame && !this.#state.setOwn(FLASH_PREFIX + key, expiring(value))) throw tooLarge(key)
  }

  /** Returns the flash message at `key` and removes it, except on HEAD and prefetch. `undefined` if there is none. */
  getFlash(key: string): JsonValue | undefined {
    const flash = this.#flash(key)
    this.#use(FLASH_PREFIX + key)
    return flash
  }

  /** Returns the flash message at `key` without removing it, or `undefined` if there is none. */
  peekFlash(key: string): JsonValue | undefined {
    return this.#flash(key)
  }

  /**
   * Logs the user in: sets the user (at the plugin's `userKey`), gives the session a new token and id, removes the CSRF
   * secret and starts `maxAge` and `idleTimeout`. The data stays, unless it belongs to another user. Values that this
   * request sets stay. The options choose what stays of the data, and how long this session lives ("remember me").
   * @param userId a non-empty string or a finite number.
   * @throws {SessionValueError} if the user id is neither.
   * @throws {SessionOptionError} if an option is unknown or wrong.
   * @throws {SessionStoreError} if the session could not be loaded (`onStoreError: 'anonymous'`).
   */
  login(userId: string | number, options: LoginOptions = {}): void {
    this.#state.login(userId, options)
  }

  /**
   * Gives the session a new token and id, and removes the CSRF secret. Call this method when the rights of the user
   * change. `maxAge` and `idleTimeout` go on. When the session is saved, its record moves to the new id in one step, and
   * the old id stops working.
   * @param keep the only keys whose loaded values stay. If the user is not among them, the session becomes anonymous.
   * Without `keep`, all data stays. If only a callback is given, no data stays, as in express-session. Values that this
   * request sets always stay. A callback runs before this method returns, with the error if there is one.
   * @throws {SessionOptionError} if `keep` is not a list of keys, or the callback is not a function.
   */
  regenerate(keep?: readonly string[], callback?: SessionCallback): void
  regenerate(callback: SessionCallback): void
  regenerate(keep?: readonly string[] | SessionCallback, callback?: SessionCallback): void {
    if (typeof keep === 'function') return this.regenerate([], keep)
    checkKeep(keep)
    checkCallback('regenerate', callback)
    runWith(callback, () => this.#state.rotate(keep))
  }

  /**
   * Returns the page that `requireAuth` has redirected to the login within the last hour, and forgets it. It is a path
   * of this origin. Returns `fallback` (default: `'/'`) if there is none.
   */
  takeReturnTo(fallback = '/'): string {
    const path = pageToReturnTo(this.#state)
    this.#use(RETURN_KEY)
    return path ?? fallback
  }

  /**
   * Ends the session: deletes its record and clears its cookie, regardless of the reply's status. Values that are set
   * afterwards are saved in a new session with a new id.
   * @throws {SessionStoreError} if the session could not be loaded (`onStoreError: 'anonymous'`) and cannot be ended.
   */
  invalidate(): void {
    this.#state.end()
  }

  /**
   * Drops everything that this request has changed in the session, for example in an error handler that redirects. Only
   * `invalidate()` and a logout hold. Without this call, the changes are dropped only if the reply is a 5xx.
   * @throws {SessionUsageError} `SESSION_COMMITTED` if the session has been saved.
   */
  rollback(): void {
    this.#state.rollback()
  }

  /**
   * Saves the session now. Call it for a hijacked reply, a WebSocket or a stream. Later changes throw an error.
   * With a callback, calls it afterwards, with the error if there is one.
   * @throws {SessionUsageError} `SESSION_HEADERS_SENT` if a cookie is needed but the headers have already been sent.
   */
  save(): Promise<void>
  save(callback: SessionCallback): void
  save(callback?: SessionCallback): Promise<void> {
    checkCallback('save', callback)
    const saved = this.#saver.save()
    return callback === undefined ? saved : saved.then(() => callback(), callback)
  }

  /**
   * The same as `invalidate()`, for code from @fastify/session and express-session. A callback runs before this method
   * returns, with the error if there is one. The promise is already resolved.
   */
  destroy(): Promise<void>
  destroy(callback: SessionCallback): void
  destroy(callback?: SessionCallback): Promise<void> {
    checkCallback('destroy', callback)
    runWith(callback, () => this.invalidate())
    return Promise.resolve()
  }

  /**
   * The same as `invalidate()`, for code from @fastify/secure-session. To remove a value, use `remove(key)`.
   * @throws {SessionUsageError} if it is called with a key, as the method of a Map is.
   */
  delete(): void
  delete(...keys: unknown[]): void {
    if (keys.length > 0) throw new SessionUsageError('SESSION_PROPERTY_UNKNOWN', DELETES_NO_KEY)
    this.invalidate()
  }

  /** The same as `id`, for code from @fastify/session. It is a hash, and not what the cookie holds. */
  get sessionId(): string {
    return this.id
  }

  /** The same as `modified`, for code from @fastify/session. */
  isModified(): boolean {
    return this.modified
  }

  /** True if the store has the session and there is nothing to write, for code from @fastify/session. */
  isSaved(): boolean {
    return !this.isNew && !this.modified
  }

  #flash(key: string): JsonValue | undefined {
    checkKey(key)
    return unexpired(this.#state.own(FLASH_PREFIX + key))
  }

  #use(key: string): void {
    if (!this.#state.request.isPassive()) this.#state.setOwn(key, undefined)
  }
}

/**
 * Makes an assignment to an unknown property of a session throw an error, because it would be lost. Reading a property
 * that another library's session has throws an error too. This object is at the end of the prototype chain, so that
 * reading and calling the known members does not become slower.
 */
const strict = new Proxy(Object.prototype, {
  get(target, property, session) {
    refuseReplaced(property)
    return Reflect.get(target, property, session) as unknown
  },
  set(_target, property) {
    refuseReplaced(property)
    throw new SessionUsageError(
      'SESSION_PROPERTY_UNKNOWN',
      `session.${String(property)} cannot be assigned: write session.set(${JSON.stringify(String(property))}, value), ` +
        "or set the plugin's option properties to true"
    )
  }
})
Object.setPrototypeOf(Session.prototype, strict)
