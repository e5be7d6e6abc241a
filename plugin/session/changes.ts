import { SessionValueError } from '../errors.js'
import type { ProblemOf } from '../options/schema.js'
import { isOwnKey, LIFETIME_KEY } from './record.js'
import { deserialize, reportInvalidValue, reserialize, serialize, serializeValue } from './serialize.js'

export type Updater = (current: unknown) => unknown

interface Change {
  /** The new value as JSON text, or `undefined` if the key is removed. */
  readonly text: string | undefined
  /** The `update` functions to run again on a newer record. Absent if the value does not depend on the stored one. */
  readonly updaters?: readonly Updater[]
  /** True if the value was made from the loaded one, by `update` or by a change in place. */
  readonly derived?: boolean
}

/** The difference between the loaded data and the data at the end of the request. */
export interface Difference {
  readonly set: Readonly<Record<string, string>>
  readonly remove: readonly string[]
  readonly clear: boolean
  /** True if the new values depend on stored ones. The write must fail if the version has changed since the load. */
  readonly versioned: boolean
  /** True if the request itself gave a key a new value. */
  readonly sets: { readonly data: boolean; readonly own: boolean }
}

export type Texts = Readonly<Record<string, string>>

/** Returns an object without a prototype, so that `__proto__` is an ordinary key. */
export function emptyTexts(): Record<string, string> {
  return Object.create(null) as Record<string, string>
}

const NOTHING: Texts = Object.freeze(emptyTexts())

/**
 * The session data during one request: the loaded values as JSON text, and the changes to them. A value is parsed when
 * it is read. Returned objects are kept to detect whether the application changes them in place.
 */
export class Changes {
  #base: Texts
  #cleared = false
  /** Decides which loaded values stay. `undefined` keeps all of them. */
  #keeps: ((key: string) => boolean) | undefined
  #changes: Map<string, Change> | undefined
  /** The objects that `value` has returned or that the application has set, by key. */
  #objects: Map<string, object> | undefined
  readonly #session: { readonly id: string }
  readonly #problemOf: ProblemOf

  /** Reports of invalid values contain the id of `session`. A value that `problemOf` refuses is treated as absent. */
  constructor(session: { readonly id: string }, problemOf: ProblemOf, base: Texts = NOTHING) {
    this.#session = session
    this.#problemOf = problemOf
    this.#base = base
  }

  value(key: string): unknown {
    const object = this.#objects?.get(key)
    if (object !== undefined) return object
    const value = this.#parse(key, this.#text(key))
    if (typeof value === 'object' && value !== null) this.#keep(key, value)
    return value
  }

  has(key: string): boolean {
    return this.value(key) !== undefined
  }

