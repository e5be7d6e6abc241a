import { SessionValueError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { userIdOf } from './record.js'

/** @throws {SessionValueError} if the schema refuses `value` at `key`, or if it is not a user id at `userKey`. */
export function checkValue({ userKey, problemOf }: ResolvedOptions, key: string, value: unknown): void {
  const problem = problemOf(key, value)
  if (problem !== undefined) throw new SessionValueError(key, problem)
  if (key !== userKey || userIdOf(value) !== null) return
  throw new SessionValueError(
    key,
    'says whose session it is, so it must be a non-empty string or a finite number'
  )
}
