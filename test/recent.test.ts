import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
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

void t.test(
  'a key that is part of a long text keeps none of it, however often it is asked for',
  async (t) => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const used = (): number => {
      collect()
      return process.memoryUsage().heapUsed
    }
    /** A cookie's value, cut out of a header of 16 KB. */
    const cut = (n: number): string => `${'x'.repeat(16_000)}${String(n).padStart(100, '0')}`.slice(-100)
    const recent = createRecent<number>(1000)
    const before = used()
    for (let round = 0; round < 4; round++) {
      for (let n = 0; n < 2000; n++) if (recent.get(cut(n)) === undefined) recent.put(cut(n), n)
      // What was put first is old by now: to get it makes it young again.
      for (let n = 1000; n < 2000; n++) t.equal(recent.get(cut(n)), n)
    }
    t.ok(used() - before < 4_000_000, `${used() - before} bytes for at most 2,000 keys of 100`)
  }
)
