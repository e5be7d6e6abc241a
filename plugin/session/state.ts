import { idOfToken, type Tokens } from '../cookies/tokens.js'
import { SessionStoreError, SessionUsageError, SessionValueError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import type { SessionRecord } from '../types.js'
import { Changes } from './changes.js'
import { expiryOf } from './lifetime.js'
import { CSRF_KEY, plan, type FoundSession, type Plan } from './plan.js'
import { isOwnKey, userIdOf } from './record.js'

/** The options and tokens that all sessions of one plugin share. */
export interface SessionContext {
  readonly options: ResolvedOptions
  readonly tokens: Tokens
}

/**
 * Determines whether changes to a session are saved. In `detached` mode they are not, because the browser may have a
 * session that could not be loaded. In `unloaded` mode, the plugin's `onRequest` hook has not run yet.
 */
export type SessionMode = 'open' | 'readonly' | 'detached' | 'unloaded'

/** A session during one request: the loaded record, the changes and the ids. Handlers access it through `Session`. */
export class SessionState {
  readonly #context: SessionContext
  readonly #mode: SessionMode
  #found: FoundSession | undefined
  #endedId: string | undefined
  #changes: Changes
  #createdAt: number
  #rotated = false
  #token: string | undefined
  #id: string | undefined
  /** True after the session has been saved. A request saves its session at most once. */
  committed = false

  constructor(context: SessionContext, mode: SessionMode, found?: FoundSession) {
    this.#context = context
    this.#mode = mode
    this.#found = found
    this.#token = found?.token
    this.#id = found?.id
    this.#createdAt = found === undefined ? Date.now() : found.record.createdAt
    this.#changes = new Changes(this, context.options.problemOf, found?.record.data)
  }

  get id(): string {
    return (this.#id ??= idOfToken(this.#secretToken()))
  }

  /** The stored id, or `undefined` for a new session. `regenerate()` does not change it until the session is saved. */
  get storedId(): string | undefined {
    return this.committed ? this.id : this.#found?.id
  }

  get createdAt(): number {
    return this.#createdAt
  }

  get lastAccessed(): number {
    return this.#found === undefined || this.#rotated ? this.#createdAt : this.#found.record.lastAccessed
  }

  get expiresAt(): number {
    const expiry = expiryOf(this.#context.options, this.#createdAt, this.lastAccessed)
    return this.#found === undefined || this.#rotated
      ? expiry
      : Math.min(expiry, this.#found.record.expiresAt)
  }

  get isNew(): boolean {
    return this.#found === undefined
  }

  get modified(): boolean {
    return this.#endedId !== undefined || this.#rotated || this.#changes.difference() !== undefined
  }

  get data(): Pick<Changes, 'value' | 'has' | 'keys'> {
    return this.#changes
  }

  get csrfSecret(): unknown {
    return this.#changes.value(CSRF_KEY)
  }

  setCsrfSecret(secret: string): void {
    this.change().set(CSRF_KEY, secret)
  }

  /**
   * Checks that a change is allowed and returns the session data. Call this method before every change.
   * @throws {SessionUsageError} if the session cannot be changed.
   * @throws {SessionValueError} if the application is not allowed to write one of the `keys`.
   */
  change(...keys: readonly string[]): Changes {
    const refusal = this.committed ? COMMITTED : REFUSALS[this.#mode]
    if (refusal !== undefined) throw new SessionUsageError(...refusal)
    // `undefined` is a wrong key, and not the same as no key.
    const own = keys.find((key) => isOwnKey(key))
    if (own !== undefined) throw new SessionValueError(own, 'begins with "$", which is reserved')
    return this.#changes
  }

  /** @throws {SessionValueError} if `value` is not allowed at `key`. */
  check(key: string, value: unknown): void {
    const { userKey, problemOf } = this.#context.options
    const problem = problemOf(key, value)
    if (problem !== undefined) throw new SessionValueError(key, problem)
    if (key !== userKey || value === null || userIdOf(value) !== null) return
    throw new SessionValueError(
      key,
      'says whose session it is, so it must be a non-empty string, a finite number or null'
    )
  }

  rotate(): void {
    this.change().remove(CSRF_KEY)
    this.#renew()
    this.#rotated = this.#found !== undefined
  }

  end(): void {
    this.change()
    if (this.#mode === 'detached')
      throw new SessionStoreError(new Error('A session that could not be loaded cannot be ended'))
    this.#endedId ??= this.#found?.id
    this.#found = undefined
    this.#rotated = false
    this.#changes = new Changes(this, this.#context.options.problemOf)
    this.#renew()
  }

  /** Applies the request's changes to a record that is newer than the loaded one. */
  rebase(record: SessionRecord): void {
    this.#found = { ...(this.#found as FoundSession), record }
    this.#changes.rebase(record.data, this.#rotated)
  }

  /** Returns the write that this request needs, or `undefined`. `failed` is true if the reply is a 5xx. */
  plan(now: number, failed: boolean): Plan | undefined {
    if (this.#mode !== 'open') return undefined
    const found = this.#found
    const difference = this.#changes.difference(this.#rotated)
    if (found === undefined && difference === undefined && this.#endedId === undefined) return undefined
    const outcome = {
      options: this.#context.options,
      found,
      ended: this.#endedId,
      rotated: this.#rotated,
      createdAt: this.#createdAt,
      difference,
      userId: difference === undefined ? null : this.#userId(),
      failed
    }
    // A token is generated only when it is first needed, because most visitors never need one.
    const isSame = found !== undefined && !this.#rotated
    return plan(outcome, now, isSame ? found : { token: this.#secretToken(), id: this.id })
  }

  /** Returns true if an object was changed in place after the session was saved. Reports each change only once. */
  mutatedAfterCommit(): boolean {
    return this.committed && this.#mode === 'open' && this.#changes.mutatedAfterCommit()
  }

  #userId(): string | null {
    return userIdOf(this.#changes.value(this.#context.options.userKey))
  }

  #renew(): void {
    this.#token = undefined
    this.#id = undefined
    this.#createdAt = Date.now()
  }

  #secretToken(): string {
    const { tokens, options } = this.#context
    return (this.#token ??= tokens.mint(this.#found?.id.slice(0, options.store.rotationPrefix ?? 0)))
  }
}

type Refusal = ConstructorParameters<typeof SessionUsageError>

const COMMITTED: Refusal = [
  'SESSION_COMMITTED',
  'The session was already saved: change it before save() and before the reply'
]

const REFUSALS: Partial<Record<SessionMode, Refusal>> = {
  readonly: [
    'SESSION_READONLY',
    "This route has config { session: 'readonly' }: its session cannot be changed"
  ],
  unloaded: [
    'SESSION_NOT_LOADED',
    'The session is not loaded yet: change it after the onRequest hook of fastify-sesame'
  ]
}
