import { toUSVString } from 'node:util'
import { changesData } from './patch.js'
import type { SessionPatch } from '../types.js'

/** The first character of an encoded string. A string that already starts with this character is encoded too. */
const MARK = '\x01'
/** The prefix of an encoded string, as it appears in JSON text. */
const MARKED_STRING = JSON.stringify(MARK).slice(0, -1)

/**
 * Returns `text` in a form that every database can store. PostgreSQL cannot store a NUL character, SQLite's JSON
 * functions compare keys only up to a NUL, and UTF-8 cannot represent lone surrogates.
 */
export function encode(text: string): string {
  const isPlain = !text.includes('\0') && !text.startsWith(MARK) && toUSVString(text) === text
  return isPlain ? text : MARK + JSON.stringify(text)
}

/** Reverses `encode`. Throws if `text` looks encoded but is malformed. */
export function decode(text: string): string {
  return text.startsWith(MARK) ? (JSON.parse(text.slice(MARK.length)) as string) : text
}

/** Returns `data` as one JSON object. Each value is already JSON text and becomes a string in that object. */
export function encodeData(data: Readonly<Record<string, string>>): string {
  return JSON.stringify(encodedPairs(data))
}

/** Returns a JSON merge patch (RFC 7396) to apply to the result of `encodeData`, or `null` if no data changes. */
export function encodeChange(patch: SessionPatch): string | null {
  if (!changesData(patch)) return null
  const change = Object.create(null) as Record<string, string | null>
  if (patch.clear !== true) for (const key of patch.remove) change[encode(key)] = null
  return JSON.stringify(Object.assign(change, encodedPairs(patch.set)))
}

/** Reverses `encodeData`. Throws if `json` is not an object whose values are strings. */
export function decodeData(json: string): Record<string, string> {
  const data = JSON.parse(json) as unknown
  if (typeof data !== 'object' || data === null || Array.isArray(data)) throw new TypeError('not an object')
  for (const text of Object.values(data)) if (typeof text !== 'string') throw new TypeError('not JSON text')
  const texts = data as Record<string, string>
  if (!json.includes(MARKED_STRING)) return texts
  const decoded = Object.create(null) as Record<string, string>
  for (const [key, text] of Object.entries(texts)) decoded[decode(key)] = decode(text)
  return decoded
}

/** Returns an object without a prototype, so that `__proto__` is an ordinary key. */
function encodedPairs(data: Readonly<Record<string, string>>): Record<string, string> {
  const pairs = Object.create(null) as Record<string, string>
  for (const key of Object.keys(data)) pairs[encode(key)] = encode(data[key] as string)
  return pairs
}
