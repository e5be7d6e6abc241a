import { setTimeout as delay } from 'node:timers/promises'
import type { SessionRecord, SessionStore } from '../types.js'
import { makePatch } from './records.js'

/** One store call, or `times` increments of a counter. A step can be serialized and sent to another process. */
export type Step =
  | readonly [method: 'get' | 'create' | 'update' | 'destroy' | 'listByUser' | 'destroyByUser', ...unknown[]]
  | readonly [method: 'cleanup']
  | readonly [method: 'increment', id: string, times: number]

/** Runs all steps concurrently. Returns their results in the order of the steps. */
export function runSteps(store: SessionStore, steps: readonly Step[]): Promise<unknown[]> {
  return Promise.all(steps.map((step) => runStep(store, step)))
}

async function runStep(store: SessionStore, step: Step): Promise<unknown> {
  if (step[0] === 'increment') return increment(store, step[1], step[2])
  const [method, ...args] = step
  return (store[method] as (...args: unknown[]) => unknown).apply(store, args)
}

/** Increments the counter at key `n` as often as requested. After a conflict, reads the counter again and retries. */
async function increment(store: SessionStore, id: string, times: number): Promise<number> {
  let done = 0
  while (done < times) {
    const { version, data } = (await store.get(id)) as SessionRecord
    const patch = makePatch({ set: { n: String(Number(data['n']) + 1) }, ifVersion: version })
    if ((await store.update(id, patch)) === 'ok') done++
    else await delay(Math.random() * 2)
  }
  return done
}
