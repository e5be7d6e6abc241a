import assert from 'node:assert/strict'
import type { SessionRecord, SessionStore, StoredSession } from '../../types.js'
import { idOf, makePatch, makeRecord } from '../records.js'
import { runSteps, type Step } from '../steps.js'
import type { Capability, Case, Subject } from '../store.js'

/** A race between two store calls. It is repeated in many rounds, and each round has its own session and user. */
interface Race {
  readonly name: string
  readonly needs?: Capability
  /** Fields of the record that exists when a round starts. If `before` is absent, no record exists. */
  readonly before?: Partial<SessionRecord>
  sides(round: Round): readonly [Step, Step]
  /** Asserts what must be true, whichever of the two calls ran first. */
  check(round: Round, answers: readonly [unknown, unknown], store: SessionStore): Promise<void>
}

interface Round {
  readonly id: string
  readonly other: string
  readonly another: string
  /** A user id that no other round uses. */
  readonly user: string
}

const ROUNDS = 40
/** Two long, different values. The checks notice if a record holds a mixture of them. */
const [LONG_A, LONG_B] = [JSON.stringify('a'.repeat(5000)), JSON.stringify('b'.repeat(5000))]

const dataRaces: readonly Race[] = [
  {
    name: 'an update racing a destroy does not revive the session (E1)',
    before: {},
    sides: ({ id }) => [
      ['destroy', id],
      ['update', id, makePatch({ set: { a: '1' } })]
    ],
    async check({ id }, [destroyed, updated], store) {
      assert.equal(destroyed, true)
      assert.ok(updated === 'ok' || updated === 'gone')
      assert.equal(await store.get(id), undefined)
    }
  },
  {
    name: 'a touch racing a destroy does not revive the session (E2)',
    before: {},
    sides: ({ id }) => [
      ['destroy', id],
      ['update', id, makePatch()]
    ],
    async check({ id }, [destroyed, touched], store) {
      assert.equal(destroyed, true)
      assert.ok(touched === 'ok' || touched === 'gone')
      assert.equal(await store.get(id), undefined)
    }
  },
  {
    name: 'when a rename races a destroy, one wins and the old id is gone (E3)',
    before: {},
    sides: ({ id, other }) => [
      ['destroy', id],
      ['update', id, makePatch({ renameTo: other })]
    ],
    async check({ id, other }, [destroyed, renamed], store) {
      assert.equal(renamed, destroyed === true ? 'gone' : 'ok')
      assert.equal(await store.get(id), undefined)
      assert.equal((await store.get(other)) !== undefined, renamed === 'ok')
    }
  },
  {
    name: 'when two renames race, one wins and the other returns gone (E4)',
    before: {},
    sides: ({ id, other, another }) => [
      ['update', id, makePatch({ renameTo: other })],
      ['update', id, makePatch({ renameTo: another })]
    ],
    async check({ id, other, another }, answers, store) {
      assert.deepEqual([...answers].sort(), ['gone', 'ok'])
      assert.equal(await store.get(id), undefined)
      assert.equal((await store.get(other)) !== undefined, answers[0] === 'ok')
      assert.equal((await store.get(another)) !== undefined, answers[1] === 'ok')
    }
  },
  {
    name: 'concurrent changes to different keys are both kept (E5)',
    before: {},
    sides: ({ id }) => [
      ['update', id, makePatch({ set: { a: LONG_A } })],
      ['update', id, makePatch({ set: { b: LONG_B }, remove: ['name'] })]
    ],
    async check({ id }, answers, store) {
      assert.deepEqual(answers, ['ok', 'ok'])
      const { data, version } = (await store.get(id)) as SessionRecord
      assert.deepEqual({ ...data }, { a: LONG_A, b: LONG_B })
      assert.equal(version, 3)
    }
  },
  {
    name: 'when two changes to the same keys race, the record never holds a mixture of the two (E6)',
    before: {},
    sides: ({ id }) => [
      ['update', id, makePatch({ set: { x: LONG_A, y: LONG_A } })],
      ['update', id, makePatch({ set: { x: LONG_B, y: LONG_B } })]
    ],
    async check({ id }, answers, store) {
      assert.deepEqual(answers, ['ok', 'ok'])
      const { data, version } = (await store.get(id)) as SessionRecord
      assert.ok(data['x'] === LONG_A || data['x'] === LONG_B)
      assert.ok(data['x'] === data['y'])
      assert.equal(version, 3)
    }
  },
  {
    name: 'when two writes with the same ifVersion race, one returns conflict',
    before: {},
    sides: ({ id }) => [
      ['update', id, makePatch({ set: { a: '1' }, ifVersion: 1 })],
      ['update', id, makePatch({ set: { b: '1' }, ifVersion: 1 })]
    ],
    async check({ id }, answers, store) {
      assert.deepEqual([...answers].sort(), ['conflict', 'ok'])
      const { data, version } = (await store.get(id)) as SessionRecord
      assert.equal(Object.hasOwn(data, 'a'), answers[0] === 'ok')
      assert.equal(Object.hasOwn(data, 'b'), answers[1] === 'ok')
      assert.equal(version, 2)
    }
  },
  {
    name: 'when two creates race for one id, one record is stored unchanged and the other is refused (E8)',
    sides: ({ id }) => [
      ['create', id, makeRecord({ data: { x: LONG_A, y: LONG_A } })],
      ['create', id, makeRecord({ data: { x: LONG_B, y: LONG_B } })]
    ],
    async check({ id }, answers, store) {
      assert.deepEqual([...answers].sort(), [false, true])
      const text = answers[0] === true ? LONG_A : LONG_B
      assert.deepEqual({ ...(await store.get(id))?.data }, { x: text, y: text })
    }
  },
  {
    name: 'when a rename and a create race for one id, only one succeeds',
    before: { data: { renamed: '1' } },
    sides: ({ id, other }) => [
      ['update', id, makePatch({ renameTo: other })],
      ['create', other, makeRecord({ data: { created: '1' } })]
    ],
    async check({ id, other }, [renamed, created], store) {
      assert.equal(renamed, created === true ? 'conflict' : 'ok')
      assert.equal((await store.get(id)) !== undefined, renamed === 'conflict')
      const { data } = (await store.get(other)) as SessionRecord
      assert.deepEqual({ ...data }, created === true ? { created: '1' } : { renamed: '1' })
    }
  },
  {
    name: 'when two destroys race, only one finds the record',
    before: {},
    sides: ({ id }) => [
      ['destroy', id],
      ['destroy', id]
    ],
    async check({ id }, answers, store) {
      assert.deepEqual([...answers].sort(), [false, true])
      assert.equal(await store.get(id), undefined)
    }
  }
]

