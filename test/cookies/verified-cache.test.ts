import { randomBytes } from 'node:crypto'
import t from 'tap'
import { createVerifiedCache } from '../../plugin/cookies/verified-cache.js'

interface Entry {
  readonly value: string
}

const makeEntry = (): Entry => ({ value: randomBytes(32).toString('base64url') })
const makeEntries = (length: number): Entry[] => Array.from({ length }, makeEntry)

void t.test('the cache finds an entry by its own value and by no other value', async (t) => {
  const cache = createVerifiedCache<Entry>()
  const entries = makeEntries(100)
  for (const entry of entries) {
    t.equal(cache.get(entry.value), undefined)
    cache.keep(entry)
    t.equal(cache.get(Buffer.from(entry.value).toString()), entry)
  }
  for (const { value } of entries) {
    t.equal(cache.get(`${value.slice(0, -1)}.`), undefined, 'a value with another last character')
    t.equal(cache.get(`.${value.slice(1)}`), undefined, 'a value with another first character')
  }
  const again = { value: (entries[0] as Entry).value }
  cache.keep(again)
  t.equal(cache.get(again.value), again, 'the later of two entries with the same value is returned')
})

void t.test('the cache keeps the entries of the last two generations and evicts older ones', async (t) => {
  const cache = createVerifiedCache<Entry>(10)
  const entries = makeEntries(25)
  for (const entry of entries) cache.keep(entry)
  const kept = (from: number, to: number): number =>
    entries.slice(from, to).filter(({ value }) => cache.get(value) !== undefined).length
  t.equal(kept(0, 10), 0, 'the generation before the last two is evicted')
  t.equal(kept(20, 25), 5, 'the young generation is kept')
  t.equal(kept(10, 14), 4, 'the old generation is kept')
})

void t.test('the cache keeps an entry that is read at least once in every generation', async (t) => {
  const cache = createVerifiedCache<Entry>(10)
  const [used, unused] = [makeEntry(), makeEntry()]
  cache.keep(used)
  cache.keep(unused)
  for (let generation = 0; generation < 5; generation++) {
    for (const entry of makeEntries(8)) cache.keep(entry)
    t.equal(cache.get(used.value), used)
  }
  t.equal(cache.get(unused.value), undefined)
})

void t.test('by default the cache keeps at least 10,000 entries, and never more than 32,768', async (t) => {
  const cache = createVerifiedCache<Entry>()
  const entries = makeEntries(100_000)
  for (const entry of entries.slice(0, 10_000)) cache.keep(entry)
  t.equal(entries.slice(0, 10_000).filter(({ value }) => cache.get(value) === undefined).length, 0)
  for (const entry of entries) cache.keep(entry)
  const kept = entries.filter(({ value }) => cache.get(value) !== undefined)
  t.ok(kept.length <= 32_768 && kept.length >= 16_384, `${kept.length} kept`)
  t.equal(kept.at(-1), entries.at(-1))
})
