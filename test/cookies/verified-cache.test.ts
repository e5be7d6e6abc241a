import { randomBytes } from 'node:crypto'
import t from 'tap'
import { createRecent } from '../../plugin/cookies/verified-cache.js'

interface Item {
  readonly value: string
}

/** As signatures end: nobody chose their characters. */
const makeItem = (): Item => ({ value: randomBytes(32).toString('base64url') })
const makeItems = (length: number): Item[] => Array.from({ length }, makeItem)

void t.test('what is kept is found by its value, and nothing else', async (t) => {
  const recent = createRecent<Item>()
  const items = makeItems(100)
  for (const item of items) {
    t.equal(recent.get(item.value), undefined)
    recent.keep(item)
    t.equal(recent.get(Buffer.from(item.value).toString()), item)
  }
  for (const { value } of items) {
    t.equal(recent.get(`${value.slice(0, -1)}.`), undefined, 'another last character')
    t.equal(recent.get(`.${value.slice(1)}`), undefined, 'another first character, and the same hash')
  }
  const again = { value: (items[0] as Item).value }
  recent.keep(again)
  t.equal(recent.get(again.value), again, 'the later of two')
})

void t.test('what comes once takes no memory, and what comes again is kept', async (t) => {
  const recent = createRecent<Item>()
  const item = makeItem()
  let made = 0
  const make = () => {
    made++
    return item
  }
  recent.keepIfSeen(item.value, make)
  t.same([made, recent.get(item.value)], [0, undefined])
  recent.keepIfSeen(item.value, make)
  t.same([made, recent.get(item.value)], [1, item])
})

void t.test('10,000 that come in turn are all kept, but for one or two', async (t) => {
  const recent = createRecent<Item>()
  const items = makeItems(10_000)
  for (const item of items) recent.keep(item)
  const countKept = (): number => items.filter(({ value }) => recent.get(value) !== undefined).length
  const kept = countKept()
  t.ok(kept > 9900, `${kept} kept`)
  for (const item of items.slice(0, 100)) for (let visit = 0; visit < 8; visit++) recent.keep(item)
  t.equal(countKept(), kept, 'to keep one again takes nobody’s place')
})

void t.test('no more are kept than there are slots for, and the first makes room', async (t) => {
  const recent = createRecent<Item>()
  const items = makeItems(200_000)
  for (const item of items) recent.keep(item)
  const kept = items.filter((item) => recent.get(item.value) === item)
  t.ok(kept.length <= 32_768 && kept.length > 30_000, `${kept.length} kept`)
  t.same(
    items.slice(-1000).filter(({ value }) => recent.get(value) === undefined),
    [],
    'the last 1,000 are among them'
  )
  t.ok(kept.indexOf(items.at(-1) as Item) === kept.length - 1)
})
