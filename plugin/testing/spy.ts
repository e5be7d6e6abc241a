import { MemoryStore } from '../stores/memory.js'
import type { SessionStore } from '../types.js'

/** The name of a store method. */
export type StoreMethod = keyof SessionStore
/** One call to a store: the name of the method, followed by the arguments. */
export type StoreCall = [StoreMethod, ...unknown[]]

const METHODS = [
  'get',
  'create',
  'update',
  'destroy',
  'listByUser',
  'destroyByUser',
  'cleanup',
  'ready',
  'close'
] as const satisfies readonly StoreMethod[]

/**
 * Returns a store with the same methods as `store`. Each method calls `around` and returns what `around` returns.
 * `around` can change the elements of `args` and can call `next()`, which runs the original method with `args`.
 */
export function wrapStore(
  store: SessionStore,
  around: (method: StoreMethod, args: unknown[], next: () => unknown) => unknown
): SessionStore {
  const methods = METHODS.filter((method) => store[method] !== undefined).map((method) => [
    method,
    (...args: unknown[]) =>
      around(method, args, () => (store[method] as (...args: unknown[]) => unknown).apply(store, args))
  ])
  const { rotationPrefix } = store
  return {
    ...(Object.fromEntries(methods) as SessionStore),
    ...(rotationPrefix !== undefined && { rotationPrefix })
  }
}

/** A store that records the calls made to it. */
export interface SpyStore extends SessionStore {
  /** Returns the calls that were recorded after the last `take()` or `takeNames()`, oldest first. */
  take(): StoreCall[]
  /** Like `take()`, but returns only the names of the methods. */
  takeNames(): StoreMethod[]
}

/** Wraps `store` (default: a new `MemoryStore`) and records every call to it. */
export function spyStore(store: SessionStore = new MemoryStore()): SpyStore {
  const calls: StoreCall[] = []
  const take = () => calls.splice(0)
  const spied = wrapStore(store, (method, args, next) => {
    calls.push([method, ...args])
    return next()
  })
  return { ...spied, take, takeNames: () => take().map(([method]) => method) }
}
