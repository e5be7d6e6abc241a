import { channels } from '../../diagnostics.js'
import type { SessionRecord } from '../../types.js'

// What PostgreSQL's text and jsonb cannot hold: a NUL, and half of a surrogate pair.
export const UNHOLDABLE = /[\0\p{Surrogate}]/u
const ESCAPED_UNHOLDABLE = /\\u(?:0000|d[89a-f])/
const ESCAPE = '$text'
const ESCAPED_KEY = `${ESCAPE}:`
/** PostgreSQL's own limit lies at some thousands, and depends on how it was set up. */
const DEEPEST = 500

/** Any string as one that PostgreSQL can hold; `fromHeld` gives it back. */
export function toHeld(text: string): string {
  return UNHOLDABLE.test(text) || text.startsWith(ESCAPED_KEY) ? ESCAPED_KEY + JSON.stringify(text) : text
}

export function fromHeld(held: string): string {
  return held.startsWith(ESCAPED_KEY) ? (JSON.parse(held.slice(ESCAPED_KEY.length)) as string) : held
}

export function heldUser(userId: string | null): string | null {
  return userId === null ? null : toHeld(userId)
}

/** Keys and texts as the text of one JSON object. What is JSON already goes in as it is. */
export function toJson(texts: Readonly<Record<string, string>>): string {
  const entries = Object.entries(texts).map(
    ([key, text]) =>
      `${JSON.stringify(toHeld(key))}:${isHoldable(text) ? text : JSON.stringify({ [ESCAPE]: toHeld(text) })}`
  )
  return `{${entries.join(',')}}`
}

/** Whether jsonb gives back what JSON.stringify makes this text of again. */
function isHoldable(text: string): boolean {
  if (ESCAPED_UNHOLDABLE.test(text)) return false
  try {
    const value: unknown = JSON.parse(text)
    return JSON.stringify(value) === text && !isEscape(value) && isShallow(value, DEEPEST)
  } catch {
    return false
  }
}

function isEscape(value: unknown): value is { [ESCAPE]: string } {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, ESCAPE)) return false
  return Object.keys(value).length === 1
}

function isShallow(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1))
}

/** Without a prototype, in which `__proto__` is a key like any other. */
function textsOf(values: unknown): Record<string, string> {
  if (typeof values !== 'object' || values === null || Array.isArray(values)) throw new TypeError('no object')
  const texts = Object.create(null) as Record<string, string>
  for (const [key, value] of Object.entries(values) as [string, unknown][]) {
    texts[fromHeld(key)] = isEscape(value) ? fromHeld(value[ESCAPE]) : JSON.stringify(value)
  }
  return texts
}

/** As our own statements answer it; of a table that somebody else filled, anything. */
export interface Row {
  readonly version: unknown
  readonly data: unknown
  readonly created: unknown
  readonly accessed: unknown
  readonly expires: unknown
  readonly user_id: unknown
}

/** The record, or `undefined`, reported, when the row is none that this library wrote. */
export function recordOf(id: string, row: Row): SessionRecord | undefined {
  try {
    return {
      version: numberOf(row.version),
      data: textsOf(JSON.parse(row.data as string)),
      createdAt: numberOf(row.created),
      lastAccessed: numberOf(row.accessed),
      expiresAt: numberOf(row.expires),
      userId: row.user_id === null ? null : fromHeld(row.user_id as string)
    }
  } catch {
    return reportForeign(id)
  }
}

/** A driver may answer with a number or its digits. */
function numberOf(value: unknown): number {
  const number = value === null ? NaN : Number(value)
  if (!Number.isFinite(number)) throw new TypeError('no number')
  return number
}

function reportForeign(id: string): undefined {
  if (channels.invalidRecord.hasSubscribers) channels.invalidRecord.publish({ id, reason: 'shape' })
}
