import { randomBytes } from 'node:crypto'
import t from 'tap'
import { createRecent } from '../../plugin/cookies/verified-cache.js'

interface Item {
  readonly value: string
}

/** Creates an item with a random value, like the signature of a cookie. */
const makeItem = (): Item => ({ value: randomBytes(32).toString('base64url') })
const makeItems = (length: number): Item[] => Array.from({ length }, makeItem)

void t.test('finds a kept item by its value, and by no other value', async (t) => {
  const recent = createRecent<Item>()
  const items = makeItems(100)
  for (const item of items) {
    t.equal(recent.get(item.value), undefined)
    recent.keep(item)
    t.equal(recent.get(Buffer.from(item.value).toString()), item)
  }
  for (const { value } of items) {
    t.equal(recent.get(`${value.slice(0, -1)}.`), undefined, 'a value with another last character')
    t.equal(
      recent.get(`.${value.slice(1)}`),
      undefined,
      'a value with another first character and the same hash'
    )
  }
  const again = { value: (items[0] as Item).value }
  recent.keep(again)
  t.equal(recent.get(again.value), again, 'the later of two items with the same value')
})

void t.test('keepIfSeen() keeps a value only when it comes again', async (t) => {
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

void t.test('keeps nearly all of 10,000 items', async (t) => {
  const recent = createRecent<Item>()
  const items = makeItems(10_000)
  for (const item of items) recent.keep(item)
  const countKept = (): number => items.filter(({ value }) => recent.get(value) !== undefined).length
  const kept = countKept()
  t.ok(kept > 9900, `${kept} kept`)
  for (const item of items.slice(0, 100)) for (let visit = 0; visit < 8; visit++) recent.keep(item)
  t.equal(countKept(), kept, 'keeping an item again evicts nothing')
})

void t.test('keeps no more items than it has slots, and evicts the oldest first', async (t) => {
  const recent = createRecent<Item>()
  const items = makeItems(200_000)
  for (const item of items) recent.keep(item)
  const kept = items.filter((item) => recent.get(item.value) === item)
  t.ok(kept.length <= 32_768 && kept.length > 30_000, `${kept.length} kept`)
  t.same(
    items.slice(-1000).filter(({ value }) => recent.get(value) === undefined),
    [],
    'the last 1,000 items are kept'
  )
  t.ok(kept.indexOf(items.at(-1) as Item) === kept.length - 1)
})
