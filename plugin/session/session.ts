import type { JsonValue, SessionData, SessionInput, SessionKey, SessionValue } from '../types.js'
import type { Updater } from './changes.js'
import { checkKey, isOwnKey } from './record.js'
import { serialize } from './serialize.js'
import type { SessionState } from './state.js'

const FLASH_PREFIX = '$flash.'
/** The lifetime of a flash message: one hour, in milliseconds. An older message would only confuse the user. */
const FLASH_LIFETIME = 3_600_000

interface Flash {
  readonly value: JsonValue
  readonly at: number
}

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
    return session.#state
  }

  /** The SHA-256 hash of the token, as 64 hex digits. It is safe to print, because it cannot be used as a cookie. */
  get id(): string {
    return this.#state.id
  }

  /** When the session was created or last regenerated, in milliseconds since the epoch. */
  get createdAt(): number {
    return this.#state.createdAt
  }

  /** When the session was last written or extended before this request, in milliseconds since the epoch. */
  get lastAccessed(): number {
    return this.#state.lastAccessed
  }

  /** When the session ends, in milliseconds since the epoch. An extension by this request is not included yet. */
  get expiresAt(): number {
    return this.#state.expiresAt
  }

  /** True if the store does not have this session yet. */
  get isNew(): boolean {
    return this.#state.isNew
  }

  /** True if there is something to write: changed data (even if changed in place), a new id, or the session's end. */
  get modified(): boolean {
    return this.#state.modified
  }

  /** Returns the value at `key`, or `undefined`. If you change a returned object, the change is saved too. */
  get<K extends SessionKey<D>>(key: K): SessionValue<K, D> | undefined {
    return (isOwnKey(key) ? undefined : this.#state.data.value(key)) as SessionValue<K, D> | undefined
  }

  /**
   * Sets the value at `key`. A value equal to the current one causes no write, unless the request calls `regenerate()`.
   * @throws {SessionValueError} if JSON cannot hold the value, the schema refuses it, or the key begins with `$`.
   */
  set<K extends SessionKey<D>>(key: K, value: SessionInput<K, D>): void {
    const changes = this.#state.change(key)
    this.#state.check(key, value)
    changes.set(key, value)
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
    this.#state.change(key).update(key, (current) => {
      const value = (fn as Updater)(current)
      this.#state.check(key, value)
      return value
    })
  }

  /** Removes the value at `key`. Removing an absent key is not a change. */
  remove(key: SessionKey<D>): void {
    this.#state.change(key).remove(key)
  }

  has(key: SessionKey<D>): boolean {
    return !isOwnKey(key) && this.#state.data.has(key)
  }

  /** Returns the application's keys, without flash messages and the CSRF secret. */
  keys(): SessionKey<D>[] {
    return this.#state.data.keys().filter((key) => !isOwnKey(key)) as SessionKey<D>[]
  }

  /** Removes all data, including flash messages and the CSRF secret. The session itself stays. */
  clear(): void {
    this.#state.change().clear()
  }

  /**
   * Stores a flash message for a later request. A message that is not read within an hour is dropped.
   * @throws {SessionValueError} if JSON cannot hold the value.
   */
  setFlash(key: string, value: JsonValue | object): void {
    const changes = this.#state.change()
    const text = serialize(key, value)
    const flash = this.#flash(key)
    // Setting the same message again is not a change, so that reloading a page does not cause a write each time.
    if (flash !== undefined && JSON.stringify(flash.value) === text) return
    changes.set(FLASH_PREFIX + key, { value, at: Date.now() })
  }

  /** Returns the flash message at `key` and removes it. Returns `undefined` if there is none. */
  getFlash(key: string): JsonValue | undefined {
    const changes = this.#state.change()
    const flash = this.#flash(key)
    changes.remove(FLASH_PREFIX + key)
    return flash?.value
  }

  /** Returns the flash message at `key` without removing it, or `undefined` if there is none. */
  peekFlash(key: string): JsonValue | undefined {
    return this.#flash(key)?.value
  }

  /**
   * Gives the session a new token and id. Call this method at every login and whenever the user's rights change. The
   * data stays, but the CSRF secret is removed. The periods `maxAge` and `idleTimeout` start again. When the session is
   * saved, its record moves to the new id in one step, and the old id stops working.
   */
  regenerate(): void {
    this.#state.rotate()
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
   * Saves the session now. Call it for a hijacked reply, a WebSocket or a stream. Later changes throw an error.
   * @throws {SessionUsageError} `SESSION_HEADERS_SENT` if a cookie is needed but the headers have already been sent.
   */
  async save(): Promise<void> {
    await this.#saver.save()
  }

  #flash(key: string): Flash | undefined {
    checkKey(key)
    const flash = this.#state.data.value(FLASH_PREFIX + key) as Partial<Flash> | undefined
    return typeof flash?.at === 'number' && Date.now() - flash.at < FLASH_LIFETIME
      ? (flash as Flash)
      : undefined
  }
}
