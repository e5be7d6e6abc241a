import { channels } from '../diagnostics.js'
import { SessionValueError } from '../errors.js'

/** Objects that JSON turns into `{}` without a word. */
const EMPTIED = [Map, Set, WeakMap, WeakSet, Promise, RegExp, Error, ArrayBuffer, URLSearchParams]

/**
 * The JSON text of a value.
 * @throws {SessionValueError} when JSON cannot hold all of it: a function, a symbol, a BigInt, a cycle, `undefined`,
 * a number or a Date that is not finite, and what it would turn into `{}`: a Map, Set, WeakMap, WeakSet, Promise, RegExp,
 * Error, ArrayBuffer or URLSearchParams. An absent property may be `undefined`; an array element may not.
 */
export function toText(key: string, value: unknown): string {
  function refuseLoss(this: Record<string, unknown>, property: string, held: unknown): unknown {
    const loss = lossOf(this, property, held)
    if (loss === undefined) return held
    throw notJson(key, property === '' ? `it is ${loss}` : `${loss} at ${JSON.stringify(property)}`)
  }
  // TypeScript says `string`, but of undefined it is undefined.
  let text: string | undefined
  try {
    text = (JSON.stringify as (value: unknown, replacer: unknown) => string | undefined)(value, refuseLoss)
  } catch (error) {
    throw error instanceof SessionValueError ? error : notJson(key, reasonOf(error))
  }
  if (text === undefined) throw notJson(key, 'it is undefined; use remove()')
  return text
}

/** The JSON text of an object that was handed out, where a loss is not looked for: it is compared far more often. */
export function textNow(key: string, value: object): string {
  try {
    return JSON.stringify(value)
  } catch {
    return toText(key, value)
  }
}

/** The value of a JSON text; `undefined`, reported, when it is none. */
export function parseText(id: string, key: string, text: unknown): unknown {
  try {
    if (typeof text === 'string') return JSON.parse(text)
  } catch {
    // Reported below, as what is no text at all.
  }
  reportInvalid(id, key, 'json')
  return undefined
}

export function reportInvalid(id: string, key: string, reason: string): void {
  const channel = channels.invalidRecord
  if (channel.hasSubscribers) channel.publish({ id, key, reason })
}

function notJson(key: string, reason: string): SessionValueError {
  return new SessionValueError(key, `cannot be kept as JSON: ${reason}`)
}

/** In own words: what a `toJSON` throws may tell the value. */
function reasonOf(error: unknown): string {
  const isCycle = error instanceof TypeError && error.message.startsWith('Converting circular structure')
  return isCycle ? 'it holds a cycle' : 'turning it into text threw an error'
}

/** What JSON would drop, or turn into `null` or `{}`, without a word. */
function lossOf(holder: Record<string, unknown>, property: string, value: unknown): string | undefined {
  switch (typeof value) {
    case 'function':
    case 'symbol':
    case 'bigint':
      return `a ${typeof value}`
    case 'number':
      return Number.isFinite(value) ? undefined : String(value)
    case 'undefined':
      return Array.isArray(holder) ? 'undefined' : undefined
    case 'object':
      return lossOfObject(value, holder[property])
    default:
      return undefined
  }
}

/** A Date that is none says `null` of itself. */
function lossOfObject(value: unknown, given: unknown): string | undefined {
  if (value === null) return given instanceof Date ? 'an invalid Date' : undefined
  const emptied = EMPTIED.find((type) => value instanceof type)
  return emptied && `an instance of ${emptied.name}`
}
