import { types } from 'node:util'

/** A message or a stack is cut off after this many characters. */
const LONGEST = 1000
/** A shorter text is looked for only in quotation marks, because it would be found in ordinary words. */
const SHORTEST = 4
/** A driver may quote only the beginning of a text, so a text is found by this many first characters. */
const START = 8
/** How many levels of causes are copied, and how many errors of an `AggregateError`. */
const DEPTH = 4
const MOST_ERRORS = 5
/** The name or code of an error. Anything else may be a value. */
const IDENTIFIER = /^[\w.-]{1,50}$/
/** An object and what follows it. The object may be the stored record, whose values the failed call does not know. */
const OBJECT = /\{[^]*/
const HIDDEN = '[redacted]'
const LITERALS = new Set(['true', 'false', 'null'])
/** Characters that look different in a text that was escaped, however often. */
const ESCAPED = /["'\\\p{Cc}]+/u

/** The properties of an error that are read. A driver can give each of them any value. */
type DriverError = Readonly<Record<'name' | 'message' | 'stack' | 'code' | 'cause' | 'errors', unknown>>

/**
 * Returns a copy of an error from a driver or a store that holds no value of a session. A driver may add what it sent
 * to the database: ioredis adds the command, and others add the query with its parameters. Therefore the copy has
 * nothing but a name, a code, a message, a stack and the causes. In these texts, `values` are replaced by `[redacted]`:
 * the values that the failed call wrote, as they are and as JSON, and any object with all that follows it. Fewer than
 * four characters of a value may remain.
 */
export function withoutValues(error: unknown, values: unknown = []): Error {
  const texts = textsIn(values)
  return copyOf(error, (text) => redact(text, texts), DEPTH)
}

type Hide = (text: string) => string

function copyOf(error: unknown, hide: Hide, depth: number): Error {
  if (!(error instanceof Error) && !types.isNativeError(error))
    return new Error(`The store threw a value of type ${typeof error} instead of an Error`)
  const given = error as unknown as DriverError
  const { cause, code, errors } = given
  const message = messageOf(given, hide)
  const copy = Array.isArray(errors)
    ? new AggregateError(depth === 0 ? [] : copiesOf(errors, hide, depth - 1), message)
    : new Error(message)
  const name = isIdentifier(given.name, hide) ? String(given.name) : 'Error'
  define(copy, 'name', name)
  define(copy, 'stack', `${name}: ${message}${framesOf(given, hide)}`)
  if (cause !== undefined && depth > 0) define(copy, 'cause', copyOf(cause, hide, depth - 1))
  if (isIdentifier(code, hide)) Object.assign(copy, { code })
  return copy
}

function copiesOf(errors: unknown[], hide: Hide, depth: number): Error[] {
  return errors.slice(0, MOST_ERRORS).map((error) => copyOf(error, hide, depth))
}

/** Adds a property that is not enumerable, as the same properties of other errors are. */
function define(copy: Error, property: string, value: unknown): void {
  Object.defineProperty(copy, property, { value, configurable: true, writable: true })
}

/** JSON.parse throws a SyntaxError that quotes the text, which may be the stored record. */
function messageOf({ name, message }: DriverError, hide: Hide): string {
  if (name === 'SyntaxError') return 'A text could not be parsed'
  return hide(String(message).slice(0, LONGEST)).replace(OBJECT, HIDDEN)
}

/** Returns the lines of the stack that name a place in the code. They follow the message, which may have such lines. */
function framesOf({ message, stack }: DriverError, hide: Hide): string {
  const rest = String(stack).replace(String(message), '')
  const frames = rest.match(/\n {4}at .*/g) ?? []
  return hide(frames.join('').slice(0, LONGEST))
}

function isIdentifier(name: unknown, hide: Hide): boolean {
  return (typeof name === 'string' || typeof name === 'number') && IDENTIFIER.test(hide(String(name)))
}

/** Returns the texts and numbers in `values`. A text that is JSON also stands for the texts and numbers in it. */
function textsIn(values: unknown): string[] {
  const texts = new Set<string>()
  const seen = new Set<string>()
  const pending = [values]
  for (const value of pending) {
    if (typeof value === 'object' && value !== null)
      for (const item of Object.values(value)) pending.push(item)
    if (typeof value !== 'string' && typeof value !== 'number') continue
    const text = String(value)
    if (seen.has(text)) continue
    seen.add(text)
    for (const form of formsOf(text)) texts.add(form)
    pending.push(parse(text))
  }
  return [...texts].filter((text) => text.length >= SHORTEST && !LITERALS.has(text))
}

/** A driver may quote a text as it is, as JSON, as JSON in JSON (as stores keep it), or escaped in some other way. */
function formsOf(text: string): string[] {
  if (!ESCAPED.test(text)) return [text]
  const escaped = escape(text)
  return [text, escaped, escape(escaped), ...text.split(ESCAPED)]
}

function escape(text: string): string {
  return JSON.stringify(text).slice(1, -1)
}

/** Returns `undefined` for a text that is not the JSON of a text, an array or an object. */
function parse(text: string): unknown {
  if (!/^["[{]/.test(text)) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function redact(text: string, texts: readonly string[]): string {
  const hidden = new Array<boolean>(text.length).fill(false)
  for (const value of texts) {
    const start = value.slice(0, START)
    for (let at = text.indexOf(start); at !== -1; at = text.indexOf(start, at + 1)) {
      for (let n = 0; n < value.length && text[at + n] === value[n]; n++) hidden[at + n] = true
    }
  }
  return text.replace(/[^]/g, (character, at: number) => {
    if (hidden[at] !== true) return character
    return hidden[at - 1] === true ? '' : HIDDEN
  })
}
