import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { location } from '#location'
import type { Step } from './steps.js'
import type { StoreProcess } from './store.js'

/** A message from the parent process to a child process. */
export type Request =
  | { readonly kind: 'connect'; readonly module: string; readonly argument: unknown }
  | { readonly kind: 'run'; readonly steps: readonly Step[] }
  | { readonly kind: 'disconnect' }

/** A reply from a child process. The process sends one reply to each request, in the order of the requests. */
export type Answer = { readonly answer: unknown } | { readonly error: string }

/** Runs store calls in a child process and returns their results. */
export type Remote = (steps: readonly Step[]) => Promise<unknown[]>

/** Two child processes that all cases share. They are started when the first case needs them. */
export interface Processes {
  /** In each child process, opens the store that `to` describes. Throws if `to` is `undefined`. */
  connect(to: StoreProcess | undefined): Promise<[Remote, Remote]>
  /** Closes the stores in the child processes. The child processes keep running. */
  disconnect(): Promise<void>
  /** Ends the child processes. Returns the exit code of each one, or the name of the signal that killed it. */
  end(): Promise<unknown[]>
}

const EXIT_TIMEOUT = 10_000

/** @param exitTimeout how long to wait for a child process to exit before killing it, in milliseconds. */
export function createProcesses(exitTimeout = EXIT_TIMEOUT): Processes {
  let children: ChildProcess[] = []
  let connected = false

  // Waits for both children even if one fails, so that a late reply is not mistaken for a reply to the next request.
  const askAll = async (request: Request): Promise<void> => {
    const answers = await Promise.allSettled(children.map((child) => ask(child, request)))
    for (const answer of answers) if (answer.status === 'rejected') throw answer.reason
  }

  async function connect(to: StoreProcess | undefined): Promise<[Remote, Remote]> {
    assert.ok(
      to,
      'makeStore() returned no `process`. If that is intended, give the reason in `unsupported: { "two processes": … }`'
    )
    if (children.length === 0) children = [start(), start()]
    connected = true
    await askAll({ kind: 'connect', module: String(to.module), argument: to.argument })
    return children.map(
      (child) => (steps: readonly Step[]) => ask(child, { kind: 'run', steps }) as Promise<unknown[]>
    ) as [Remote, Remote]
  }

  async function disconnect(): Promise<void> {
    if (!connected) return
    connected = false
    await askAll({ kind: 'disconnect' })
  }

  async function end(): Promise<unknown[]> {
    const ending = children
    children = []
    connected = false
    return Promise.all(ending.map((child) => stop(child, exitTimeout)))
  }

  return { connect, disconnect, end }
}

function start(): ChildProcess {
  // The child's file has the same extension as location.ts: .js after compilation, .ts under a TypeScript loader.
  const file = new URL(`./testing/child${extname(location)}`, location)
  const execArgv = process.execArgv.filter((flag) => !/^--(test|inspect)/.test(flag))
  const child = fork(fileURLToPath(file), { execArgv, serialization: 'advanced' })
  // An aborted test run must not wait for its child processes. They exit when the channel to their parent closes.
  unref(child)
  return child
}

async function ask(child: ChildProcess, request: Request): Promise<unknown> {
  const settled = new AbortController()
  child.ref()
  child.channel?.ref()
  try {
    const answered = once(child, 'message', { signal: settled.signal })
    const exited = once(child, 'exit', { signal: settled.signal })
    child.send(request)
    const [result] = (await Promise.race([
      answered,
      exited.then(([code, signal]) => [{ error: `the child process exited: ${String(code ?? signal)}` }])
    ])) as [Answer]
    if ('error' in result) throw new Error(result.error)
    return result.answer
  } finally {
    settled.abort()
    unref(child)
  }
}

function unref(child: ChildProcess): void {
  child.unref()
  child.channel?.unref()
}

async function stop(child: ChildProcess, exitTimeout: number): Promise<unknown> {
  const ended = child.exitCode ?? child.signalCode
  if (ended !== null) return ended
  const killer = setTimeout(() => child.kill('SIGKILL'), exitTimeout)
  child.ref()
  child.disconnect()
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  clearTimeout(killer)
  return code ?? signal
}
