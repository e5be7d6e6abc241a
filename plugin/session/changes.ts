import { SessionValueError } from '../errors.js'
import type { ProblemOf } from '../options/schema.js'
import { parseText, reportInvalid, textNow, toText } from './serialize.js'

export type Updater = (current: unknown) => unknown

/** What a request wants a key to be: `undefined` is absent. */
interface Change {
  readonly text: string | undefined
  /** The functions to run again on a newer value; absent when the outcome does not depend on the stored one. */
  readonly again?: readonly Updater[]
}

/** The difference between a draft and what the store has. */
export interface Difference {
  readonly set: Record<string, string>
  readonly remove: string[]
  readonly clear: boolean
  /** True when an `update` function read the stored value, so that the write depends on its version. */
  readonly versioned: boolean
}

type Texts = Readonly<Record<string, string>>

/** An object without a prototype, in which `__proto__` is a key like any other. */
export function emptyTexts(): Record<string, string> {
  return Object.create(null) as Record<string, string>
}

const NOTHING: Texts = Object.freeze(emptyTexts())

/**
 * The data of one request: what the store had, and what the request changed.
 * Values are parsed when they are read. An object that was handed out is kept, to notice a change in place.
 */
export class Draft {
  #base: Texts
  #cleared = false
  #changes: Map<string, Change> | undefined
  #live: Map<string, object> | undefined
  readonly #owner: { readonly id: string }
  readonly #problemOf: ProblemOf

  /** `problemOf` says what is wrong with a stored value; one that is wrong reads as absent. */
  constructor(owner: { readonly id: string }, problemOf: ProblemOf, base: Texts = NOTHING) {
    this.#owner = owner
    this.#problemOf = problemOf
    this.#base = base
  }

  value(key: string): unknown {
    const live = this.#live?.get(key)
    if (live !== undefined) return live
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
    this.#put(key, value, toText(key, value))
  }

  /** Reads, calls `updater`, writes; a later `rebase` calls it again. */
  update(key: string, updater: Updater): void {
    this.#noticeInPlace(key)
    const { value, text } = this.#updated(key, updater)
    const change = this.#changes?.get(key)
    const isOfStored = !this.#cleared && (change === undefined || change.again !== undefined)
    this.#put(key, value, text, isOfStored ? [...(change?.again ?? []), updater] : undefined)
  }

  /** What a function that throws did to the object in place is no change: nobody would run it again on a newer one. */
  #updated(key: string, updater: Updater): { value: unknown; text: string } {
    try {
      const value = updater(this.value(key))
      return { value, text: toText(key, value) }
    } catch (error) {
      if (this.#isSpoilt(key)) this.#live?.delete(key)
      throw error
    }
  }

  #isSpoilt(key: string): boolean {
    const live = this.#live?.get(key)
    try {
      return live !== undefined && isChanged(key, live, this.#text(key))
    } catch {
      return true
    }
  }

  remove(key: string): void {
    this.#live?.delete(key)
    if (this.#text(key) !== undefined) this.#mark(key, { text: undefined })
  }

  /** Of what holds nothing it is no change. */
  clear(): void {
    this.#live = undefined
    this.#changes = undefined
    this.#cleared ||= !isEmpty(this.#base)
  }

  /**
   * What to write, or `undefined` when that is nothing. `all`: what was set counts where it equals what the store had, too,
   * because another request may have changed that since.
   */
  difference(all = false): Difference | undefined {
    this.#noticeAllInPlace()
    if (this.#changes === undefined && !this.#cleared) return undefined
    const set = emptyTexts()
    const remove: string[] = []
    let versioned = false
    for (const [key, { text, again }] of this.#changed(all)) {
      if (text === undefined) remove.push(key)
      else set[key] = text
      versioned ||= again !== undefined
    }
    const difference = { set, remove, clear: this.#cleared, versioned }
    return isNothing(difference) ? undefined : difference
  }

  #changed(all: boolean): [string, Change][] {
    const changes = [...(this.#changes ?? [])]
    return all ? changes : changes.filter(([key, { text }]) => text !== this.#baseText(key))
  }

  /** Puts the same changes on newer data: what was set stays set, what was updated is updated again. `all`: as above. */
  rebase(base: Texts, all = false): void {
    const before = [...(this.#changes ?? [])].map(([key, change]) => ({
      key,
      change,
      was: this.#baseText(key)
    }))
    this.#base = base
    this.#live = undefined
    for (const { key, change, was } of before) {
      if (change.again || (change.text === was && !all)) this.#changes?.delete(key)
      for (const updater of change.again ?? []) this.update(key, updater)
    }
  }

  /** Whether an object was changed in place since `difference()` looked; says so once. */
  strayed(): boolean {
    const live = [...(this.#live ?? [])]
    this.#live = undefined
    return live.some(([key, value]) => isChanged(key, value, this.#text(key)))
  }

  #put(key: string, value: unknown, text: string, again?: readonly Updater[]): void {
    this.#live?.delete(key)
    // What turns itself into something else, such as a Date, reads as that from now on.
    if (typeof value === 'object' && value !== null && !('toJSON' in value)) this.#keep(key, value)
    this.#mark(key, again ? { text, again } : { text })
  }

  #mark(key: string, change: Change): void {
    this.#changes ??= new Map()
    this.#changes.set(key, change)
  }

  #keep(key: string, value: object): void {
    this.#live ??= new Map()
    this.#live.set(key, value)
  }

  #noticeAllInPlace(): void {
    if (this.#live !== undefined) for (const key of this.#live.keys()) this.#noticeInPlace(key)
  }

  #noticeInPlace(key: string): void {
    const live = this.#live?.get(key)
    if (live === undefined || !isChanged(key, live, this.#text(key))) return
    const problem = this.#problemOf(key, live)
    if (problem !== undefined) throw new SessionValueError(key, problem)
    this.#mark(key, { text: toText(key, live) })
  }

  #text(key: string): string | undefined {
    const change = this.#changes?.get(key)
    return change === undefined ? this.#baseText(key) : change.text
  }

  #baseText(key: string): string | undefined {
    return this.#cleared ? undefined : textOf(this.#base, key)
  }

  #parse(key: string, text: string | undefined): unknown {
    if (text === undefined) return undefined
    const value = parseText(this.#owner.id, key, text)
    if (value === undefined || this.#problemOf(key, value) === undefined) return value
    reportInvalid(this.#owner.id, key, 'schema')
    return undefined
  }
}

/** A text that somebody else wrote may say the same in other words, such as `1e999` for a number that JSON has no word for. */
function isChanged(key: string, live: object, text: string | undefined): boolean {
  const now = textNow(key, live)
  return now !== text && (text === undefined || now !== JSON.stringify(JSON.parse(text)))
}

function textOf(texts: Texts, key: string): string | undefined {
  return Object.hasOwn(texts, key) ? texts[key] : undefined
}

function isNothing({ set, remove, clear }: Difference): boolean {
  return !clear && remove.length === 0 && isEmpty(set)
}

export function isEmpty(texts: Texts): boolean {
  for (const _ in texts) return false
  return true
}
