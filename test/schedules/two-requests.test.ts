import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import { STAGINGS } from './fixtures/stagings.js'

/** For an app with two stores, `npm test` runs only one out of this many pairs of requests. */
const SAMPLING = 5

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`on ${name}, every interleaving of two requests keeps every guarantee`, async (t) => {
    const stage = staging()
    const all = choicesOf(2)
    // With two stores, each request takes more steps. Each pair of requests then has hundreds of schedules.
    const choices =
      stage.migrateFrom === undefined || LONG ? all : all.filter((_, at) => at % SAMPLING === SEED % SAMPLING)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
