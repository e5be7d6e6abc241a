import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { signIn } from '../../plugin/testing/index.js'
import { makeApp, SECRET } from '../fixtures/app.js'
import { findEngines } from '../fixtures/shared-engines.js'

// These tests change one session in several processes at the same time. They use the whole plugin, not only the store.
// The environment variable INCREMENTS sets the total number of increments.

const CHILD = fileURLToPath(new URL('../fixtures/increments-child.js', import.meta.url))
const PROCESSES = 8
const TIMES = Math.ceil(Number(process.env['INCREMENTS'] ?? 2500) / PROCESSES)

const engines = await findEngines(t)
// One test per database is enough: some of its processes use one client library of the database, the others another.
const tested = engines.filter(({ client }) => client !== 'ioredis')
const children = Array.from({ length: PROCESSES }, () => fork(CHILD, { execArgv: [] }))
t.teardown(() => children.map((child) => child.kill('SIGKILL')))

for (const { engine, skip, open } of tested) {
  void t.test(
    `no increment is lost when eight processes increment a counter in one session: ${engine}`,
    { skip, timeout: 280_000 },
    async (t) => {
      const { store, ways } = await open(t)
      const app = await makeApp(t, { store })
      app.get('/count', async ({ session }) => session.get('count'))
      const { cookie } = await signIn(app, { name: 'ada' })
      const wayOf = (index: number) => ({ ...ways[index % ways.length], secret: SECRET })
      const ready = await Promise.all(children.map((child, index) => ask(child, { serve: wayOf(index) })))
      t.same(ready, Array(PROCESSES).fill('ready'))
      const began = performance.now()
      const send = { cookie, times: TIMES, parallel: 10 }
      const statuses = await Promise.all(children.map((child) => ask(child, { send })))
      t.comment(`${engine}: ${PROCESSES * TIMES} increments in ${Math.round(performance.now() - began)} ms`)
      t.same(statuses, Array(PROCESSES).fill({ 200: TIMES }))
      t.equal((await app.inject({ url: '/count', headers: { cookie } })).json(), PROCESSES * TIMES)
    }
  )
}

function ask(child: ChildProcess, order: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    child.once('message', resolve)
    child.once('disconnect', () => reject(new Error('the process ended before it answered')))
    child.send(order)
  })
}
