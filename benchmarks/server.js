import { spawn } from 'node:child_process'
import { clearTimeout, setTimeout } from 'node:timers'
import { fileURLToPath, URL } from 'node:url'
import { UsageError } from './usage-error.js'

const SERVE = fileURLToPath(new URL('serve.js', import.meta.url))

/**
 * Starts the process of a contender. If `cpu` is given, the process is pinned to that core. If `port` is 0, the system
 * chooses a free port.
 * Rejects with a UsageError if the port is in use, and with another error if the process does not start.
 */
export async function startServer(contender, { port = 0, cpu, settings = {} }) {
  const args = [
    SERVE,
    contender.module ?? contender.name,
    String(port),
    JSON.stringify({ ...contender.settings, ...settings })
  ]
  const [command, ...rest] =
    cpu === undefined ? [process.execPath] : ['taskset', '-c', String(cpu), process.execPath]
  const child = spawn(command, [...rest, ...args], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  const waiting = new Map()
  let stderr = ''
  let asked = 0
  child.stderr.on('data', (chunk) => (stderr = (stderr + chunk).slice(-4000)))
  const exited = new Promise((resolve) =>
    child.once('exit', (code, signal) => resolve(exitError(code, signal, stderr)))
  )
  child.on('message', ({ id, answer, problem }) => {
    if (id === undefined) return
    if (problem === undefined) waiting.get(id).resolve(answer)
    else waiting.get(id).reject(new Error(problem))
    waiting.delete(id)
  })

  const died = exited.then((error) => {
    throw error
  })
  died.catch(() => {})
  const up = await Promise.race([new Promise((resolve) => child.once('message', resolve)), died])
  if (up.code === 'EADDRINUSE') {
    child.disconnect()
    throw new UsageError(`port ${port} is in use; choose another --port or omit the option`)
  }
  if (up.problem !== undefined) throw new Error(up.problem)
  return {
    url: `http://127.0.0.1:${up.port}`,
    pid: child.pid,
    /** A promise that rejects when the process exits. */
    died,
    ask(question, detail) {
      const id = ++asked
      const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }))
      child.send({ id, question, detail })
      return Promise.race([answer, died])
    },
    async stop() {
      if (child.connected) child.disconnect()
      const timer = setTimeout(() => child.kill('SIGKILL'), 3000)
      await exited
      clearTimeout(timer)
    }
  }
}

/**
 * Returns an error that says why the process exited. Node prints the reason to stderr, below an excerpt of the source
 * code.
 */
function exitError(code, signal, stderr) {
  const lines = stderr.trim().split('\n')
  const reason = lines.find((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1)
  return new Error(`exited with ${signal ?? `code ${code}`}${reason === '' ? '' : `: ${reason.trim()}`}`)
}
