import { MemoryStore } from '../stores/memory.js'
import type { SessionStore } from '../types.js'

export type StoreMethod = keyof SessionStore
/** A method's name, and the arguments that it was called with. */
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

/** The same store, each method that it has behind `around`, which calls `next` to go on. */
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

export interface SpyStore extends SessionStore {
  /** The calls since the last `take()`, each with its arguments. */
  take(): StoreCall[]
  /** The names of the calls since the last `take()`. */
  takeNames(): StoreMethod[]
}

/** Records every call that reaches `store`; default a new `MemoryStore`. */
export function spyStore(store: SessionStore = new MemoryStore()): SpyStore {
  const calls: StoreCall[] = []
  const take = () => calls.splice(0)
  const spied = wrapStore(store, (method, args, next) => {
    calls.push([method, ...args])
    return next()
  })
  return { ...spied, take, takeNames: () => take().map(([method]) => method) }
}
