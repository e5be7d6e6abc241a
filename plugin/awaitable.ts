import type { Awaitable } from './types.js'

/** Goes on with `next` at once when the value is there, and when it comes otherwise. */
export function then<T, R>(value: Awaitable<T>, next: (value: T) => Awaitable<R>): Awaitable<R> {
  return isPromise(value) ? value.then(next) : next(value)
}

export function isPromise<T>(value: Awaitable<T>): value is PromiseLike<T> {
  return typeof (value as { then?: unknown } | undefined | null)?.then === 'function'
}

/** What `work` gives, or what `onFailure` makes of its error, whether it comes at once or later. */
export function recover<T>(
  work: () => Awaitable<T>,
  onFailure: (error: unknown) => Awaitable<T>
): Awaitable<T> {
  try {
    const value = work()
    return isPromise(value) ? value.then(undefined, onFailure) : value
  } catch (error) {
    return onFailure(error)
  }
}

/** The promise's own outcome, or a rejection when it takes longer than `milliseconds`. */
export function withTimeout<T>(promise: PromiseLike<T>, milliseconds: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`No answer within ${milliseconds} ms`)), milliseconds)
    Promise.resolve(promise)
      .finally(() => clearTimeout(timer))
      .then(resolve, reject)
  })
}
