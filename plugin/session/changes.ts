import { SessionValueError } from '../errors.js'
import type { ProblemOf } from '../options/schema.js'
import { deserialize, reportInvalidValue, reserialize, serialize } from './serialize.js'

export type Updater = (current: unknown) => unknown

interface Change {
  /** The new value as JSON text, or `undefined` if the key is removed. */
  readonly text: string | undefined
  /** The `update` functions to run again on a newer record. Absent if the value does not depend on the stored one. */
  readonly updaters?: readonly Updater[]
}

/** The difference between the loaded data and the data at the end of the request. */
export interface Difference {
  readonly set: Readonly<Record<string, string>>
  readonly remove: readonly string[]
  readonly clear: boolean
  /** True if an `update` function read the stored value. The write must fail if the version has changed since then. */
  readonly versioned: boolean
}

type Texts = Readonly<Record<string, string>>

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
    const keys = new Set([
      ...(this.#cleared ? [] : Object.keys(this.#base)),
      ...(this.#changes?.keys() ?? [])
    ])
    return [...keys].filter((key) => this.has(key))
  }

  set(key: string, value: unknown): void {
    this.#put(key, value, { text: serialize(key, value) })
  }

  /** Sets `key` to the result of `updater`. `rebase` runs `updater` again on a newer stored value. */
  update(key: string, updater: Updater): void {
    this.#recordMutation(key)
    const { value, text } = this.#run(key, updater)
    const change = this.#changes?.get(key)
    const dependsOnStored = !this.#cleared && (change === undefined || change.updaters !== undefined)
    const updaters = [...(change?.updaters ?? []), updater]
    this.#put(key, value, dependsOnStored ? { text, updaters } : { text })
  }

  remove(key: string): void {
    this.#objects?.delete(key)
    if (this.#text(key) !== undefined) this.#mark(key, { text: undefined })
  }

  /** Removes all keys. Clearing an empty session is not a change. */
  clear(): void {
    this.#objects = undefined
    this.#changes = undefined
    this.#cleared ||= !isEmpty(this.#base)
  }

  /**
   * Returns the changes to write, or `undefined` if nothing has changed. If `all` is true, a value that was set is
   * written even if it equals the loaded value, because another request may have changed the stored one.
   */
  difference(all = false): Difference | undefined {
    this.#recordMutations()
    if (this.#changes === undefined && !this.#cleared) return undefined
    const set = emptyTexts()
    const remove: string[] = []
    let versioned = false
    for (const [key, { text, updaters }] of this.#changed(all)) {
      if (text === undefined) remove.push(key)
      else set[key] = text
      versioned ||= updaters !== undefined
    }
    const isNothing = !this.#cleared && remove.length === 0 && isEmpty(set)
    return isNothing ? undefined : { set, remove, clear: this.#cleared, versioned }
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

  #run(key: string, updater: Updater): { value: unknown; text: string } {
    try {
      const value = updater(this.value(key))
      return { value, text: serialize(key, value) }
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

  #put(key: string, value: unknown, change: Change): void {
    this.#objects?.delete(key)
    // Do not keep an object with a `toJSON` method, such as a Date: `get` has to return its JSON form.
    if (typeof value === 'object' && value !== null && !('toJSON' in value)) this.#keep(key, value)
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
    this.#mark(key, { text: serialize(key, object) })
  }

  #text(key: string): string | undefined {
    const change = this.#changes?.get(key)
    return change === undefined ? this.#baseText(key) : change.text
  }

  #baseText(key: string): string | undefined {
    return !this.#cleared && Object.hasOwn(this.#base, key) ? this.#base[key] : undefined
  }

  #parse(key: string, text: string | undefined): unknown {
    if (text === undefined) return undefined
    const value = deserialize(this.#session.id, key, text)
    if (value === undefined || this.#problemOf(key, value) === undefined) return value
    reportInvalidValue(this.#session.id, key, 'schema')
    return undefined
  }
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
