import type { Awaitable, SessionStore } from '../types.js'
import { basicCases } from './cases/basic.js'
import { createCases } from './cases/creates.js'
import { expiryCases } from './cases/expiry.js'
import { failureCases } from './cases/failure.js'
import { raceCases } from './cases/races.js'
import { speedCases } from './cases/speed.js'
import { textCases } from './cases/texts.js'
import { userCases } from './cases/users.js'
import { createProcesses, type Processes } from './processes.js'

/** A module that opens the store's data in a child process. It exports `connect(argument): Awaitable<SessionStore>`. */
export interface StoreProcess {
  /** The URL or the absolute path of the module. */
  readonly module: string | URL
  /** The argument of `connect`. `structuredClone()` must be able to copy it. */
  readonly argument?: unknown
}

/** A new, empty store for one case. After the case, the kit calls `store.close` and then `teardown`, if present. */
export interface StoreUnderTest {
  readonly store: SessionStore
  /** How a child process opens the store's data. Required, unless `unsupported` contains 'two processes'. */
  readonly process?: StoreProcess
  /** Makes the store's database fail. Required, unless `unsupported` contains 'engine failure'. */
  readonly break?: () => Awaitable<unknown>
  /** Makes the store's database work again. Required together with `break`. */
  readonly mend?: () => Awaitable<unknown>
  /** Releases what `makeStore` opened, such as a connection. The kit calls this even if the case failed. */
  readonly teardown?: () => Awaitable<unknown>
}

/** Returns a new store. The kit calls it for each case, and the stores of two cases must not share data. */
export type MakeStore = () => Awaitable<StoreUnderTest>

/**
 * An optional part of the store contract.
 * - `'by user'`: the store has `listByUser` and `destroyByUser`.
 * - `'cleanup'`: the store has `cleanup`. It is not needed if the database removes expired records itself.
 * - `'two processes'`: the store's writes are also atomic if several processes use the same data.
 * - `'moved clock'`: the store checks expiry with `Date` in this process, not only with the clock of its database.
 * - `'engine failure'`: the test can make the store's database fail.
 */
export type Capability = 'by user' | 'cleanup' | 'two processes' | 'moved clock' | 'engine failure'

/** The options of `testStore` and `caseNames`. */
export interface TestStoreOptions {
  /** The capabilities that the store lacks, each with a reason. Cases that need them are skipped. Default: `{}`. */
  readonly unsupported?: Readonly<Partial<Record<Capability, string>>>
  /** The time limit of each case, in milliseconds. Default: 60,000. */
  readonly timeout?: number
}

/** The function that registers one test, such as `test` from `node:test` or `t.test` from tap. */
export type StoreRunner = (
  name: string,
  options: { readonly skip: string | false; readonly timeout: number },
  body: () => Promise<void>
) => unknown

/** The names of the cases that run and of those that are skipped, without the name of the store. */
export interface StoreCases {
  readonly run: readonly string[]
  /** `reason` names the missing capability and repeats the explanation from `unsupported`. */
  readonly skipped: readonly { readonly name: string; readonly reason: string }[]
}

export interface Subject extends StoreUnderTest {
  readonly processes: Processes
}

export interface Case {
  readonly name: string
  readonly needs?: Capability
  run(subject: Subject): Awaitable<void>
}

const TIMEOUT = 60_000

const CASES: readonly Case[] = [
  ...basicCases,
  ...textCases,
  ...speedCases,
  ...expiryCases,
  ...userCases,
  ...failureCases,
  ...createCases,
  ...raceCases
]

/**
 * Registers one test for each rule of the store contract. Returns the names of the tests, without the prefix `name`.
 * Example with `test` from `node:test`: `testStore('my store', () => ({ store: new MyStore() }), test)`.
 * @param name the prefix of each test's name.
 */
export function testStore(
  name: string,
  makeStore: MakeStore,
  runner: StoreRunner,
  options: TestStoreOptions = {}
): StoreCases {
  const { timeout = TIMEOUT } = options
  const processes = createProcesses()
  for (const testCase of CASES) {
    const skip = reasonToSkip(testCase, options) ?? false
    runner(`${name}: ${testCase.name}`, { skip, timeout }, () => runCase(testCase, makeStore, processes))
  }
  return caseNames(options)
}

/** Returns the names of the cases that `testStore` would run and would skip with these options. */
export function caseNames(options: TestStoreOptions = {}): StoreCases {
  const run: string[] = []
  const skipped: { name: string; reason: string }[] = []
  for (const testCase of CASES) {
    const reason = reasonToSkip(testCase, options)
    if (reason === undefined) run.push(testCase.name)
    else skipped.push({ name: testCase.name, reason })
  }
  return { run, skipped }
}

function reasonToSkip({ needs }: Case, { unsupported }: TestStoreOptions): string | undefined {
  const reason = needs && unsupported?.[needs]
  return reason === undefined ? undefined : `${needs}: ${reason}`
}

async function runCase(testCase: Case, makeStore: MakeStore, processes: Processes): Promise<void> {
  const made = await makeStore()
  try {
    await testCase.run({ ...made, processes })
  } finally {
    try {
      await processes.disconnect()
      await made.store.close?.()
    } finally {
      await made.teardown?.()
    }
  }
}