  keys(): string[] {
    const keys = new Set([...Object.keys(this.#base), ...(this.#changes?.keys() ?? [])])
    return [...keys].filter((key) => this.has(key))
  }

  set(key: string, value: unknown): void {
    const { text, kept } = prepare(key, value)
    this.#put(key, kept, { text })
  }

  /** Sets `key` to the result of `updater`. `rebase` runs `updater` again on a newer stored value. */
  update(key: string, updater: Updater): void {
    this.#recordMutation(key)
    const { kept, text } = this.#run(key, updater)
    const change = this.#changes?.get(key)
    const dependsOnStored = this.#survives(key) && (change === undefined || change.updaters !== undefined)
    const updaters = [...(change?.updaters ?? []), updater]
    const derived = change === undefined ? this.#baseText(key) !== undefined : change.derived === true
    this.#put(key, kept, dependsOnStored ? { text, updaters, derived } : { text, derived })
  }

  remove(key: string): void {
    this.#objects?.delete(key)
    if (this.#text(key) !== undefined) this.#mark(key, { text: undefined })
  }

  /** Removes all keys, except for the session's lifetime. Clearing an empty session is not a change. */
  clear(): void {
    this.#objects = undefined
    this.#changes = undefined
    this.#cleared ||= Object.keys(this.#base).some((key) => key !== LIFETIME_KEY)
  }

  /** Uses `base` as the loaded values. Changes that were made before stay. */
  load(base: Texts): void {
    this.#base = base
  }

  /**
   * Keeps only the loaded values at the keys that `keeps` accepts, instead of those that an earlier call kept. Values
   * that the request has set stay. Values that it made from a loaded value that goes are dropped.
   */
  keepOnly(keeps: ((key: string) => boolean) | undefined): void {
    this.#keeps = keeps
    if (keeps !== undefined) this.#drop((key) => Object.hasOwn(this.#base, key) && !keeps(key))
  }

  /** Forgets the loaded values and all that was made from them. Values that the request has set stay. */
  forget(): void {
    this.#recordMutations()
    this.#drop((key) => Object.hasOwn(this.#base, key))
    for (const [key, { text }] of this.#changes ?? []) {
      if (text === undefined) this.#changes?.delete(key)
      else this.#mark(key, { text })
    }
    this.#base = NOTHING
    this.#cleared = false
    this.#keeps = undefined
  }

  /**
   * Returns the changes to write, or `undefined` if nothing has changed. If `all` is true, a value that was set is
   * written even if it equals the loaded value, because another request may have changed the stored one.
   */
  difference(all = false): Difference | undefined {
    this.#recordMutations()
    const clear = this.#cleared || this.#keeps !== undefined
    if (this.#changes === undefined && !clear) return undefined
    const changed = this.#changed(all)
    if (changed.length === 0 && !clear) return undefined
    const set = clear ? this.#kept() : emptyTexts()
    apply(changed, set)
    const remove = changed.flatMap(([key, { text }]) => (text === undefined && !clear ? [key] : []))
    const versioned = this.#keeps !== undefined || changed.some(([, { updaters }]) => updaters !== undefined)
    return { set, remove, clear, versioned, sets: kindsOf(changed) }
  }

  /** Returns all values as they are after the changes, as JSON text. */
  result(): Record<string, string> {
    this.#recordMutations()
    const texts = this.#kept()
    apply(this.#changes ?? [], texts)
    return texts
  }

  /** Returns an upper bound for the bytes of all keys and texts. It is cheap, so most sessions are not measured exactly. */
  sizeAtMost(): number {
    let characters = 0
    // A store may have returned a value that is not text.
    for (const key in this.#base) characters += key.length + (this.#base[key]?.length ?? 0)
    for (const [key, { text = '' }] of this.#changes ?? []) characters += key.length + text.length
    // A character of a string has at most three bytes of UTF-8.
    return characters * 3
  }

  /** Returns the JSON text at `key` after the changes, or `undefined`. */
  text(key: string): string | undefined {
    return this.#text(key)
  }

  /** Returns true if the request has set or removed the value at `key`. */
  isChanged(key: string): boolean {
    return this.#changes?.has(key) === true
  }

  #changed(all: boolean): [string, Change][] {
    const changes = [...(this.#changes ?? [])]
    return all ? changes : changes.filter(([key, { text }]) => text !== this.#baseText(key))
  }

  /**
   * Applies the changes to newer data. Values that were set are set again, and `update` functions run again. `all` has
   * the same meaning as in `difference`.
   */
  rebase(base: Texts, all = false): void {
    const before = [...(this.#changes ?? [])].map(([key, change]) => ({
      key,
      change,
      unchanged: change.text === this.#baseText(key)
    }))
    this.#base = base
    this.#objects = undefined
    for (const { key, change, unchanged } of before) {
      if (change.updaters || (unchanged && !all)) this.#changes?.delete(key)
      for (const updater of change.updaters ?? []) this.update(key, updater)
    }
  }

  /** Returns true if an object was changed in place after `difference()` ran. Reports each change only once. */
  mutatedAfterCommit(): boolean {
    const objects = [...(this.#objects ?? [])]
    this.#objects = undefined
    return objects.some(([key, value]) => isMutated(key, value, this.#text(key)))
  }

  #run(key: string, updater: Updater): Prepared {
    try {
      return prepare(key, updater(this.value(key)))
    } catch (error) {
      // Discard the in-place changes made by an updater that threw, because a retry could not repeat them.
      if (this.#isMutatedInPlace(key)) this.#objects?.delete(key)
      throw error
    }
  }

  #isMutatedInPlace(key: string): boolean {
    const object = this.#objects?.get(key)
    try {
      return object !== undefined && isMutated(key, object, this.#text(key))
    } catch {
      return true
    }
  }

  #put(key: string, kept: object | undefined, change: Change): void {
    if (kept === undefined) this.#objects?.delete(key)
    else this.#keep(key, kept)
    this.#mark(key, change)
  }

  #mark(key: string, change: Change): void {
    this.#changes ??= new Map()
    this.#changes.set(key, change)
  }

  #keep(key: string, value: object): void {
    this.#objects ??= new Map()
    this.#objects.set(key, value)
  }

  #recordMutations(): void {
    if (this.#objects !== undefined) for (const key of this.#objects.keys()) this.#recordMutation(key)
  }

  #recordMutation(key: string): void {
    const object = this.#objects?.get(key)
    if (object === undefined || !isMutated(key, object, this.#text(key))) return
    const problem = this.#problemOf(key, object)
    if (problem !== undefined) throw new SessionValueError(key, problem)
    const change = this.#changes?.get(key)
    this.#mark(key, {
      text: serialize(key, object),
      derived: change === undefined || change.derived === true
    })
  }

  /** Drops the values at the keys that `goes` accepts, unless the request has set them. */
  #drop(goes: (key: string) => boolean): void {
    const isSet = (key: string): boolean => {
      const change = this.#changes?.get(key)
      return change !== undefined && change.derived !== true
    }
    const dropFrom = (map: Map<string, unknown> = new Map()): void => {
      for (const key of map.keys()) if (goes(key) && !isSet(key)) map.delete(key)
    }
    dropFrom(this.#objects)
    dropFrom(this.#changes)
  }

  #survives(key: string): boolean {
    return (!this.#cleared || key === LIFETIME_KEY) && (this.#keeps?.(key) ?? true)
  }

  /** Returns the loaded values that stay. */
  #kept(): Record<string, string> {
    const texts = emptyTexts()
    for (const key of Object.keys(this.#base)) {
      if (this.#survives(key)) texts[key] = this.#base[key] as string
    }
    return texts
  }

  #text(key: string): string | undefined {
    const change = this.#changes?.get(key)
    return change === undefined ? this.#baseText(key) : change.text
  }

  #baseText(key: string): string | undefined {
    return Object.hasOwn(this.#base, key) && this.#survives(key) ? this.#base[key] : undefined
  }

  #parse(key: string, text: string | undefined): unknown {
    if (text === undefined) return undefined
    const value = deserialize(this.#session.id, key, text)
    if (value === undefined || this.#problemOf(key, value) === undefined) return value
    reportInvalidValue(this.#session.id, key, 'schema')
    return undefined
  }
}

interface Prepared {
  readonly text: string
  /** The value, if it is an object that `get` can return. */
  readonly kept: object | undefined
}

/** An object is not kept if it contains one with a `toJSON` method, such as a Date: `get` has to return its JSON form. */
function prepare(key: string, value: unknown): Prepared {
  const { text, isReplaced } = serializeValue(key, value)
  return { text, kept: typeof value === 'object' && value !== null && !isReplaced ? value : undefined }
}

function apply(changes: Iterable<[string, Change]>, texts: Record<string, string>): void {
  for (const [key, { text }] of changes) {
    if (text === undefined) Reflect.deleteProperty(texts, key)
    else texts[key] = text
  }
}

/** Returns whether the changes set values of the application and of the library. */
function kindsOf(changes: readonly [string, Change][]): Difference['sets'] {
  const kinds = { data: false, own: false }
  for (const [key, { text }] of changes) if (text !== undefined) kinds[isOwnKey(key) ? 'own' : 'data'] = true
  return kinds
}

/** Returns true if the object differs from the stored JSON text. A mere difference in formatting does not count. */
function isMutated(key: string, object: object, text: string | undefined): boolean {
  const current = reserialize(key, object)
  return current !== text && (text === undefined || current !== JSON.stringify(JSON.parse(text)))
}

export function isEmpty(texts: Texts): boolean {
  for (const _ in texts) return false
  return true
}
