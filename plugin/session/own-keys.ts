import type { Changes, Texts } from './changes.js'
import { CSRF_KEY, isOwnKey } from './record.js'
import { serialize } from './serialize.js'
import type { VisitorData, Visitors } from './visitor.js'

/** The facts about a session that its own keys need. */
export interface OwnKeysSession {
  /** True if there is no stored session, so that the values are in the visitor cookie. */
  readonly isVisitor: boolean
  /** The data of the session, with the changes of this request. */
  readonly changes: Changes
  /** Returns the values of the visitor cookies that the request carries. */
  visitorCookies(): readonly string[]
}

/**
 * The library's own values: the CSRF secret, flash messages and the return path. They are in the record of a stored
 * session, and in the visitor cookie otherwise. The cookie is decrypted when one of them is first needed.
 */
export class OwnKeys {
  readonly #visitors: Visitors
  readonly #session: OwnKeysSession
  /** `undefined` until the cookie is decrypted, `null` if there is none. */
  #visitor: VisitorData | null | undefined
  #isOpen = false
  /** True if the visitor cookie must be sent even if its values have not changed. */
  isDue = false

  constructor(visitors: Visitors, session: OwnKeysSession) {
    this.#visitors = visitors
    this.#session = session
  }

  /** Loads the values of a visitor. */
  open(): void {
    if (this.#isOpen || !this.#session.isVisitor) return
    this.#isOpen = true
    const visitor = this.#read()
    if (visitor !== undefined) this.#session.changes.load(visitor.texts)
  }

  value(key: string): unknown {
    this.open()
    return this.#session.changes.value(key)
  }

  /** Sets a value, or removes it if it is `undefined`. Returns false if it does not fit into the visitor cookie. */
  set(key: string, value: unknown): boolean {
    this.open()
    const { changes } = this.#session
    if (value === undefined) changes.remove(key)
    else if (this.#fits(key, value)) changes.set(key, value)
    else return false
    return true
  }

  /** Sends the visitor cookie again if it is old, so that a form that is printed now works for long enough. */
  refresh(): void {
    if (!this.#session.isVisitor) return
    const visitor = this.#read()
    this.isDue ||= visitor !== undefined && this.#visitors.isAging(visitor)
  }

  /** Forgets the values of the session that the request leaves. A visitor's cookie must be cleared then. */
  leave(): void {
    this.isDue ||= this.#session.isVisitor && this.#session.visitorCookies().length > 0
    this.#isOpen = true
  }

  /**
   * Returns the CSRF secret of a visitor cookie that came together with a stored session: SameSite withheld the session
   * cookie when the form was requested. A secret that is not newer than `since` (in milliseconds since the epoch) does not count.
   */
  secretBesideSession(since: number): unknown {
    const visitor = this.#session.isVisitor ? undefined : this.#read()
    return visitor === undefined || visitor.secretAt <= since ? undefined : valueIn(visitor.texts, CSRF_KEY)
  }

  /** Moves the values of such a cookie into the session at a login. The login removes the CSRF secret. */
  takeOver(): void {
    const { changes, isVisitor } = this.#session
    const texts = isVisitor ? {} : (this.#read()?.texts ?? {})
    for (const key of Object.keys(texts)) if (!changes.isChanged(key)) changes.set(key, valueIn(texts, key))
  }

  /** Returns the value of a visitor cookie with `texts`. */
  seal(texts: Texts): string {
    return this.#visitors.seal(texts, this.#read())
  }

  #read(): VisitorData | undefined {
    this.#visitor ??= this.#visitors.open(this.#session.visitorCookies()) ?? null
    return this.#visitor ?? undefined
  }

  #fits(key: string, value: unknown): boolean {
    if (!this.#session.isVisitor) return true
    const texts = { ...this.#session.changes.result(), [key]: serialize(key, value) }
    return !Object.keys(texts).every(isOwnKey) || this.#visitors.fits(texts)
  }
}

function valueIn(texts: Texts, key: string): unknown {
  return Object.hasOwn(texts, key) ? (JSON.parse(texts[key] as string) as unknown) : undefined
}
