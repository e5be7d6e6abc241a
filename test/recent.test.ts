import t from 'tap'
import { createRecent } from '../plugin/recent.js'

void t.test('keeps the last entries that were put, and forgets those before', async (t) => {
  const recent = createRecent<number>(3)
  for (let n = 1; n <= 7; n++) recent.put(String(n), n)
  const kept = [1, 2, 3, 4, 5, 6, 7].filter((n) => recent.get(String(n)) === n)
  t.same(kept.slice(-3), [5, 6, 7])
  t.ok(kept.length <= 6)
  t.equal(recent.get('1'), undefined)
})

void t.test('what is asked for again and again stays, however many others come', async (t) => {
  const recent = createRecent<string>(3)
  recent.put('hot', 'value')
  for (let n = 0; n < 100; n++) {
    recent.put(String(n), 'other')
    t.equal(recent.get('hot'), 'value')
  }
})

void t.test('as many as its size, asked for in turn, are all kept', async (t) => {
  const recent = createRecent<number>(10)
  for (let n = 0; n < 10; n++) recent.put(String(n), n)
  for (let round = 0; round < 5; round++) for (let n = 0; n < 10; n++) t.equal(recent.get(String(n)), n)
})
