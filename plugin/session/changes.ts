import { SessionValueError } from '../errors.js'
import type { ProblemOf } from '../options/schema.js'
import { deserialize, reportInvalidValue, reserialize, serialize } from './serialize.js'

export type Updater = (current: unknown) => unknown

/** The change of one key. */
interface Change {
  /** The new JSON text, or `undefined` if the key is removed. */
  readonly text: string | undefined
  /** The updaters to run again on a newer record. Absent if the result does not depend on the stored value. */
  readonly updaters?: readonly Updater[]
}

/** The difference between the loaded data and the data at the end of the request. */
export interface Difference {
  readonly set: Readonly<Record<string, string>>
  readonly remove: readonly string[]
  readonly clear: boolean
  /** True if an updater read the stored value, so that the write depends on the record's version. */
  readonly versioned: boolean
}

type Texts = Readonly<Record<string, string>>

/** Returns an object without a prototype, in which `__proto__` is a key like any other. */
export function emptyTexts(): Record<string, string> {
  return Object.create(null) as Record<string, string>
}

const NOTHING: Texts = Object.freeze(emptyTexts())

/**
 * The data of one request: the loaded JSON texts and the changes to them. A value is parsed when it is read. An object
 * that was returned is kept, to detect changes in place.
 */
export class Changes {
  #base: Texts
  #cleared = false
  #changes: Map<string, Change> | undefined
  /** Objects that `value` returned or that were set. */
  #objects: Map<string, object> | undefined
  readonly #session: { readonly id: string }
  readonly #problemOf: ProblemOf

  /** `session`: names the session in reports. A stored value that `problemOf` refuses reads as absent. */
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

  /** Sets `key` to the result of `updater`. `rebase` runs the updater again on a newer value. */
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

  /** Removes everything. Clearing an empty session is not a change. */
  clear(): void {
    this.#objects = undefined
    this.#changes = undefined
    this.#cleared ||= !isEmpty(this.#base)
  }

  /**
   * Returns what to write, or `undefined` if nothing changed. With `all`, values equal to the loaded ones are written
   * as well, because another request may have changed them.
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
   * Applies the changes to newer data: a value that was set stays set, an updater runs again. `all` as in
   * `difference`.
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

  /** Returns true, once, if an object was changed in place after `difference()` ran. */
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
      // Discard changes in place that the updater made: a retry could not repeat them on a newer record.
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
    // A value with a `toJSON`, such as a Date, reads as its JSON form from here on.
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

  /** Records a change in place as a change of its key. */
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

/** The stored JSON may be spelled differently from ours, so the parsed value is compared before it counts as changed. */
function isMutated(key: string, object: object, text: string | undefined): boolean {
  const current = reserialize(key, object)
  return current !== text && (text === undefined || current !== JSON.stringify(JSON.parse(text)))
}

export function isEmpty(texts: Texts): boolean {
  for (const _ in texts) return false
  return true
}
