import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import { STAGINGS } from './fixtures/stagings.js'

/** For an app with two stores, `npm test` runs only one of every `SAMPLING` pairs of requests. */
const SAMPLING = 5

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`with ${name}, no interleaving of two requests breaks a guarantee`, async (t) => {
    const stage = staging()
    const all = choicesOf(2)
    // With two stores, each request takes more steps, and each pair of requests has hundreds of schedules.
    const choices =
      stage.migrateFrom === undefined || LONG ? all : all.filter((_, at) => at % SAMPLING === SEED % SAMPLING)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
