const SHARDS = 256

/**
 * A Map in parts. A Map of a million entries that grows or shrinks is copied whole in one go, which holds the event loop
 * for some 50 ms; a part of it, for a fraction of one.
 */
export class ShardedMap<V> {
  readonly #shards = Array.from({ length: SHARDS }, () => new Map<string, V>())
  #size = 0

  get size(): number {
    return this.#size
  }

  get(key: string): V | undefined {
    return this.#shardOf(key).get(key)
  }

  set(key: string, value: V): void {
    const shard = this.#shardOf(key)
    const { size } = shard
    shard.set(key, value)
    this.#size += shard.size - size
  }

  delete(key: string): void {
    if (this.#shardOf(key).delete(key)) this.#size--
  }

  /** All that stay until it has come by. What comes meanwhile may be met, but never keeps it from its end. */
  *values(): Generator<V, void> {
    for (const shard of this.#shards) {
      let left = shard.size
      for (const value of shard.values()) {
        if (left-- === 0) break
        yield value
      }
    }
  }

  /** By the last two characters, which differ where names begin alike. */
  #shardOf(key: string): Map<string, V> {
    const { length } = key
    const hash = digit(key.charCodeAt(length - 1)) * 16 + digit(key.charCodeAt(length - 2))
    return this.#shards[hash & (SHARDS - 1)] as Map<string, V>
  }
}

/** What a lower-case hex digit stands for, so that ids fill all shards alike; some number for any other character. */
function digit(code: number): number {
  return (code & 15) + (code >> 6) * 9
}
