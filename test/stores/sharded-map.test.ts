import t from 'tap'
import { ShardedMap } from '../../plugin/stores/sharded-map.js'
import { idOfToken } from '../../plugin/token.js'

void t.test('ids of hex digits fill all parts alike', async (t) => {
  const map = new ShardedMap<number>()
  const ids = Array.from({ length: 25_600 }, (_, n) => idOfToken(String(n)))
  for (const [n, id] of ids.entries()) map.set(id, n)
  // By parts, so neighbours in the order of the values are of one part.
  const parts = new Map<string, number>()
  for (const n of map.values()) {
    const end = (ids[n] as string).slice(-2)
    parts.set(end, (parts.get(end) ?? 0) + 1)
  }
  const order = [...map.values()].map((n) => (ids[n] as string).slice(-2))
  const changes = order.filter((end, at) => end !== order[at - 1]).length
  t.equal(changes, 256, 'one part for each end, none of two')
  t.ok(Math.max(...parts.values()) < 200)
})

void t.test('any text is a key', async (t) => {
  const map = new ShardedMap<number>()
  const keys = ['', 'a', 'Z!', 'é€', '\ud83d\ude00', '__proto__']
  for (const [n, key] of keys.entries()) map.set(key, n)
  t.equal(map.size, keys.length)
  for (const [n, key] of keys.entries()) t.equal(map.get(key), n)
  for (const key of keys) map.delete(key)
  t.equal(map.size, 0)
})
