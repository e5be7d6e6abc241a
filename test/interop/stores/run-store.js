// Runs the checks on the store that the argument names, and sends the outcome of each to the parent process. Then closes
// everything and leaves it to Node to end the process.
import { fromExpressStore } from '../../../dist/stores/express/store.js'
import { startApp } from './app.js'
import { checks } from './checks.js'
import { startEngine } from './engines.js'
import { stores } from './stores.js'

process.once('SIGTERM', () => process.exit(1))
const { engine: name, open } = stores[process.argv[2]]
const engine = await startEngine(name)
const opened = await open(engine)
for (const [title, check] of Object.entries(checks)) process.send({ title, ...(await outcomeOf(check)) })
await opened.close()
await engine.stop()
process.send({ isClosed: true })
process.disconnect()

/** Runs a check. Returns its outcome, and if it failed, the error as text. */
async function outcomeOf(check) {
  const apps = []
  const { store, breakStore = name && engine.stop } = opened
  const start = async (options) => {
    const app = await startApp({ store: fromExpressStore(store), ...options })
    apps.push(app)
    return app
  }
  try {
    return { outcome: (await check({ start, read: (id) => read(store, id), store, breakStore })) ?? 'passed' }
  } catch (error) {
    return { outcome: 'failed', error: error.stack }
  } finally {
    await Promise.all(apps.map((app) => app.close()))
  }
}

function read(store, id) {
  return new Promise((resolve, reject) => {
    store.get(id, (error, session) => {
      // session-file-store reports a missing session as a missing file.
      if (error && error.code !== 'ENOENT') reject(error)
      else resolve(session ?? undefined)
    })
  })
}
