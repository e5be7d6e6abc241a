import { idOfToken } from '../cookies/tokens.js'
import { SessionStoreError, SessionValueError } from '../errors.js'
import type { Lifetime } from '../options/resolve.js'
import { ownOptions } from '../own-options.js'
import type { SessionRecord } from '../types.js'
import type { SessionContext, SessionRequest } from './context.js'
import { checkValue } from './check-value.js'
import { Changes, isEmpty, type Difference, type Texts, type Updater } from './changes.js'
import { expiryOf, lifetimeOf, type ChosenLifetime } from './lifetime.js'
import { keepsOf, keysInBoth } from './keep.js'
import { chosenLifetime, type LoginOptions } from './login.js'
import { OwnKeys } from './own-keys.js'
import { plan, type EndedSession, type FoundSession, type Outcome, type Plan } from './plan.js'
import { CSRF_KEY, isOwnKey, LIFETIME_KEY, MOVED_KEY, userIdOf } from './record.js'
import { requireChangeable, requireReadable, type SessionMode } from './refusals.js'
import { checkSize } from './serialize.js'

/** A session during one request: the loaded record, the changes and the ids. Handlers access it through `Session`. */
export class SessionState {
  readonly #context: SessionContext
  readonly #mode: SessionMode
  readonly request: SessionRequest
  #found: FoundSession | undefined
  #ended: EndedSession | undefined
  #changes!: Changes
  #own!: OwnKeys
  #createdAt = Date.now()
  /** True after `regenerate()` or a login. */
  #renewed = false
  /** True if the request sets the user, even to the same one. */
  #setsUser = false
  #signsIn = false
  #keptByRotation: ReadonlySet<string> | undefined
  #keptByLogin: ReadonlySet<string> | undefined
  #token: string | undefined
  #id: string | undefined
  /** True if the store has the session. */
  isStored: boolean
  /** True after the session has been saved. A request saves its session at most once. */
  committed = false
  /** True if the session could not be saved. From then on, the request can only end it. */
  refused = false

