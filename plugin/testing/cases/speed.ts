import assert from 'node:assert/strict'
import type { SessionPatch, SessionStore } from '../../types.js'
import { idOf, makePatch, makeRecord } from '../records.js'
import type { Case } from '../store.js'

const FEW = 4000
const MANY = 16_000
/** Updating 4 times as many keys takes 4 times as long in linear time, but 16 times as long in quadratic time. */
const MAX_RATIO = 12
/** Times below this limit (in ms) always pass, because they depend mostly on CPU caches and garbage collection. */
const NEGLIGIBLE = 100
/** Early rounds warm up the store. Only the shortest times are compared, because other processes only add time. */
const MIN_ROUNDS = 3
const MAX_ROUNDS = 10

type Change = (keys: readonly string[]) => Partial<SessionPatch>

const CHANGES: Readonly<Record<string, Change>> = {
  setting: (keys) => ({ set: textsFor(keys, '2') }),
  removing: (keys) => ({ remove: keys })
}

export const speedCases: readonly Case[] = Object.entries(CHANGES).map(([name, change]) => ({
  name: `${name} many keys takes time in proportion to their number`,
  async run({ store }) {
    let [few, many] = [Infinity, Infinity]
    for (let round = 1; round <= MAX_ROUNDS; round++) {
      few = Math.min(few, await timeOf(store, FEW, change))
      many = Math.min(many, await timeOf(store, MANY, change))
      if (round >= MIN_ROUNDS && many < Math.max(MAX_RATIO * few, NEGLIGIBLE)) return
    }
    const ratio = (many / few).toFixed(1)
    assert.fail(`${MANY} keys take ${ratio} times as long as ${FEW}: ${many} ms instead of ${few} ms`)
  }
}))

/** Returns how many milliseconds the store takes to change all keys of a session that has `count` keys. */
async function timeOf(store: SessionStore, count: number, change: Change): Promise<number> {
  const id = idOf(`${count} keys`)
  const keys = Array.from({ length: count }, (_, index) => `key ${index}`)
  await store.create(id, makeRecord({ data: textsFor(keys, '1') }))
  // The patch has the keys in reverse order, so that a linear search for each key would take quadratic time in total.
  const patch = makePatch(change(keys.toReversed()))
  const start = performance.now()
  assert.equal(await store.update(id, patch), 'ok')
  const time = performance.now() - start
  await store.destroy(id)
  return time
}

function textsFor(keys: readonly string[], text: string): Record<string, string> {
  return Object.fromEntries(keys.map((key) => [key, text]))
}
