/** Remembers the cookies whose signature has been verified. */
export interface VerifiedCache<T extends { readonly value: string }> {
  /** Returns the cached entry for a cookie value, or `undefined` if there is none. */
  get(value: string): T | undefined
  keep(entry: T): void
}

/** The maximum number of cookies in one generation. Two full generations take about 10 MB of memory. */
const GENERATION_SIZE = 16_384

/**
 * Creates a cache with a young and an old generation of cookies. When the young one is full, it replaces the old one. A
 * lookup moves a cookie to the young generation, so only cookies that have not been sent for a while are dropped.
 */
export function createVerifiedCache<T extends { readonly value: string }>(
  size = GENERATION_SIZE
): VerifiedCache<T> {
  let young = new Map<string, T>()
  let old = new Map<string, T>()

  function keep(entry: T): void {
    young.set(entry.value, entry)
    if (young.size < size) return
    old = young
    young = new Map()
  }

  return {
    get(value) {
      const recent = young.get(value)
      if (recent !== undefined) return recent
      const entry = old.get(value)
      if (entry !== undefined) keep(entry)
      return entry
    },
    keep
  }
}
