/** What was verified lately, by its value. */
export interface Recent<T extends { readonly value: string }> {
  /** The item of this value; `undefined` where it was never kept, or has made room for others since. */
  get(value: string): T | undefined
  keep(item: T): void
  /** Keeps what `make` gives where the value came before, not long ago: who comes once takes no memory. */
  keepIfSeen(value: string, make: () => T): void
}

/** A power of two. About 10 MB of cookies where all of them are in use. */
const SLOTS = 32_768
/** Slots, next to each other, that a value may be in. When they are full, the one that was filled first makes room. */
const WAYS = 8
/** A slot that is none, and nevertheless in bounds, beyond which reading is slow. */
const NOWHERE = SLOTS

/**
 * A table of fixed size, made as a processor's cache is. A Map hashes the whole value at each look-up, which is most of
 * what that costs.
 *
 * The values end in a signature, and the last of its characters make the hash. So whoever has no cookie that is kept here
 * must guess 32 bits, which only the secret gives, before anything is compared with it.
 */
export function createRecent<T extends { readonly value: string }>(): Recent<T> {
  const hashes = new Int32Array(SLOTS)
  const items = new Array<T | undefined>(SLOTS + 1).fill(undefined)

  function slotOf(hash: number): number {
    const first = firstOf(hash)
    for (let slot = first; slot < first + WAYS; slot++) if (hashes[slot] === hash) return slot
    return NOWHERE
  }

  /** The first slot, after what was in it and behind it has moved on. */
  function makeRoom(hash: number): number {
    const first = firstOf(hash)
    moveOn(hashes, first)
    moveOn(items, first)
    hashes[first] = hash
    items[first] = undefined
    return first
  }

  return {
    get(value) {
      const item = items[slotOf(hashOf(value))]
      return item?.value === value ? item : undefined
    },
    keep(item) {
      const hash = hashOf(item.value)
      const slot = slotOf(hash)
      items[slot === NOWHERE ? makeRoom(hash) : slot] = item
    },
    keepIfSeen(value, make) {
      const hash = hashOf(value)
      const slot = slotOf(hash)
      if (slot === NOWHERE) makeRoom(hash)
      else items[slot] = make()
    }
  }
}

/** Not with copyWithin(), which asks an array for each element whether it is there, and takes eight times as long. */
function moveOn<E>(slots: { [slot: number]: E }, first: number): void {
  for (let slot = first + WAYS - 1; slot > first; slot--) slots[slot] = slots[slot - 1] as E
}

/** Of the last nine characters but the very last, which has fewer bits. */
function hashOf(value: string): number {
  let hash = 0
  for (let at = value.length - 9; at < value.length - 1; at++)
    hash = Math.imul(hash, 61) + value.charCodeAt(at)
  return hash | 0
}

function firstOf(hash: number): number {
  return (hash & (SLOTS / WAYS - 1)) * WAYS
}
