/**
 * Copies the own properties of an options object into an object that inherits nothing. So a property that other code
 * has put on `Object.prototype` is never taken for an option.
 */
export function ownOptions<T extends object>(given: T | undefined): T {
  return Object.assign(Object.create(null) as T, given)
}
