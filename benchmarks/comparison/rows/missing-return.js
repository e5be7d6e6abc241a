// An asynchronous handler sets a value, calls `reply.send()` and forgets to return the reply, and the store replies later,
// as a database does. Does the server survive? It runs in a process of its own, because it may crash.
import { spawn } from 'node:child_process'
import { once } from 'node:events'

export const title = 'a handler forgets `return reply`'

export const remedies = { '@fastify/session': { text: 'With `return reply`', path: '/set?key=a' } }

export async function measure({ name }, { path = '/forgets-return' } = {}) {
  const args = [import.meta.filename, name, path]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text))
  const [code] = await once(child, 'close')
  if (code === 0) return 'works'
  if (errors.includes('ERR_HTTP_HEADERS_SENT')) return 'crashes the server'
  throw new Error(`${name} failed: ${errors}`)
}

if (process.argv[1] === import.meta.filename) await runServer(process.argv[2], process.argv[3])

async function runServer(name, path) {
  const { LIBRARIES } = await import('../servers.js')
  const server = await LIBRARIES.find((library) => library.name === name).start()
  const browser = await server.signIn()
  const { status } = await browser.post(path)
  const { a } = await browser.data()
  await server.close()
  process.exitCode = status === 200 && a === 'x' ? 0 : 1
}
