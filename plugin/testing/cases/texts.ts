import assert from 'node:assert/strict'
import type { SessionRecord } from '../../types.js'
import { assertRecord, entriesOf, idOf, makePatch, makeRecord } from '../records.js'
import type { Case } from '../store.js'

const ID = idOf('one')
const MEGABYTE = 1024 * 1024

const TEXTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'values of every JSON type': {
    string: '"ada"',
    empty: '""',
    number: '-1.5e+21',
    long: '12345678901234567890.0',
    yes: 'true',
    no: 'false',
    nothing: 'null',
    array: '[1,"two",[null]]',
    object: '{"one":1}',
    none: '{}'
  },
  'non-ASCII text': {
    latin: '"naïve café"',
    han: '"会话"',
    emoji: '"👩‍🚀🔑"',
    rtl: '"שלום"',
    combining: '"e\u0301 is not é"'
  },
  'characters that JSON escapes': {
    nul: JSON.stringify('a\0b'),
    quote: JSON.stringify(`'"\\\``),
    lines: JSON.stringify('a\r\n\tb\u2028c'),
    half: JSON.stringify('\ud800')
  },
  'invalid JSON': { empty: '', brace: '{', word: 'null and void', quote: "'", two: '1 2' },
  'text that looks like a command': {
    sql: '"\'); DROP TABLE sessions; --"',
    lua: '"]] redis.call(\'FLUSHALL\') --"',
    placeholder: '"$1 ? :id @id %s"'
  }
}

const KEYS = [
  '',
  ' ',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '$flash',
  '$',
  '$.a',
  '.',
  'a.b',
  'a[0]',
  '0',
  '-1',
  "it's",
  'a"b',
  'a\\b',
  'a`b',
  'a,b',
  '{a}',
  'a:b',
  '*',
  '%',
  '?',
  'a\nb',
  'a\tb',
  'a\0b',
  'a\0c',
  'é',
  'e\u0301',
  'ключ',
  '🔑',
  'version',
  'userId',
  'expiresAt',
  'A',
  'a',
  'k'.repeat(1024)
]

const texts: readonly Case[] = Object.entries(TEXTS).map(([name, data]) => ({
  name: `neither create nor update changes ${name}`,
  async run({ store }) {
    const record = makeRecord({ data })
    await store.create(ID, record)
    assertRecord(await store.get(ID), record)
    await store.update(ID, makePatch({ clear: true }))
    await store.update(ID, makePatch({ set: data }))
    assert.deepEqual(entriesOf(((await store.get(ID)) as SessionRecord).data), entriesOf(data))
  }
}))

export const textCases: readonly Case[] = [
  ...texts,
  {
    name: 'get returns the JSON text of a value unchanged, including spaces, number formats and key order',
    async run({ store }) {
      const data = {
        ordered: '{"z":1,"a":{"y":[1,{"b":2,"a":1}],"x":null},"bb":1,"10":"ten","9":"nine","__proto":true}',
        spaced: '{ "a" : 1,\n"a":2 }',
        number: '{"n":1e2,"m":1.0}'
      }
      await store.create(ID, makeRecord({ data }))
      assert.deepEqual(entriesOf(((await store.get(ID)) as SessionRecord).data), entriesOf(data))
      await store.update(ID, makePatch({ set: data }))
      assert.deepEqual(entriesOf(((await store.get(ID)) as SessionRecord).data), entriesOf(data))
    }
  },
  {
    name: 'get returns a 1 MB value unchanged, even after another key changes',
    async run({ store }) {
      const big = JSON.stringify('é'.repeat(MEGABYTE / 2))
      await store.create(ID, makeRecord({ data: { big } }))
      await store.update(ID, makePatch({ set: { small: '1' } }))
      const { data } = (await store.get(ID)) as SessionRecord
      assert.ok(data['big'] === big, 'the value is unchanged')
      assert.equal(data['small'], '1')
    }
  },
  {
    name: 'any string works as a key, and different keys are never mixed up',
    async run({ store }) {
      const data = textsFor(KEYS, 'created')
      await store.create(ID, makeRecord({ data }))
      assert.deepEqual(entriesOf(((await store.get(ID)) as SessionRecord).data), entriesOf(data))
      for (const key of KEYS) {
        data[key] = `"updated ${KEYS.indexOf(key)}"`
        const set = textsFor([])
        set[key] = data[key]
        await store.update(ID, makePatch({ set }))
        assert.deepEqual(entriesOf(((await store.get(ID)) as SessionRecord).data), entriesOf(data))
      }
    }
  },
  {
    name: 'any key can be removed without affecting other keys',
    async run({ store }) {
      const data = textsFor(KEYS, 'created')
      await store.create(ID, makeRecord({ data }))
      for (const key of KEYS) {
        Reflect.deleteProperty(data, key)
        await store.update(ID, makePatch({ remove: [key] }))
        assert.deepEqual(entriesOf(((await store.get(ID)) as SessionRecord).data), entriesOf(data))
      }
    }
  },
  {
    name: 'inherited object properties such as constructor do not appear as keys',
    async run({ store }) {
      await store.create(ID, makeRecord({ data: { a: '1' } }))
      const { data } = (await store.get(ID)) as SessionRecord
      for (const key of ['__proto__', 'constructor', 'toString'])
        assert.equal(Object.hasOwn(data, key), false)
      assert.equal(Object.hasOwn(Object.prototype, 'polluted'), false)
    }
  },
  {
    name: 'a session can hold 300 keys',
    async run({ store }) {
      const names = Array.from({ length: 300 }, (_, index) => `key ${index}`)
      const data = textsFor(names, 'many')
      await store.create(ID, makeRecord({ data }))
      await store.update(ID, makePatch({ set: textsFor(names, 'more'), remove: names.slice(0, 100) }))
      const { data: kept } = (await store.get(ID)) as SessionRecord
      assert.deepEqual(entriesOf(kept), entriesOf(textsFor(names, 'more')))
    }
  }
]

/** Returns an object with a JSON string for each key. It has no prototype, so `__proto__` is an ordinary key. */
function textsFor(keys: readonly string[], word = ''): Record<string, string> {
  const data = Object.create(null) as Record<string, string>
  keys.forEach((key, index) => (data[key] = `"${word} ${index}"`))
  return data
}
