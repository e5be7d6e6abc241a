import { channels } from './diagnostics.js'
import { SessionValueError } from './errors.js'

/**
 * The JSON text of a value.
 * @throws {SessionValueError} when JSON cannot hold all of it: a function, a symbol, a BigInt, a cycle, `undefined`,
 * a number that is not finite, a Map or a Set. An absent property may be `undefined`; an array element may not.
 */
export function toText(key: string, value: unknown): string {
  return stringify(key, value, refuseLossy)
}

/** The JSON text of an object that was handed out, where a loss is not looked for: it is compared far more often. */
export function textNow(key: string, value: object): string {
  return stringify(key, value)
}

/** The value of a JSON text; `undefined`, reported, when it is none. */
export function parseText(id: string, key: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    reportInvalid(id, key, 'json')
    return undefined
  }
}

export function reportInvalid(id: string, key: string, reason: string): void {
  const channel = channels.invalidRecord
  if (channel.hasSubscribers) channel.publish({ id, key, reason })
}

function stringify(key: string, value: unknown, replacer?: typeof refuseLossy): string {
  // TypeScript says `string`, but of undefined it is undefined.
  let text: string | undefined
  try {
    text = (JSON.stringify as (value: unknown, replacer: unknown) => string | undefined)(value, replacer)
  } catch (error) {
    const [reason] = (error as Error).message.split('\n', 1) as [string]
    throw new SessionValueError(key, `cannot be kept as JSON: ${reason}`)
  }
  if (text === undefined)
    throw new SessionValueError(key, 'cannot be kept as JSON: it is undefined; use remove()')
  return text
}

function refuseLossy(this: unknown, property: string, value: unknown): unknown {
  const loss = lossOf(this, value)
  if (loss === undefined) return value
  throw new TypeError(property === '' ? `it is ${loss}` : `${loss} at ${JSON.stringify(property)}`)
}

/** What JSON would drop or turn into `null` without a word. */
function lossOf(holder: unknown, value: unknown): string | undefined {
  switch (typeof value) {
    case 'function':
    case 'symbol':
    case 'bigint':
      return `a ${typeof value}`
    case 'number':
      return Number.isFinite(value) ? undefined : String(value)
    case 'undefined':
      return Array.isArray(holder) ? 'undefined' : undefined
    default:
      return value instanceof Map || value instanceof Set ? `a ${value.constructor.name}` : undefined
  }
}
