/** What was put lately: at least the last `size` entries that were put or got, at most twice as many. */
export interface Recent<V> {
  get(key: string): V | undefined
  put(key: string, value: V): void
}

/** Two generations: when the young one is full, it becomes the old one, and what nobody asked for meanwhile is gone. */
export function createRecent<V>(size: number): Recent<V> {
  let young = new Map<string, V>()
  let old = new Map<string, V>()

  function put(key: string, value: V): void {
    if (young.size >= size) {
      old = young
      young = new Map()
    }
    young.set(copyOf(key), value)
  }

  function get(key: string): V | undefined {
    const value = young.get(key)
    if (value !== undefined) return value
    const older = old.get(key)
    if (older !== undefined) put(key, older)
    return older
  }

  return { get, put }
}

/** An ASCII text of its own: a part of a header would keep the whole header in memory. */
export function copyOf(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}
