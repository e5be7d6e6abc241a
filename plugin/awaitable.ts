import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Awaitable } from './types.js'

/** Like `value.then(next)`, but calls `next` synchronously if `value` is not a promise. */
export function then<T, R>(value: Awaitable<T>, next: (value: T) => Awaitable<R>): Awaitable<R> {
  return isPromise(value) ? value.then(next) : next(value)
}

export function isPromise<T>(value: Awaitable<T>): value is PromiseLike<T> {
  return typeof (value as { then?: unknown } | undefined | null)?.then === 'function'
}

/**
 * Resolves or rejects with the result of `promise`. If that takes longer than `milliseconds`, rejects with the error that
 * `makeError` returns.
 */
export function withTimeout<T>(
  promise: PromiseLike<T>,
  milliseconds: number,
  makeError = () => new Error(`No answer within ${milliseconds} ms`)
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(makeError()), milliseconds)
    Promise.resolve(promise)
      .finally(() => clearTimeout(timer))
      .then(resolve, reject)
  })
}

/** How many items are handled in one turn of the event loop. */
const SLICE = 128

/** Like `items.map(fn)`, but yields to the event loop regularly, so that thousands of items never block it for long. */
export async function mapInSlices<T, R>(items: readonly T[], fn: (item: T) => Awaitable<R>): Promise<R[]> {
  const results: R[] = []
  for (const [index, item] of items.entries()) {
    if (index > 0 && index % SLICE === 0) await nextTurn()
    const result = fn(item)
    results.push(isPromise(result) ? await result : result)
  }
  return results
}
