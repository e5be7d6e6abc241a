import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { signIn } from '../../plugin/testing/index.js'
import { makeApp, SECRET } from '../fixtures/app.js'
import { findPostgres, makePool, makeStore } from '../fixtures/postgres.js'
import { counted, countsOf } from '../fixtures/counts.js'

// Through the whole plugin: what several processes do to one session at once.

const found = await findPostgres(t)
const { skip } = found
const server = 'server' in found ? found.server : { url: '' }

const PROCESSES = 8
const INCREMENTS = 10_000

void t.test('eight processes add 10,000 to one session', { skip, timeout: 280_000 }, async (t) => {
  const { store, schema } = await makeStore(t, makePool(t, server))
  const app = await makeApp(t, { store })
  app.get('/count', async ({ session }) => session.get('count'))
  const cookie = await signIn(app, { name: 'ada' })
  const work = {
    url: server.url,
    schema,
    secret: SECRET,
    cookie,
    requests: INCREMENTS / PROCESSES,
    parallel: 20
  }
  const workers = Array.from({ length: PROCESSES }, () => startWorker(t))
  await Promise.all(workers.map(({ ready }) => ready))
  const start = performance.now()
  const statuses = (await Promise.all(workers.map(({ run }) => run(work)))).flat()
  t.comment(`${INCREMENTS} increments in ${Math.round(performance.now() - start)} ms: ${counted(statuses)}`)
  t.same(countsOf(statuses), { 200: INCREMENTS })
  t.equal((await app.inject({ url: '/count', headers: { cookie } })).json(), INCREMENTS)
})

function startWorker(t: Test) {
  const file = fileURLToPath(new URL('../fixtures/postgres-worker.ts', import.meta.url))
  const child = fork(file)
  const exited = once(child, 'exit')
  t.teardown(() => {
    child.kill('SIGKILL')
    return exited
  })
  return {
    ready: once(child, 'spawn'),
    async run(work: object): Promise<number[]> {
      child.send(work)
      const [statuses] = (await once(child, 'message')) as [number[]]
      return statuses
    }
  }
}
