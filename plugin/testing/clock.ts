import { mock } from 'node:test'

/** A mock clock for `Date` and `setInterval`. Its time advances only when the test calls `move()`. */
export interface Clock {
  /** The initial time of the mock clock, in ms since the epoch. */
  readonly start: number
  /** Advances the clock by `milliseconds` and runs the callbacks of the intervals that are due. */
  move(milliseconds: number): void
  /** Restores the real clock. */
  restore(): void
}

/**
 * Replaces `Date` and `setInterval` with the mock timers of `node:test` until `restore()` is called. `setTimeout` keeps
 * running in real time, because database drivers need it.
 * @param now the initial time of the mock clock, in ms since the epoch. Default: the current time.
 */
export function stopClock(now: number = Date.now()): Clock {
  mock.timers.enable({ apis: ['Date', 'setInterval'], now })
  return {
    start: now,
    move: (milliseconds) => mock.timers.tick(milliseconds),
    restore: () => mock.timers.reset()
  }
}
