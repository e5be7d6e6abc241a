import t from 'tap'
import { LONG, makeProgress, SEED } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import { namesOf, STAGINGS } from './fixtures/stagings.js'

for (const [name, staging] of Object.entries(STAGINGS)) {
  void t.test(`with ${name}, no interleaving of two requests breaks a guarantee`, async (t) => {
    const stage = staging()
    const { sampling = 1 } = stage
    const all = choicesOf(2, namesOf(stage))
    const choices = LONG ? all : all.filter((_, at) => at % sampling === SEED % sampling)
    await exploreEach(t, stage, choices, makeProgress(t, choices.length))
  })
}
