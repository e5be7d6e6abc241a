import { inspect } from 'node:util'
import { SessionOptionError } from './errors.js'
import { refuseUnknown, type Alternatives } from './own-options.js'

/** A rule for the value of an option. `want` completes the error message "option … is …, but must be …". */
export interface Rule {
  readonly want: string
  readonly accepts: (value: unknown) => boolean
}

/**
 * Checks the options in `given` against `rules`. Error messages put `prefix`, such as `cookie.`, before the name.
 * `alternatives` has the messages for options that users of other libraries write.
 * @throws {SessionOptionError} for the first option that is unknown or wrong.
 */
export function checkOptions(
  given: object,
  rules: Readonly<Record<string, Rule>>,
  prefix = '',
  alternatives?: Alternatives
): void {
  refuseUnknown(given, Object.keys(rules), alternatives, prefix)
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    const { want, accepts } = rules[name] as Rule
    if (!accepts(value)) throw SessionOptionError.wrong(prefix + name, value, want)
  }
}

/** Accepts every value. Used for options that `resolveOptions` checks in detail, with more specific messages. */
export const anything: Rule = { want: '', accepts: () => true }

export const flag: Rule = { want: 'true or false', accepts: (value) => typeof value === 'boolean' }

export function oneOf(...values: readonly (string | boolean)[]): Rule {
  return {
    want: `one of ${values.map((value) => inspect(value)).join(', ')}`,
    accepts: (value) => values.includes(value as string)
  }
}

export function text(pattern: RegExp, want: string, maxLength = Infinity): Rule {
  return {
    want,
    accepts: (value) => typeof value === 'string' && value.length <= maxLength && pattern.test(value)
  }
}

export function number(want: string, isInRange: (value: number) => boolean): Rule {
  return { want, accepts: (value) => Number.isFinite(value) && isInRange(value as number) }
}

/** Returns a rule that accepts any object. The options in the object have separate rules. */
export function objectOf(content: string): Rule {
  return {
    want: `an object of ${content}`,
    accepts: (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
  }
}
