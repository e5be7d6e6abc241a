import { mock } from 'node:test'

/** A mocked `Date` and mocked intervals, which only advance when the test calls `move()`. */
export interface Clock {
  /** The time at which the clock was stopped, in ms since the epoch. */
  readonly start: number
  /** Advances the clock by `milliseconds` and runs the intervals that fall due. */
  move(milliseconds: number): void
  /** Restores the real clock. */
  restore(): void
}

/**
 * Stops `Date` and `setInterval` until `restore()`, with the mock timers of `node:test`. `setTimeout` keeps running,
 * because database drivers need it.
 * @param now the time to stop at, in ms since the epoch. Default: the current time.
 */
export function stopClock(now: number = Date.now()): Clock {
  mock.timers.enable({ apis: ['Date', 'setInterval'], now })
  return {
    start: now,
    move: (milliseconds) => mock.timers.tick(milliseconds),
    restore: () => mock.timers.reset()
  }
}
