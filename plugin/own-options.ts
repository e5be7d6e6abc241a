import { SessionOptionError } from './errors.js'

/** For options of other libraries: what is wrong with them here, and what to use instead. */
export type Alternatives = Readonly<Record<string, string>>

/**
 * Copies the own properties of an options object into an object that inherits nothing. So a property that other code
 * has put on `Object.prototype` is never taken for an option.
 */
export function ownOptions<T extends object>(given: T | undefined): T {
  return Object.assign(Object.create(null) as T, given)
}

/**
 * Checks that every own property of `given` is in `known`, unless its value is `undefined`. Error messages put `prefix`,
 * such as `cookie.`, before the name. `alternatives` has the messages for options that users of other libraries write.
 * @throws {SessionOptionError} for the first option that is not in `known`.
 */
export function refuseUnknown(
  given: object,
  known: readonly string[],
  alternatives: Alternatives = {},
  prefix = ''
): void {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || known.includes(name)) continue
    const option = prefix + name
    const listed = `is unknown; the options here are ${known.join(', ')}`
    throw new SessionOptionError(option, ownOptions(alternatives)[option] ?? listed)
  }
}

/**
 * Returns the own properties of the options object of a store, as `ownOptions` does.
 * @throws {SessionOptionError} for the first option that is not in `known`.
 */
export function storeOptions<T extends object>(
  given: T | undefined,
  known: readonly (keyof T & string)[],
  alternatives: Alternatives
): T {
  const own = ownOptions(given)
  refuseUnknown(own, known, alternatives)
  return own
}
