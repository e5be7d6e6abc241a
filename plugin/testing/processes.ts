import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Step } from './steps.js'
import type { StoreProcess } from './store.js'

/** What the parent asks of a child. */
export type Request =
  | { readonly kind: 'connect'; readonly module: string; readonly argument: unknown }
  | { readonly kind: 'run'; readonly steps: readonly Step[] }
  | { readonly kind: 'disconnect' }

/** What the child answers: once each, in order. */
export type Answer = { readonly answer: unknown } | { readonly error: string }

/** A store in another process. */
export type Remote = (steps: readonly Step[]) => Promise<unknown[]>

/** Two child processes, made at the first need and used for one case after the other. */
export interface Processes {
  connect(to: StoreProcess | undefined): Promise<[Remote, Remote]>
  /** Closes the children's stores; the children stay. */
  disconnect(): Promise<void>
  /** Ends the children; their exit codes. */
  end(): Promise<unknown[]>
}

const ENDING = 10_000

/** `patience`: ms in which a child must end by itself. */
export function createProcesses(patience = ENDING): Processes {
  let children: ChildProcess[] = []
  let connected = false

  // A failure waits for the other child's answer, which would else be taken for that to the next question.
  const askAll = async (request: Request): Promise<void> => {
    const answers = await Promise.allSettled(children.map((child) => ask(child, request)))
    for (const answer of answers) if (answer.status === 'rejected') throw answer.reason
  }

  async function connect(to: StoreProcess | undefined): Promise<[Remote, Remote]> {
    assert.ok(to, 'makeStore() gives no `process`; say why in `lacks: { "two processes": … }`')
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
    return Promise.all(ending.map((child) => stop(child, patience)))
  }

  return { connect, disconnect, end }
}

function start(): ChildProcess {
  // Beside this file, and of its kind: compiled, or TypeScript where a loader is at work.
  const file = new URL(`./child${extname(import.meta.url)}`, import.meta.url)
  const execArgv = process.execArgv.filter((flag) => !/^--(test|inspect)/.test(flag))
  const child = fork(fileURLToPath(file), { execArgv, serialization: 'advanced' })
  // A run of tests that is broken off must not wait for them; they end when the channel closes.
  letGo(child)
  return child
}

async function ask(child: ChildProcess, request: Request): Promise<unknown> {
  const left = new AbortController()
  child.ref()
  child.channel?.ref()
  try {
    const answered = once(child, 'message', { signal: left.signal })
    const exited = once(child, 'exit', { signal: left.signal })
    child.send(request)
    const [result] = (await Promise.race([
      answered,
      exited.then(([code, signal]) => [{ error: `the child process ended: ${String(code ?? signal)}` }])
    ])) as [Answer]
    if ('error' in result) throw new Error(result.error)
    return result.answer
  } finally {
    left.abort()
    letGo(child)
  }
}

function letGo(child: ChildProcess): void {
  child.unref()
  child.channel?.unref()
}

async function stop(child: ChildProcess, patience: number): Promise<unknown> {
  const ended = child.exitCode ?? child.signalCode
  if (ended !== null) return ended
  const killer = setTimeout(() => child.kill('SIGKILL'), patience)
  child.ref()
  child.disconnect()
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  clearTimeout(killer)
  return code ?? signal
}
