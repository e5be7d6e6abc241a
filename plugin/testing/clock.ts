import { mock } from 'node:test'

/** `Date` and intervals that stand still until the test moves them. */
export interface Clock {
  /** Where it stood at first, in ms since the epoch. */
  readonly start: number
  /** Moves on by `milliseconds`; intervals that fall due run. */
  move(milliseconds: number): void
  /** Gives the real clock back. */
  restore(): void
}

/**
 * Stops `Date` and `setInterval`, by the mock timers of `node:test`, until `restore()`. `setTimeout` goes on, because
 * drivers of databases need it. `now`: ms since the epoch, default the present.
 */
export function stopClock(now: number = Date.now()): Clock {
  mock.timers.enable({ apis: ['Date', 'setInterval'], now })
  return {
    start: now,
    move: (milliseconds) => mock.timers.tick(milliseconds),
    restore: () => mock.timers.reset()
  }
}