  constructor(context: SessionContext, mode: SessionMode, request: SessionRequest, found?: FoundSession) {
    this.#context = context
    this.#mode = mode
    this.request = request
    this.#found = found
    this.isStored = found !== undefined
    this.#restore()
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

  get authenticatedAt(): number | undefined {
    return this.#userId() === null || this.#changes.has(MOVED_KEY) ? undefined : this.#createdAt
  }

  get lastAccessed(): number {
    return this.#begins ? this.#createdAt : (this.#found as FoundSession).record.lastAccessed
  }

  get expiresAt(): number {
    const expiry = expiryOf(this.#lifetime, this.#createdAt, this.lastAccessed)
    return this.#begins ? expiry : Math.min(expiry, (this.#found as FoundSession).record.expiresAt)
  }

  /** True if the request has ended the session that it was loaded with. */
  get hasEnded(): boolean {
    return this.#ended !== undefined
  }

  get modified(): boolean {
    if (this.committed) return false
    const isRotated = this.#renewed && this.#found !== undefined
    return this.hasEnded || isRotated || this.#own.isDue || this.#changes.difference() !== undefined
  }

  /** The data as it is after the changes. @throws {SessionUsageError} if the session cannot be read. */
  get data(): Pick<Changes, 'value' | 'has' | 'keys'> {
    requireReadable(this.#mode)
    return this.#changes
  }

  /** The same as `data`, without the check. */
  get changes(): Changes {
    return this.#changes
  }

  /** True if there is no stored session. On a readonly route, a visitor's cookie can still change. */
  get isVisitor(): boolean {
    return this.#found === undefined && (this.#mode === 'open' || this.#mode === 'readonly')
  }

  visitorCookies(): readonly string[] {
    return this.request.visitorCookies()
  }

  /** Returns the value at one of the library's own keys. */
  own(key: string): unknown {
    requireReadable(this.#mode)
    return this.#own.value(key)
  }

  /** Sets the value at one of the library's own keys. Returns false if it does not fit into a visitor's cookie. */
  setOwn(key: string, value: unknown): boolean {
    requireChangeable(this.isVisitor ? 'open' : this.#mode, this.committed)
    return this.#own.set(key, value)
  }

  /** Keeps the CSRF token of a form that is printed now valid for long enough. */
  refreshVisitor(): void {
    if (!this.committed) this.#own.refresh()
  }

  /** The CSRF secret of a visitor cookie that came together with the session, if it is newer than the login. */
  get secretBesideSession(): unknown {
    return this.#own.secretBesideSession(this.authenticatedAt ?? 0)
  }

  /** Sets a value. `undefined` removes it. Setting another user than before is a login. */
  set(key: string, value: unknown): void {
    if (value === undefined || (value === null && key === this.#userKey)) return this.remove(key)
    const changes = this.#change(key)
    checkValue(this.#context.options, key, value)
    if (key === this.#userKey) this.#setUser(value)
    else changes.set(key, value)
  }

  update(key: string, fn: Updater): void {
    const changes = this.#change(key)
    if (key === this.#userKey) return this.set(key, fn(changes.value(key)))
    changes.update(key, (current) => {
      const value = fn(current)
      checkValue(this.#context.options, key, value)
      return value
    })
  }

  /** Removes a value. Removing the user is a logout. */
  remove(key: string): void {
    const changes = this.#change(key)
    if (key === this.#userKey) this.#removeUser()
    else changes.remove(key)
  }

  clear(): void {
    const changes = this.#change()
    this.#requireLoaded()
    if (this.#userBefore !== null) return this.end()
    this.#own.open()
    changes.clear()
    this.#undoLogin()
  }

  login(userId: string | number, given: LoginOptions): void {
    const options = ownOptions(given)
    const changes = this.#change(this.#userKey)
    checkValue(this.#context.options, this.#userKey, userId)
    const lifetime = chosenLifetime(this.#context.options, options)
    this.#requireLoaded()
    changes.set(this.#userKey, userId)
    this.#keptByLogin = keysInBoth(this.#keptByLogin, options.keep)
    this.#startLogin(lifetime)
  }

  /** Gives the session a new id. `keep` names the loaded values that stay. By default, all of them stay. */
  rotate(keep?: readonly string[]): void {
    const changes = this.#change()
    this.#keptByRotation = keysInBoth(this.#keptByRotation, keep)
    this.#own.open()
    changes.remove(CSRF_KEY)
    this.#renew()
    if (this.#setsUser && !this.#signsIn) this.#startLogin()
    else this.#filter()
  }

  /** Ends the session. Nothing that the request has set before stays. */
  end(): void {
    this.#change()
    this.#requireLoaded()
    this.#leave(new Changes(this, this.#context.options.problemOf))
  }

  /** Drops what the request has changed, except for an end. On a route whose session cannot change, does nothing. */
  rollback(): void {
    if (this.committed) requireChangeable(this.#mode, true)
    if (this.hasEnded) this.#leave(new Changes(this, this.#context.options.problemOf))
    else this.#restore()
  }

  /** Applies the request's changes to a record that is newer than the loaded one. */
  rebase(record: SessionRecord): void {
    this.#found = { ...(this.#found as FoundSession), record }
    this.#changes.rebase(record.data, this.#renewed)
    this.#filter()
  }

  /** Prepares a login whose session is gone for a new session, without anything of the old record. */
  startOver(): void {
    this.#own.leave()
    this.#found = undefined
    this.#changes.forget()
  }

  /** Makes a login the newest of its user's logins, even if the clock of this server is behind. */
  signInAfter(time: number): void {
    this.#createdAt = Math.max(this.#createdAt, time + 1)
  }

  /**
   * Returns the write that this request needs, or `undefined`. `failed` is true if the reply is a 5xx.
   * @throws {SessionSizeError} if the session would be larger than `maxSize`.
   */
  plan(now: number, failed: boolean): Plan | undefined {
    const found = this.#found
    if (found === undefined ? !this.isVisitor : this.#mode !== 'open') return undefined
    const difference = failed ? undefined : this.#changes.difference(found !== undefined && this.#renewed)
    const isUnchanged = difference === undefined && !this.hasEnded && !this.#own.isDue
    if (found === undefined && isUnchanged) return undefined
    return plan(this.#outcome(difference, failed), now, () =>
      found === undefined || this.#renewed ? { token: this.#secretToken(), id: this.id } : found
    )
  }

  /** Returns the value of a visitor cookie with `texts`. */
  sealVisitor(texts: Texts): string {
    return this.#own.seal(texts)
  }

  /** Returns true if an object was changed in place after the session was saved. Reports each change only once. */
  mutatedAfterCommit(): boolean {
    return this.committed && this.#mode === 'open' && this.#changes.mutatedAfterCommit()
  }

  /** Goes back to the session as it was loaded. */
  #restore(): void {
    const { options, visitors } = this.#context
    this.#changes = new Changes(this, options.problemOf, this.#found?.record.data)
    this.#own = new OwnKeys(visitors, this)
    this.#forgetSteps()
    if (this.#found === undefined) return
    const { token, id, record } = this.#found
    this.#token = token
    this.#id = id
    this.#createdAt = record.createdAt
  }

  #forgetSteps(): void {
    this.#renewed = this.#setsUser = this.#signsIn = false
    this.#keptByRotation = this.#keptByLogin = undefined
  }

  get #userKey(): string {
    return this.#context.options.userKey
  }

  /** The user of the loaded record, or `null`. */
  get #userBefore(): string | null {
    return this.#found?.record.userId ?? null
  }

  get #lifetime(): Lifetime {
    return lifetimeOf(this.#context.options, this.#changes.text(LIFETIME_KEY))
  }

  /** True if the session begins with this request. */
  get #begins(): boolean {
    return this.#found === undefined || this.#signsIn
  }

  #outcome(difference: Difference | undefined, failed: boolean): Outcome {
    const { options } = this.#context
    this.#own.open()
    const isChanged = difference !== undefined
    const data = this.#found === undefined ? this.#changes.result() : undefined
    if (isChanged && !isEmpty(difference.set) && this.#changes.sizeAtMost() > options.maxSize)
      checkSize(this.#changes.result(), options.maxSize)
    return {
      lifetime: this.#lifetime,
      userKey: options.userKey,
      found: this.#found,
      ended: this.#ended,
      rotated: this.#renewed && this.#found !== undefined,
      signsIn: this.#signsIn,
      createdAt: this.#createdAt,
      difference,
      visitorDue: this.#own.isDue,
      data,
      userId: isChanged ? this.#userId() : null,
      failed
    }
  }

  /** Checks that a change is allowed, and returns the session data. Call this method before every change. */
  #change(...keys: readonly string[]): Changes {
    requireChangeable(this.#mode, this.committed)
    // `undefined` is a wrong key, and not the same as no key.
    const own = keys.find(isOwnKey)
    if (own !== undefined) throw new SessionValueError(own, 'begins with "$", which is reserved')
    return this.#changes
  }

  /** A login or logout that cannot be written must fail: the browser would keep the session of the user before. */
  #requireLoaded(): void {
    if (this.#mode === 'detached')
      throw new SessionStoreError(new Error('A session that could not be loaded cannot be replaced or ended'))
  }

  #setUser(value: unknown): void {
    const user = String(value)
    const isNow = this.#userId()
    this.#requireLoaded()
    this.#changes.set(this.#userKey, value)
    this.#setsUser = true
    if (this.#signsIn ? user !== isNow : this.#renewed || user !== this.#userBefore) this.#startLogin()
  }

  #startLogin(lifetime?: ChosenLifetime): void {
    this.#signsIn = true
    this.#createdAt = Date.now()
    this.#own.open()
    this.#own.takeOver()
    for (const key of [CSRF_KEY, MOVED_KEY]) this.#changes.remove(key)
    if (lifetime === undefined) this.#changes.remove(LIFETIME_KEY)
    else this.#changes.set(LIFETIME_KEY, lifetime)
    this.#renew()
    this.#filter()
  }

  #removeUser(): void {
    this.#requireLoaded()
    const isSignedIn = this.#userBefore !== null
    if (isSignedIn) this.#changes.forget()
    this.#changes.remove(this.#userKey)
    if (isSignedIn || this.#signsIn) this.#changes.remove(LIFETIME_KEY)
    this.#undoLogin()
    if (!isSignedIn) return
    this.#changes.remove(CSRF_KEY)
    this.#leave(this.#changes)
  }

  #undoLogin(): void {
    this.#setsUser = this.#signsIn = false
    this.#createdAt = this.#found?.record.createdAt ?? this.#createdAt
  }

  /** Leaves the loaded session, which will be destroyed. `changes` go into a new session. */
  #leave(changes: Changes): void {
    if (this.#found !== undefined) this.#ended ??= { id: this.#found.id, userId: this.#userBefore }
    this.#changes = changes
    this.#own.leave()
    this.#found = undefined
    this.isStored = false
    this.#createdAt = Date.now()
    this.#renew()
    this.#forgetSteps()
  }

  /** Hides the loaded values that do not stay. */
  #filter(): void {
    if (this.#found === undefined) return
    const [before, after] = [this.#userBefore, this.#userAfter()]
    const keeps = keepsOf({ before, after, rotation: this.#keptByRotation, login: this.#keptByLogin })
    this.#changes.keepOnly(keeps)
  }

  /** Returns the user after this request. */
  #userAfter(): string | null {
    if (this.#changes.isChanged(this.#userKey)) return this.#userId()
    return this.#keptByRotation?.has(this.#userKey) === false ? null : this.#userBefore
  }

  #userId(): string | null {
    return userIdOf(this.#changes.value(this.#userKey))
  }

  #renew(): void {
    this.#renewed = true
    this.#token = undefined
    this.#id = undefined
  }

  #secretToken(): string {
    const { tokens, options } = this.#context
    return (this.#token ??= tokens.mint(this.#found?.id.slice(0, options.store.rotationPrefix ?? 0)))
  }
}
