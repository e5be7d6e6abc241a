import t from 'tap'
import { testStore } from '../../plugin/testing/index.js'
import { findPostgres, makePool, makeStore } from '../fixtures/postgres.js'

const found = await findPostgres(t)
const { skip } = found
const server = 'server' in found ? found.server : { url: '' }

void t.test('the PostgreSQL store passes the store contract tests', { skip }, async (t) => {
  const pool = makePool(t, server)
  const { run, skipped } = testStore(
    'PostgreSQL',
    async () => {
      const { store, schema } = await makeStore(t, pool)
      const module = new URL('../fixtures/postgres.ts', import.meta.url)
      return { store, process: { module, argument: { url: server.url, schema } } }
    },
    (name, options, body) => t.test(name, options, body),
    { unsupported: { 'engine failure': 'postgres-failures.test.ts kills the server' } }
  )
  t.comment(`PostgreSQL: ${run.length} cases run, ${skipped.length} skipped`)
})