const userRaces: readonly Race[] = [
  {
    name: 'a destroy during listByUser leaves no entry behind in the user’s list (E9)',
    needs: 'by user',
    before: {},
    sides: ({ id, user }) => [
      ['listByUser', user],
      ['destroy', id]
    ],
    async check({ user }, [listed, destroyed], store) {
      assert.equal(destroyed, true)
      for (const { record } of listed as StoredSession[]) assert.equal(record.userId, user)
      assert.deepEqual(await store.listByUser?.(user), [])
    }
  },
  {
    name: 'an update racing destroyByUser does not revive the session',
    needs: 'by user',
    before: {},
    sides: ({ id, user }) => [
      ['destroyByUser', user],
      ['update', id, makePatch({ set: { a: '1' } })]
    ],
    async check({ id, user }, [count], store) {
      assert.equal(count, 1)
      assert.equal(await store.get(id), undefined)
      assert.deepEqual(await store.listByUser?.(user), [])
    }
  },
  {
    name: 'a session that is renamed during destroyByUser is still destroyed',
    needs: 'by user',
    before: {},
    sides: ({ id, other, user }) => [
      ['destroyByUser', user],
      ['update', id, makePatch({ renameTo: other })]
    ],
    async check({ id, other, user }, _answers, store) {
      assert.equal(await store.get(id), undefined)
      assert.equal(await store.get(other), undefined)
      assert.deepEqual(await store.listByUser?.(user), [])
    }
  },
  {
    name: 'destroyByUser ends the existing session, but a session created at the same time may survive',
    needs: 'by user',
    before: {},
    sides: ({ other, user }) => [
      ['destroyByUser', user],
      ['create', other, makeRecord({ userId: user })]
    ],
    async check({ id, other, user }, [count, created], store) {
      assert.equal(created, true)
      assert.equal(await store.get(id), undefined)
      const there = (await store.get(other)) !== undefined
      assert.equal(count, there ? 1 : 2)
      const listed = await store.listByUser?.(user)
      assert.deepEqual(
        listed?.map((session) => session.id),
        there ? [other] : []
      )
    }
  }
]

const RACES = [...dataRaces, ...userRaces]

/** Runs two lists of store calls concurrently and returns the results of each list. */
type RunSides = (sides: readonly [readonly Step[], readonly Step[]]) => Promise<[unknown[], unknown[]]>

async function runRace(race: Race, { store }: Subject, run: RunSides): Promise<void> {
  const rounds = Array.from({ length: ROUNDS }, (_, index) => roundOf(index))
  const { before } = race
  if (before !== undefined) {
    await Promise.all(
      rounds.map(async ({ id, user }) => store.create(id, makeRecord({ userId: user, ...before })))
    )
  }
  const steps = rounds.map((round) => race.sides(round))
  const [first, second] = await run([steps.map(([step]) => step), steps.map(([, step]) => step)])
  for (const [index, round] of rounds.entries()) {
    await race.check(round, [first[index], second[index]], store)
  }
}

