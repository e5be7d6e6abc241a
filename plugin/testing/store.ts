import type { Awaitable, SessionStore } from '../types.js'
import { basicCases } from './cases/basic.js'
import { expiryCases } from './cases/expiry.js'
import { failureCases } from './cases/failure.js'
import { raceCases } from './cases/races.js'
import { speedCases } from './cases/speed.js'
import { textCases } from './cases/texts.js'
import { userCases } from './cases/users.js'
import { createProcesses, type Processes } from './processes.js'

/** Lets a child process open the same data: a module that exports `connect(argument): Awaitable<SessionStore>`. */
export interface StoreProcess {
  /** The URL or the absolute path of the module. */
  readonly module: string | URL
  /** Passed to `connect`. Must survive a structured clone. */
  readonly argument?: unknown
}

/** One fresh, empty store. After its case the kit closes the store, if it has `close`, and then calls `teardown`. */
export interface StoreUnderTest {
  readonly store: SessionStore
  /** Required, unless 'two processes' is unsupported. */
  readonly process?: StoreProcess
  /** Makes the engine fail. Required together with `mend`, unless 'engine failure' is unsupported. */
  readonly break?: () => Awaitable<unknown>
  /** Makes the engine work again. */
  readonly mend?: () => Awaitable<unknown>
  /** Releases what `makeStore` opened, such as a connection. Also called after a failed case. */
  readonly teardown?: () => Awaitable<unknown>
}

/** Returns a new store for each case. It must not share data with the store of another case. */
export type MakeStore = () => Awaitable<StoreUnderTest>

/**
 * A part of the contract that a store may lack.
 * - `'by user'`: it has `listByUser` and `destroyByUser`.
 * - `'cleanup'`: it has `cleanup`. An engine that removes expired records itself does not need it.
 * - `'two processes'`: its writes are atomic across processes, too.
 * - `'moved clock'`: it also checks expiry against this process's `Date`, not only against the engine's clock.
 * - `'engine failure'`: the test can make its engine fail.
 */
export type Capability = 'by user' | 'cleanup' | 'two processes' | 'moved clock' | 'engine failure'

/** Options of `testStore` and `caseNames`. */
export interface TestStoreOptions {
  /** The reason for each capability that the store does not have. The cases that need it are skipped. Default: none. */
  readonly unsupported?: Readonly<Partial<Record<Capability, string>>>
  /** Milliseconds that one case may take. Default: 60,000. */
  readonly timeout?: number
}

/** Registers one test: `t.test` of tap, or `test` of `node:test`. */
export type StoreRunner = (
  name: string,
  options: { readonly skip: string | false; readonly timeout: number },
  body: () => Promise<void>
) => unknown

/** The names of the cases, without the name of the store. */
export interface StoreCases {
  readonly run: readonly string[]
  /** `reason` is the capability, followed by the reason given in `unsupported`. */
  readonly skipped: readonly { readonly name: string; readonly reason: string }[]
}

/** Everything that one case can use. */
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
  ...raceCases
]

/**
 * Registers the tests of the store contract, one for each rule, and returns their names.
 * `testStore('my store', () => ({ store: new MyStore() }), test)`, with `test` of `node:test` or `t.test` of tap.
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

/** Returns the names of the cases that `testStore` runs and skips with these options, without running them. */
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
