/** Runs the work on each session one after the other. */
export class Queue {
  readonly #last = new Map<string, Promise<unknown>>()
  /** How many ends of each session are waiting. */
  readonly #ends = new Map<string, number>()

  /** Runs `work` as soon as all earlier work on these ids has finished. */
  run<T>(ids: readonly string[], work: () => Promise<T>): Promise<T> {
    const before = ids.flatMap((id) => this.#last.get(id) ?? [])
    const done = Promise.allSettled(before).then(work)
    for (const id of ids) this.#last.set(id, done)
    const forget = (): void => {
      for (const id of ids) if (this.#last.get(id) === done) this.#last.delete(id)
    }
    done.then(forget, forget)
    return done
  }

  /** Runs `work`, which ends a session. Work that is still waiting sees by `isEnding` that it has become pointless. */
  async end<T>(id: string, work: () => Promise<T>): Promise<T> {
    this.#ends.set(id, (this.#ends.get(id) ?? 0) + 1)
    return this.run([id], () => {
      const left = (this.#ends.get(id) as number) - 1
      if (left === 0) this.#ends.delete(id)
      else this.#ends.set(id, left)
      return work()
    })
  }

  isEnding(id: string): boolean {
    return this.#ends.has(id)
  }

  async idle(): Promise<void> {
    await Promise.allSettled(this.#last.values())
  }
}
