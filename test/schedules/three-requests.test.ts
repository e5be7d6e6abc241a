import fc from 'fast-check'
import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import type { Staging } from './fixtures/stage.js'
import { namesOf, STAGINGS } from './fixtures/stagings.js'

/**
 * `npm test` runs this many random combinations of three requests on each store. `npm run fuzz` runs all combinations.
 */
const SAMPLE = 3
/**
 * For an app with two stores, `npm test` runs one combination, and `npm run fuzz` a random sample. Neither command runs
 * all combinations, because each combination has hundreds or thousands of schedules.
 */
const MIGRATING = { short: [['set a', 'rotate', 'logout']], long: 150 }

function chosen(staging: Staging): string[][] {
  const { migrateFrom } = staging
  const all = choicesOf(3, namesOf(staging))
  if (migrateFrom === undefined) return LONG ? all : sampleOf(all, SAMPLE)
  return LONG ? sampleOf(all, MIGRATING.long) : MIGRATING.short
}

function sampleOf(all: string[][], count: number): string[][] {
  return fc
    .sample(fc.subarray(all, { minLength: count, maxLength: count }), { seed: SEED, numRuns: 1 })
    .flat()
}

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`with ${name}, no interleaving of three requests breaks a guarantee`, async (t) => {
    const stage = staging()
    const choices = chosen(stage)
    t.comment(`FUZZ_SEED=${SEED} chose ${choices.length} combinations`)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
