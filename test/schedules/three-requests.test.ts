import fc from 'fast-check'
import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import type { Staging } from './fixtures/stage.js'
import { STAGINGS } from './fixtures/stagings.js'

/** Number of sampled combinations on each store. The long form runs all combinations. */
const SAMPLE = 5
/** Number of sampled combinations with two stores, where each combination has hundreds of schedules. */
const MIGRATING_SAMPLE = { short: 1, long: 150 }

function chosen({ migrateFrom }: Staging): string[][] {
  const all = choicesOf(3)
  if (migrateFrom === undefined) return LONG ? all : sampleOf(all, SAMPLE)
  return sampleOf(all, LONG ? MIGRATING_SAMPLE.long : MIGRATING_SAMPLE.short)
}

function sampleOf(all: string[][], count: number): string[][] {
  return fc
    .sample(fc.subarray(all, { minLength: count, maxLength: count }), { seed: SEED, numRuns: 1 })
    .flat()
}

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`every interleaving of three requests keeps every guarantee, on ${name}`, async (t) => {
    const stage = staging()
    const choices = chosen(stage)
    t.comment(`FUZZ_SEED=${SEED} chose ${choices.length} combinations`)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
