const SHARDS = 32
const FEWEST_PLACES = 16

/** `places`: pairs of an id's hash and its row, the row one too high, so that 0 is a free place. A power of two. */
interface Shard {
  places: Int32Array
  size: number
}

/**
 * Finds the row of an id: a hash table with open addressing in flat memory, where a look-up meets one line of the
 * processor's cache, and the garbage collector nothing. In parts, because a table that grows is copied in one go, which
 * holds the event loop: a part of a million, for about a millisecond.
 *
 * The end of an id makes its hash, so that a search takes longer for an id with the end of one that is there. Ids are hex
 * SHA-256 of what a client has, which nobody can choose or come closer to.
 */
export class RowIndex {
  readonly #shards: readonly Shard[] = Array.from({ length: SHARDS }, () => ({
    places: new Int32Array(2 * FEWEST_PLACES),
    size: 0
  }))
  readonly #idAt: (row: number) => string

  /** `idAt`: the id of a row that is in the index. */
  constructor(idAt: (row: number) => string) {
    this.#idAt = idAt
  }

  /** -1 when the id is not there. */
  find(id: string): number {
    const hash = hashOf(id)
    const { places } = this.#shardOf(hash)
    let at = firstOf(places, hash)
    let row = (places[at + 1] as number) - 1
    while (row !== -1 && !(places[at] === hash && this.#idAt(row) === id)) {
      at = nextOf(places, at)
      row = (places[at + 1] as number) - 1
    }
    return row
  }

  /** The id must not be there. */
  add(id: string, row: number): void {
    const hash = hashOf(id)
    const shard = this.#shardOf(hash)
    shard.size++
    // At most half full: a search then meets two or three.
    if (shard.size * 4 > shard.places.length) resize(shard, shard.places.length * 2)
    put(shard.places, hash, row)
  }

  /** The id, which must be there, is in another row from now on. */
  move(id: string, from: number, to: number): void {
    const hash = hashOf(id)
    const { places } = this.#shardOf(hash)
    places[placeOf(places, hash, from) + 1] = to + 1
  }

  /** The id must be there. */
  remove(id: string, row: number): void {
    const hash = hashOf(id)
    const shard = this.#shardOf(hash)
    shard.size--
    free(shard.places, placeOf(shard.places, hash, row))
    if (shard.size * 16 < shard.places.length && shard.places.length > 2 * FEWEST_PLACES)
      resize(shard, shard.places.length / 2)
  }

  #shardOf(hash: number): Shard {
    return this.#shards[hash >>> 27] as Shard
  }
}

/** Multiplied at last, so that its high bits, which choose the shard, depend on all characters. */
function hashOf(id: string): number {
  let hash = 0
  for (let at = Math.max(0, id.length - 8); at < id.length; at++)
    hash = Math.imul(hash, 0x01000193) ^ id.charCodeAt(at)
  return Math.imul(hash, 0x9e3779b1)
}

function firstOf(places: Int32Array, hash: number): number {
  return (hash << 1) & (places.length - 1)
}

function nextOf(places: Int32Array, at: number): number {
  return (at + 2) & (places.length - 1)
}

/** Where a row is; `row` -1: where the next one goes. */
function placeOf(places: Int32Array, hash: number, row: number): number {
  let at = firstOf(places, hash)
  while (places[at + 1] !== row + 1) at = nextOf(places, at)
  return at
}

function put(places: Int32Array, hash: number, row: number): void {
  const at = placeOf(places, hash, -1)
  places[at] = hash
  places[at + 1] = row + 1
}

/** What lies behind moves up where its search would end at the free place. */
function free(places: Int32Array, place: number): void {
  let hole = place
  for (let at = nextOf(places, hole); places[at + 1] !== 0; at = nextOf(places, at)) {
    const hash = places[at] as number
    const first = firstOf(places, hash)
    const stepsTo = (from: number): number => (at - from) & (places.length - 1)
    if (stepsTo(first) < stepsTo(hole)) continue
    places[hole] = hash
    places[hole + 1] = places[at + 1] as number
    hole = at
  }
  places[hole + 1] = 0
}

function resize(shard: Shard, length: number): void {
  const { places } = shard
  shard.places = new Int32Array(length)
  for (let at = 0; at < places.length; at += 2) {
    const row = (places[at + 1] as number) - 1
    if (row !== -1) put(shard.places, places[at] as number, row)
  }
}
