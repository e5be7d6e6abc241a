import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionRecord, SessionStore } from '../../types.js'
import { idOf, makeRecord } from '../records.js'
import { runSteps, type Step } from '../steps.js'
import type { Case, Subject } from '../store.js'

// The lock of a user's sign-ins relies on these cases, because it is a record that is created again and again.

/** How many calls create one id at the same time. */
const CREATES = 20
const IDS = Array.from({ length: 10 }, (_, index) => idOf(`created ${index}`))
/** How long a record lives that must expire, and how long a case waits for that, in milliseconds. */
const [LIFETIME, WAIT] = [50, 75]

type Create = readonly [method: 'create', id: string, record: SessionRecord]
/** Runs two lists of calls concurrently, and returns all results in the order of the calls. */
type RunHalves = (one: readonly Step[], two: readonly Step[]) => Promise<unknown[]>

/** Returns half of the calls that create each id. The data of each record says which call it comes from. */
function createsBy(name: string): Create[] {
  const records = Array.from({ length: CREATES / 2 }, (_, index) =>
    makeRecord({ data: { by: `"${name} ${index}"` } })
  )
  return records.flatMap((record) => IDS.map((id): Create => ['create', id, record]))
}

async function raceToCreate(store: SessionStore, run: RunHalves): Promise<void> {
  const [one, two] = [createsBy('one'), createsBy('two')]
  const answers = await run(one, two)
  const created = [...one, ...two].filter((_, index) => answers[index] === true)
  assert.deepEqual(created.map(([, id]) => id).sort(), [...IDS].sort(), 'one create of each id succeeds')
  for (const [, id, { data }] of created) assert.deepEqual({ ...(await store.get(id))?.data }, data)
}

async function raceToReplace(store: SessionStore, run: RunHalves): Promise<void> {
  for (const id of IDS) await store.create(id, makeRecord({ data: {}, expiresAt: Date.now() + LIFETIME }))
  await delay(WAIT)
  await raceToCreate(store, run)
}

const RACES: Readonly<Record<string, typeof raceToCreate>> = {
  'of 20 parallel creates of one id, exactly one succeeds (E8)': raceToCreate,
  'of 20 parallel creates of the id of an expired record, exactly one succeeds (E8)': raceToReplace
}

async function inTwoProcesses({ processes, process }: Subject): Promise<RunHalves> {
  const [first, second] = await processes.connect(process)
  return async (one, two) => (await Promise.all([first(one), second(two)])).flat()
}

export const createCases: readonly Case[] = Object.entries(RACES).flatMap(([name, race]): Case[] => [
  { name, run: ({ store }) => race(store, (one, two) => runSteps(store, [...one, ...two])) },
  {
    name: `${name}, from two processes (E14)`,
    needs: 'two processes',
    run: async (subject) => race(subject.store, await inTwoProcesses(subject))
  }
])
