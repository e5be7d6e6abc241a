import t from 'tap'
import { exploreAll, type Step, type World } from './fixtures/explore.js'

/**
 * Simulates actors that take the given steps. The store and the browser are each simulated by a string, to which every
 * change appends the number of the actor. Each string therefore shows the order of the changes.
 */
function makeWorlds(kinds: readonly (readonly Step['kind'][])[]) {
  const outcomes: string[] = []
  const begin = async (): Promise<World> => {
    const left = kinds.map((steps) => [...steps])
    const seen: string[] = []
    const places = { store: '', browser: '' }
    return {
      enabled: () => left.flatMap(([kind], actor) => (kind === undefined ? [] : [{ actor, kind }])),
      async take({ actor, kind }) {
        left[actor]?.shift()
        if (kind === 'clock' || kind === 'write') places.store += String(actor)
        if (kind === 'clock' || kind === 'arrive') places.browser += String(actor)
        if (kind === 'look') seen.push(`${actor} saw ${places.store}`)
        if (kind === 'start') seen.push(`${actor} had ${places.browser}`)
      },
      finish: async () => void outcomes.push(JSON.stringify([places, seen.sort()])),
      clear: async () => undefined
    }
  }
  return { begin, outcomes }
}

/** Runs the steps in every possible order. Unlike the explorer, this function does not skip any order. */
async function runEveryOrder(begin: () => Promise<World>, path: Step[] = []): Promise<void> {
  const world = await begin()
  for (const step of path) await world.take(step)
  const enabled = world.enabled()
  if (enabled.length === 0) await world.finish()
  for (const step of enabled) await runEveryOrder(begin, [...path, step])
}

void t.test('the explorer tries every order of steps that depend on each other', async (t) => {
  const { begin, outcomes } = makeWorlds([
    ['clock', 'clock'],
    ['clock', 'clock'],
    ['clock', 'clock']
  ])
  t.same(await exploreAll(begin), { schedules: 90, pruned: 0 })
  t.equal(new Set(outcomes).size, 90)
})

for (const kinds of [
  [
    ['start', 'look', 'write', 'arrive'],
    ['start', 'look', 'write', 'arrive']
  ],
  [['start', 'look', 'write', 'arrive'], ['start', 'look', 'arrive'], ['clock']],
  [
    ['look', 'write'],
    ['look', 'write', 'write'],
    ['start', 'write']
  ]
] as Step['kind'][][][]) {
  void t.test(
    `an order of requests is skipped only if its outcome is already known: ${kinds.join(' × ')}`,
    async (t) => {
      const [reduced, full] = [makeWorlds(kinds), makeWorlds(kinds)]
      const { schedules } = await exploreAll(reduced.begin)
      await runEveryOrder(full.begin)
      t.same(new Set(reduced.outcomes), new Set(full.outcomes))
      t.ok(schedules < full.outcomes.length, `${schedules} of ${full.outcomes.length} orders were run`)
    }
  )
}
