import { SessionOptionError } from '../../errors.js'
import { LARGEST_SKEW, skewOf } from '../clock.js'
import { withoutValues } from '../driver-error.js'
import { codeOf } from './queries.js'

/** The state of PostgreSQL and of the role, as far as it can keep the store from working. */
export interface State {
  readonly mayWrite: boolean
  readonly isReplica: boolean
  readonly isReadOnly: boolean
  /** The time of PostgreSQL in milliseconds. */
  readonly now: number
}

/**
 * Returns a sentence for each problem that may go away by itself, or that does not stop the store. `asked` and
 * `answered` are the times of this process around the query for the state.
 * @throws {SessionOptionError} if the role may not write to the table.
 */
export function warningsOf(state: State, table: string, asked: number, answered: number): string[] {
  if (!state.mayWrite) throw new SessionOptionError('store', noPermission(table))
  const warnings: string[] = []
  if (state.isReplica)
    warnings.push(
      'PostgreSQL is a replica, so no session can be saved: connect the pool to the primary server'
    )
  else if (state.isReadOnly)
    warnings.push(
      'PostgreSQL runs the transactions of this pool as read-only, so no session can be saved: set `default_transaction_read_only` to `off` for its role, database or server'
    )
  warnings.push(...clockWarnings(skewOf(state.now, asked, answered)))
  return warnings
}

function clockWarnings(skew: number): string[] {
  if (Math.abs(skew) <= LARGEST_SKEW) return []
  const [place, effect] = skew < 0 ? ['ahead of', 'early'] : ['behind', 'late']
  return [
    `the clock of this process is ${Math.round(Math.abs(skew) / 1000)} s ${place} the clock of PostgreSQL, so sessions end too ${effect}: synchronize both clocks with NTP`
  ]
}

/** Returns a `SessionOptionError` for an error that retrying cannot fix, or `undefined` for any other error. */
export function fatalError(error: Error, table: string): SessionOptionError | undefined {
  if (error instanceof SessionOptionError) return error
  const problem = problemOf(codeOf(error), table)
  if (problem === undefined) return undefined
  const wrong = new SessionOptionError('store', `${problem} (${error.message})`)
  wrong.cause = withoutValues(error)
  return wrong
}

function problemOf(code: string, table: string): string | undefined {
  switch (code) {
    case '42P01':
      return `has no table ${table}: run \`await store.migrate()\` once`
    case '42703':
    case '42883':
      return `finds another table at ${table}: choose another name, such as \`table: 'web_sessions'\``
    case '42501':
      return noPermission(table)
    case '28000':
    case '28P01':
    case '3D000':
      return 'cannot log in to PostgreSQL: correct the user, password or database of the pool'
    default:
      return undefined
  }
}

function noPermission(table: string): string {
  return `has no permission for ${table}: GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO its role`
}
