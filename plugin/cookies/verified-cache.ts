/** Remembers cookies whose signature was verified. */
export interface VerifiedCache<T extends { readonly value: string }> {
  /** Returns the entry of this cookie value, or `undefined` if it was never kept or has been evicted. */
  get(value: string): T | undefined
  keep(entry: T): void
}

/** Cookies per generation. Two full generations take about 10 MB. */
const GENERATION_SIZE = 16_384

/**
 * Creates a cache of two generations, which evicts cookies that nobody has sent for a while. When the young generation
 * is full it becomes the old one, and the old one is dropped. A lookup in the old generation moves the entry to the
 * young one.
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
