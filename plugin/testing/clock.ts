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
 * @throws {Error} in Jest, which gives each test file a `Date` of its own.
 */
export function stopClock(now: number = Date.now()): Clock {
  const RealDate = Date
  mock.timers.enable({ apis: ['Date', 'setInterval'], now })
  if (Date === RealDate) {
    mock.timers.reset()
    throw new Error(
      'stopClock() cannot stop the Date of this test file, because Jest gives each file globals of its own: use jest.useFakeTimers() instead'
    )
  }
  return {
    start: now,
    move: (milliseconds) => mock.timers.tick(milliseconds),
    restore: () => mock.timers.reset()
  }
}
