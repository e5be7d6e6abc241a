import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { build } from './app.js'
import { openStore } from './store.js'

const HOST = '127.0.0.1'
const { PORT = '3000', STORE = 'memory', SESSION_SECRET } = process.env

try {
  await start()
} catch (error) {
  console.error((error as Error).message)
  // Setting process.exitCode is not enough: an open store connection would keep the process alive.
  process.exit(1)
}

async function start(): Promise<void> {
  const port = portOf(PORT)
  const { store, close } = await openStore(STORE)
  const app = await build({ secret: SESSION_SECRET ?? randomBytes(32), store })
  await app.listen({ host: HOST, port }).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    throw new Error(`Port ${port} on ${HOST} is in use: set PORT to another port, or to 0 for any free port`)
  })
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void app.close().then(close))
  if (SESSION_SECRET === undefined) {
    console.log('SESSION_SECRET is not set: using a random secret. All sessions end with this process.')
  }
  const { port: actual } = app.server.address() as AddressInfo
  console.log(`Open http://${HOST}:${actual} and sign in as ada with the password lovelace.`)
}

function portOf(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text)
  throw new Error(`PORT is "${text}", but must be a whole number from 0 to 65535`)
}
