import t from 'tap'
import { LARGE, nextTurn, readAll, seedOf } from '../../benchmarks/payload.js'

void t.test('by default, the session of a benchmark has two short values', async (t) => {
  t.same(seedOf({}), { name: 'Ada', visits: 0 })
  t.same(seedOf({ bytes: '0' }), seedOf({}))
})

void t.test('with ?bytes=N, a new session also has a cart of about N bytes of JSON', async (t) => {
  for (const bytes of [100, LARGE, 1_000_000]) {
    const { length } = JSON.stringify(seedOf({ bytes: String(bytes) }).cart)
    t.ok(Math.abs(length - bytes) < 60, `${length} for ${bytes}`)
  }
})

void t.test('readAll() returns null for an absent value', async (t) => {
  const values = { name: 'Ada', visits: 0 }
  t.same(
    readAll((key) => values[key]),
    { name: 'Ada', visits: 0, count: null, user: null }
  )
})

void t.test('nextTurn() resolves after all pending promise callbacks have run', async (t) => {
  const order = []
  const turn = nextTurn().then(() => order.push('after'))
  Promise.resolve().then(() => order.push('before'))
  await turn
  t.same(order, ['before', 'after'])
})
