import { spawn } from 'node:child_process'
import { clearTimeout, setTimeout } from 'node:timers'
import { fileURLToPath, URL } from 'node:url'
import { UsageError } from './usage-error.js'

const SERVE = fileURLToPath(new URL('serve.js', import.meta.url))

/**
 * Starts a contender's process. Rejects when it does not come up: with a UsageError when the port is taken.
 * `cpu`: the core it is bound to, or `undefined`. `port`: 0 lets the system choose.
 */
export async function startServer(contender, { port = 0, cpu, settings = {}, execArgv = [] }) {
  const args = [
    ...execArgv,
    SERVE,
    contender.module ?? contender.name,
    String(port),
    JSON.stringify({ ...contender.settings, ...settings })
  ]
  const [command, ...rest] =
    cpu === undefined ? [process.execPath] : ['taskset', '-c', String(cpu), process.execPath]
  const child = spawn(command, [...rest, ...args], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  const waiting = new Map()
  let lastWords = ''
  let asked = 0
  child.stderr.on('data', (chunk) => (lastWords = (lastWords + chunk).slice(-4000)))
  const exited = new Promise((resolve) =>
    child.once('exit', (code, signal) => resolve(deathOf(code, signal, lastWords)))
  )
  child.on('message', ({ id, answer, problem }) => {
    if (id === undefined) return
    if (problem === undefined) waiting.get(id).resolve(answer)
    else waiting.get(id).reject(new Error(problem))
    waiting.delete(id)
  })

  const died = exited.then((death) => {
    throw death
  })
  died.catch(() => {})
  const up = await Promise.race([new Promise((resolve) => child.once('message', resolve)), died])
  if (up.code === 'EADDRINUSE') {
    child.disconnect()
    throw new UsageError(`port ${port} is in use: choose another --port, or none`)
  }
  if (up.problem !== undefined) throw new Error(up.problem)
  return {
    url: `http://127.0.0.1:${up.port}`,
    pid: child.pid,
    /** Rejects when the process ends. */
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

/** What Node writes before it ends names the error in a line of its own, below the source. */
function deathOf(code, signal, lastWords) {
  const lines = lastWords.trim().split('\n')
  const reason = lines.find((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1)
  return new Error(`ended with ${signal ?? `exit code ${code}`}${reason === '' ? '' : `: ${reason.trim()}`}`)
}
