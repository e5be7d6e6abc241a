import t from 'tap'
import { LONG, makeProgress } from '../fuzz/fixtures/runs.js'
import { choicesOf } from './fixtures/operations.js'
import { exploreEach } from './fixtures/run.js'
import type { Staging } from './fixtures/stage.js'
import { LIMITED } from './fixtures/stagings.js'

const SIGN_INS = ['sign in', 'sign in with data', 'login ada']
/** The sign-ins, and what other requests of the user can do at the same time. */
const NAMES = [...SIGN_INS, 'set a', 'logout', 'revoke all']

/** `npm test` runs at most one combination of three requests, because each has hundreds of schedules. */
function triplesOf({ options }: Staging): string[][] {
  return options?.maxSessionsPerUser === 1 ? [['sign in', 'sign in', 'sign in']] : []
}

const hasSignIn = (names: readonly string[]): boolean => names.some((name) => SIGN_INS.includes(name))

for (const [name, staging] of Object.entries(LIMITED)) {
  void t.test(
    `with ${name}, overlapping sign-ins on two servers stay within the limit, and none is told success for a session that another one ends`,
    async (t) => {
      const stage = staging()
      const pairs = choicesOf(2, NAMES).filter(hasSignIn)
      const choices = [...pairs, ...(LONG ? choicesOf(3, NAMES).filter(hasSignIn) : triplesOf(stage))]
      await exploreEach(t, stage, choices, makeProgress(t, choices.length))
    }
  )
}
