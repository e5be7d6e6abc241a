import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import { STAGINGS } from './fixtures/stagings.js'

/** With two stores, the short form runs one in this many pairs. */
const SAMPLING = 5

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`every interleaving of two requests keeps every guarantee, on ${name}`, async (t) => {
    const stage = staging()
    const all = choicesOf(2)
    // With two stores, a request takes more steps and each pair has hundreds of schedules.
    const choices =
      stage.migrateFrom === undefined || LONG ? all : all.filter((_, at) => at % SAMPLING === SEED % SAMPLING)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
