/** The largest difference between the clocks of this process and of a database that is not reported, in milliseconds. */
export const LARGEST_SKEW = 5000

/**
 * Returns how far the clock of a database is ahead of the clock of this process, in milliseconds. `time` is the time that
 * the database told. This process asked for it at `asked` and knew it at `answered`.
 */
export function skewOf(time: number, asked: number, answered: number): number {
  return Math.min(time - asked, 0) + Math.max(time - answered, 0)
}
