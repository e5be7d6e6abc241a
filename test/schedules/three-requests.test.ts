import fc from 'fast-check'
import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import type { Staging } from './fixtures/stage.js'
import { STAGINGS } from './fixtures/stagings.js'

/** So many combinations on each store; the long form takes them all. */
const SOME = 5
/** So many where a request is several steps of two stores, and a combination has hundreds of schedules. */
const FEW = { short: 1, long: 150 }

function chosen({ migrateFrom }: Staging): string[][] {
  const all = choicesOf(3)
  if (migrateFrom === undefined) return LONG ? all : someOf(all, SOME)
  return someOf(all, LONG ? FEW.long : FEW.short)
}

function someOf(all: string[][], count: number): string[][] {
  return fc
    .sample(fc.subarray(all, { minLength: count, maxLength: count }), { seed: SEED, numRuns: 1 })
    .flat()
}

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`every interleaving of three requests keeps what is promised, on ${name}`, async (t) => {
    const stage = staging()
    const choices = chosen(stage)
    t.comment(`FUZZ_SEED=${SEED} chose ${choices.length} combinations`)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