function roundOf(index: number): Round {
  const [id, other, another] = ['id', 'other', 'another'].map((name) => idOf(`${name} ${index}`)) as [
    string,
    string,
    string
  ]
  return { id, other, another, user: `user ${index}` }
}

/** Swaps the calls in every second round. Otherwise a synchronous store would run the same call first each time. */
function inOneProcess({ store }: Subject): RunSides {
  return async ([first, second]) => {
    const answers: [unknown[], unknown[]] = [[], []]
    await Promise.all(
      first.flatMap((step, index) => {
        const pair = [
          { step, side: answers[0] },
          { step: second[index] as Step, side: answers[1] }
        ]
        return (index % 2 === 0 ? pair : pair.reverse()).map(async ({ step, side }) => {
          const [answer] = await runSteps(store, [step])
          side[index] = answer
        })
      })
    )
    return answers
  }
}

async function inTwoProcesses({ processes, process }: Subject): Promise<RunSides> {
  const [one, two] = await processes.connect(process)
  return ([first, second]) => Promise.all([one(first), two(second)])
}

const increments: readonly Case[] = [
  {
    name: '1,000 parallel increments add 1,000 in total (E7)',
    async run({ store }) {
      const id = idOf('counter')
      await store.create(id, makeRecord({ data: { n: '0' } }))
      await runSteps(store, Array<Step>(4).fill(['increment', id, 250]))
      assertCount(await store.get(id), 1000)
    }
  },
  {
    name: '400 increments from two processes add 400 in total (E7, E14)',
    needs: 'two processes',
    async run(subject) {
      const id = idOf('counter')
      await subject.store.create(id, makeRecord({ data: { n: '0' } }))
      const steps: Step[] = [
        ['increment', id, 100],
        ['increment', id, 100]
      ]
      await (
        await inTwoProcesses(subject)
      )([steps, steps])
      assertCount(await subject.store.get(id), 400)
    }
  }
]

const sweep: Case = {
  name: 'cleanup deletes only expired records, even while other calls are running (E13)',
  needs: 'cleanup',
  async run({ store }) {
    const rounds = Array.from({ length: ROUNDS }, (_, index) => roundOf(index))
    for (const { id, another } of rounds) {
      await store.create(id, makeRecord())
      await store.create(another, makeRecord({ expiresAt: Date.now() - 1 }))
    }
    const steps = rounds.flatMap<Step>(({ id, other }, index) => [
      ['cleanup'],
      ['update', id, makePatch({ set: { a: '1' }, ...(index % 2 === 0 && { renameTo: other }) })],
      ['create', roundOf(index + ROUNDS).id, makeRecord()]
    ])
    await runSteps(store, steps)
    await store.cleanup?.()
    for (const [index, { id, other, another }] of rounds.entries()) {
      assert.equal((await store.get(index % 2 === 0 ? other : id))?.data['a'], '1')
      assert.notEqual(await store.get(roundOf(index + ROUNDS).id), undefined)
      assert.equal(await store.get(another), undefined)
    }
  }
}

const visibility: Case = {
  name: 'a write by one process is immediately visible to another process',
  needs: 'two processes',
  async run({ store, processes, process }) {
    const [one, two] = await processes.connect(process)
    const id = idOf('one')
    const record = makeRecord({ userId: 'ada' })
    assert.deepEqual(await one([['create', id, record]]), [true])
    assert.equal(((await two([['get', id]])) as [SessionRecord])[0].userId, 'ada')
    assert.deepEqual(await two([['update', id, makePatch({ set: { a: '1' } })]]), ['ok'])
    assert.equal((await store.get(id))?.data['a'], '1')
    assert.equal(await store.destroy(id), true)
    assert.deepEqual(await one([['get', id]]), [undefined])
  }
}

/** Must be the last case, because it ends the child processes that all cases share. */
const processExit: Case = {
  name: 'a process exits after its store has been closed',
  needs: 'two processes',
  async run({ processes, process }) {
    await processes.connect(process)
    await processes.disconnect()
    assert.deepEqual(await processes.end(), [0, 0])
  }
}

function assertCount(record: SessionRecord | undefined, count: number): void {
  assert.equal(record?.data['n'], String(count))
  assert.equal(record.version, count + 1)
}

export const raceCases: readonly Case[] = [
  ...RACES.map((race): Case => ({
    name: race.name,
    ...(race.needs && { needs: race.needs }),
    run: (subject) => runRace(race, subject, inOneProcess(subject))
  })),
  ...increments.slice(0, 1),
  sweep,
  visibility,
  ...RACES.map((race): Case => ({
    name: `${race.name}, from two processes (E14)`,
    needs: 'two processes',
    run: async (subject) => runRace(race, subject, await inTwoProcesses(subject))
  })),
  ...increments.slice(1),
  processExit
]
