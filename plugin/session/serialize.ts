import { channels } from '../diagnostics.js'
import { SessionSizeError, SessionValueError } from '../errors.js'

/** Objects that JSON.stringify silently turns into `{}`. */
const EMPTIED = [Map, Set, WeakMap, WeakSet, Promise, RegExp, Error, ArrayBuffer, URLSearchParams]

/**
 * Returns a value as JSON text.
 * @throws {SessionValueError} if JSON would lose part of the value: a function, a symbol, a BigInt, a cycle,
 * `undefined`, a number that is not finite, an invalid Date, or an object that becomes `{}`, such as a Map.
 * `undefined` is allowed as the value of a property, but not as an array element.
 */
export function serialize(key: string, value: unknown): string {
  return serializeValue(key, value).text
}

/** Does the same as `serialize`, and says whether a `toJSON` method has replaced the value or a part of it. */
export function serializeValue(key: string, value: unknown): { text: string; isReplaced: boolean } {
  // Without the check for lost data, JSON.stringify is several times as fast.
  if (isSimple(value)) return { text: JSON.stringify(value), isReplaced: false }
  let isReplaced = false
  function refuseLoss(this: Record<string, unknown>, property: string, item: unknown): unknown {
    isReplaced ||= this[property] !== item
    const loss = lossOf(this, property, item)
    if (loss === undefined) return item
    throw notJson(key, property === '' ? `it is ${loss}` : `${loss} at ${JSON.stringify(property)}`)
  }
  // The TypeScript signature says `string`, but JSON.stringify(undefined) returns undefined.
  let text: string | undefined
  try {
    text = (JSON.stringify as (value: unknown, replacer: unknown) => string | undefined)(value, refuseLoss)
  } catch (error) {
    throw error instanceof SessionValueError ? error : notJson(key, reasonOf(error))
  }
  if (text === undefined) throw notJson(key, 'it is undefined')
  return { text, isReplaced }
}

function isSimple(value: unknown): value is string | boolean | number {
  return typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)
}

/** Serializes an object to see whether it was changed. Runs on every request, so it does not check for lost data. */
export function reserialize(key: string, value: object): string {
  try {
    return JSON.stringify(value)
  } catch {
    return serialize(key, value)
  }
}

/** Parses JSON text. If the text is not valid JSON, reports this and returns `undefined`. */
export function deserialize(id: string, key: string, text: unknown): unknown {
  try {
    if (typeof text === 'string') return JSON.parse(text)
  } catch {
    // Reported below, like a value that is not a string.
  }
  reportInvalidValue(id, key, 'json')
  return undefined
}

export function reportInvalidValue(id: string, key: string, reason: string): void {
  const channel = channels.invalidRecord
  if (channel.hasSubscribers) channel.publish({ id, key, reason })
}

/** @throws {SessionSizeError} if the keys and texts together have more than `maxSize` bytes of UTF-8. */
export function checkSize(texts: Readonly<Record<string, string>>, maxSize: number): void {
  let size = 0
  for (const [key, text] of Object.entries<unknown>(texts)) {
    // A store may have returned a value that is not text.
    if (typeof text === 'string') size += Buffer.byteLength(key) + Buffer.byteLength(text)
  }
  if (size > maxSize) throw new SessionSizeError(size, maxSize)
}

function notJson(key: string, reason: string): SessionValueError {
  return new SessionValueError(key, `cannot be kept as JSON: ${reason}`)
}

/** Explains why JSON cannot hold a value. Never quotes `error`, because `toJSON` may put the value in its message. */
function reasonOf(error: unknown): string {
  const isCycle = error instanceof TypeError && error.message.startsWith('Converting circular structure')
  return isCycle ? 'it contains a cycle' : 'turning it into text threw an error'
}

/** Describes a value that JSON would silently drop or change. Returns `undefined` for any other value. */
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

/** `given` is the value before `toJSON` ran. Only `given` reveals a Buffer, and an invalid Date, which becomes null. */
function lossOfObject(value: unknown, given: unknown): string | undefined {
  if (ArrayBuffer.isView(given)) return `an instance of ${given.constructor.name}`
  if (value === null) return given instanceof Date ? 'an invalid Date' : undefined
  const emptied = EMPTIED.find((type) => value instanceof type)
  return emptied && `an instance of ${emptied.name}`
}
