import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import { STAGINGS } from './fixtures/stagings.js'

/** Of the pairs on two stores, one in so many. */
const EVERY = 5

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`every interleaving of two requests keeps what is promised, on ${name}`, async (t) => {
    const stage = staging()
    const all = choicesOf(2)
    // Where a request is several steps of two stores, a pair has hundreds of schedules.
    const choices =
      stage.migrateFrom === undefined || LONG ? all : all.filter((_, at) => at % EVERY === SEED % EVERY)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
