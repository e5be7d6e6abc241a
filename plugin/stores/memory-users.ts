const SHARDS = 256

/**
 * The ids of each user. In parts, because a Map of a million entries that grows or shrinks is copied whole in one go,
 * which holds the event loop for some 50 ms; a part of it, for a fraction of one.
 */
export class UserIndex {
  /** Most users have one session, for which a set would take as much memory as the session. */
  readonly #shards = Array.from({ length: SHARDS }, () => new Map<string, string | Set<string>>())

  idsOf(userId: string): string[] {
    const ids = this.#shardOf(userId).get(userId) ?? []
    return typeof ids === 'string' ? [ids] : [...ids]
  }

  /** `null` is nobody, of whom nothing is kept. */
  add(userId: string | null, id: string): void {
    if (userId === null) return
    const shard = this.#shardOf(userId)
    const ids = shard.get(userId)
    if (ids === undefined) shard.set(userId, id)
    else if (typeof ids === 'string') shard.set(userId, new Set([ids, id]))
    else ids.add(id)
  }

  remove(userId: string | null, id: string): void {
    if (userId === null) return
    const shard = this.#shardOf(userId)
    const ids = shard.get(userId)
    if (typeof ids === 'object') ids.delete(id)
    if (ids === id || (typeof ids === 'object' && ids.size === 0)) shard.delete(userId)
  }

  /** By the last two characters, which differ where names begin alike. */
  #shardOf(userId: string): Map<string, string | Set<string>> {
    const { length } = userId
    const hash = digit(userId.charCodeAt(length - 1)) * 16 + digit(userId.charCodeAt(length - 2))
    return this.#shards[hash & (SHARDS - 1)] as Map<string, string | Set<string>>
  }
}

/** What a lower-case hex digit stands for, so that numbers and UUIDs fill the parts alike; some number for any other sign. */
function digit(code: number): number {
  return (code & 15) + (code >> 6) * 9
}
