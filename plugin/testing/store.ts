import type { Awaitable, SessionStore } from '../types.js'
import { basicCases } from './cases/basic.js'
import { expiryCases } from './cases/expiry.js'
import { failureCases } from './cases/failure.js'
import { raceCases } from './cases/races.js'
import { textCases } from './cases/texts.js'
import { userCases } from './cases/users.js'
import { createProcesses, type Processes } from './processes.js'

/** How another process comes to the same data: a module that exports `connect(argument): Awaitable<SessionStore>`. */
export interface StoreProcess {
  /** A file's URL or path. */
  readonly module: string | URL
  /** What a structured clone can hold. */
  readonly argument?: unknown
}

/** One fresh, empty store. The kit closes it when its case is over, and then calls `teardown`. */
export interface StoreUnderTest {
  readonly store: SessionStore
  /** Needed for the cases of 'two processes'. */
  readonly process?: StoreProcess
  /** Makes the engine fail; needed, as `mend` is, for the cases of 'engine failure'. */
  readonly break?: () => Awaitable<unknown>
  /** Makes it work again. */
  readonly mend?: () => Awaitable<unknown>
  readonly teardown?: () => Awaitable<unknown>
}

/** Makes a store for one case. It shares no data with that of another case. */
export type MakeStore = () => Awaitable<StoreUnderTest>

/**
 * What a store may lack:
 * `'by user'`, `listByUser` and `destroyByUser`; `'cleanup'`, `cleanup`, where the engine expires by itself;
 * `'two processes'`, that its writes are atomic for other processes too; `'moved clock'`, that it judges expiry by
 * this process's `Date` as well as by the engine's; `'engine failure'`, that the engine can be made to fail.
 */
export type Capability = 'by user' | 'cleanup' | 'two processes' | 'moved clock' | 'engine failure'

export interface TestStoreOptions {
  /** Each capability that the store lacks, and why; its cases are skipped with that reason. Default none. */
  readonly lacks?: Readonly<Partial<Record<Capability, string>>>
  /** Milliseconds that one case may take. Default 60,000. */
  readonly timeout?: number
}

/** `t.test` of tap, or `test` of `node:test`. */
export type StoreRunner = (
  name: string,
  options: { readonly skip: string | false; readonly timeout: number },
  body: () => Promise<void>
) => unknown

/** What the kit asked the runner for. */
export interface StoreCases {
  readonly run: readonly string[]
  readonly skipped: readonly { readonly name: string; readonly reason: string }[]
}

/** What one case works on. */
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
  ...expiryCases,
  ...userCases,
  ...failureCases,
  ...raceCases
]

/**
 * Asks the runner for one test a sentence of the store contract.
 * `testStore('my store', () => ({ store: new MyStore() }), test)`, with `test` of `node:test` or `t.test` of tap.
 */
export function testStore(
  name: string,
  makeStore: MakeStore,
  runner: StoreRunner,
  options: TestStoreOptions = {}
): StoreCases {
  const { timeout = TIMEOUT } = options
  const processes = createProcesses()
  for (const one of CASES) {
    const skip = reasonToSkip(one, options) ?? false
    runner(`${name}: ${one.name}`, { skip, timeout }, () => runCase(one, makeStore, processes))
  }
  return caseNames(options)
}

/** The names of the cases that `testStore` runs and skips with these options. */
export function caseNames(options: TestStoreOptions = {}): StoreCases {
  const run: string[] = []
  const skipped: { name: string; reason: string }[] = []
  for (const one of CASES) {
    const reason = reasonToSkip(one, options)
    if (reason === undefined) run.push(one.name)
    else skipped.push({ name: one.name, reason })
  }
  return { run, skipped }
}

function reasonToSkip({ needs }: Case, { lacks }: TestStoreOptions): string | undefined {
  const reason = needs && lacks?.[needs]
  return reason === undefined ? undefined : `${needs}: ${reason}`
}

async function runCase(one: Case, makeStore: MakeStore, processes: Processes): Promise<void> {
  const made = await makeStore()
  try {
    await one.run({ ...made, processes })
  } finally {
    try {
      await processes.disconnect()
      await made.store.close?.()
    } finally {
      await made.teardown?.()
    }
  }
}
