import { SessionStoreError } from '../errors.js'

/** Runs the retries for the same session one after the other, so that they do not conflict with each other. */
export class RetryQueue {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Returns true if a retry for the session `id` is running or waiting. */
  has(id: string): boolean {
    return this.#last.has(id)
  }

  async run<T>(id: string, retry: () => Promise<T>): Promise<T> {
    const turn = takeTurn(this.#last.get(id), retry)
    this.#last.set(id, turn)
    try {
      return await turn
    } finally {
      if (this.#last.get(id) === turn) this.#last.delete(id)
    }
  }
}

async function takeTurn<T>(before: Promise<unknown> | undefined, retry: () => Promise<T>): Promise<T> {
  try {
    await before
  } catch (error) {
    // The previous retry failed because the store is down. Fail now instead of letting every queued retry time out.
    if (error instanceof SessionStoreError) throw error
  }
  return retry()
}
