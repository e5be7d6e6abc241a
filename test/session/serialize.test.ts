import t from 'tap'
import { SessionValueError } from '../../plugin/index.js'
import { deserialize, reserialize, serialize } from '../../plugin/session/serialize.js'
import { listen } from '../fixtures/diagnostics.js'

const cycle: Record<string, unknown> = { hidden: 'hunter2' }
cycle['self'] = { cycle }
const throwing = (error: unknown) => ({
  toJSON() {
    throw error
  }
})

/** Values that JSON cannot represent, each with the reason that the error message must give. */
const REFUSED: Record<string, [value: unknown, reason: RegExp]> = {
  undefined: [undefined, /it is undefined/],
  'a function': [() => 'hunter2', /it is a function/],
  'a symbol': [Symbol('hunter2'), /it is a symbol/],
  'a BigInt': [10n, /it is a bigint/],
  NaN: [NaN, /it is NaN/],
  Infinity: [-Infinity, /it is -Infinity/],
  'a cycle': [cycle, /it contains a cycle/],
  'a Map': [new Map([['a', 'hunter2']]), /it is an instance of Map/],
  'a Set': [new Set(['hunter2']), /it is an instance of Set/],
  'a Promise': [Promise.resolve('hunter2'), /it is an instance of Promise/],
  'a WeakMap': [new WeakMap(), /it is an instance of WeakMap/],
  'a WeakSet': [new WeakSet(), /it is an instance of WeakSet/],
  'an ArrayBuffer': [new ArrayBuffer(4), /it is an instance of ArrayBuffer/],
  'a URLSearchParams': [new URLSearchParams('a=hunter2'), /it is an instance of URLSearchParams/],
  'a RegExp': [/hunter2/, /it is an instance of RegExp/],
  'an Error': [new TypeError('hunter2'), /it is an instance of Error/],
  'an invalid Date': [new Date(NaN), /it is an invalid Date/],
  'undefined in an array': [['hunter2', undefined], /undefined at "1"/],
  'a hole in an array': [[, 'hunter2'], /undefined at "0"/], // eslint-disable-line no-sparse-arrays
  'a function in an object': [{ password: 'hunter2', a: { run() {} } }, /a function at "run"/],
  'a symbol in an array': [[Symbol('hunter2')], /a symbol at "0"/],
  'a BigInt in an object': [{ a: [{ n: 7n }] }, /a bigint at "n"/],
  'NaN in an array': [[[NaN]], /NaN at "0"/],
  'Infinity in an object': [{ a: { b: Infinity } }, /Infinity at "b"/],
  'a Map in an object': [{ a: new Map() }, /an instance of Map at "a"/],
  'an invalid Date in an object': [{ a: new Date('hunter2') }, /an invalid Date at "a"/],
  'a toJSON that throws': [throwing(new Error('hunter2')), /turning it into text threw an error/],
  'a toJSON that throws a value other than an Error': [throwing(null), /turning it into text threw an error/],
  'a toJSON that returns undefined': [{ toJSON: () => undefined }, /it is undefined/],
  'a getter that throws': [
    {
      get a() {
        throw new TypeError('hunter2')
      }
    },
    /turning it into text threw an error/
  ]
}

for (const [name, [value, reason]] of Object.entries(REFUSED)) {
  void t.test(`serialize() refuses ${name}, and its error names the key but never the value`, async (t) => {
    t.plan(6)
    try {
      serialize('profile', value)
    } catch (error) {
      if (!(error instanceof SessionValueError)) throw error
      t.equal(error.code, 'SESSION_VALUE_INVALID')
      t.equal(error.key, 'profile')
      t.match(error.message, 'Session key "profile" cannot be kept as JSON: ')
      t.match(error.message, reason)
      t.notMatch(error.message, /hunter2/)
      t.notMatch(error.message, /\n/)
    }
  })
}

void t.test('serialize() keeps every JSON value unchanged', async (t) => {
  const values = [null, true, 0, -1.5, '', 'ß\u0000\ud800', [], {}, [null], { a: [{ b: null }] }, [[[]]]]
  for (const value of values) t.same(JSON.parse(serialize('a', value)), value)
})

void t.test('serialize() omits properties that are undefined', async (t) => {
  t.equal(serialize('a', { b: undefined, c: 1 }), '{"c":1}')
})

void t.test('serialize() uses the toJSON() method of a value', async (t) => {
  t.equal(serialize('a', new Date(0)), '"1970-01-01T00:00:00.000Z"')
  t.equal(serialize('a', { toJSON: () => null }), 'null')
  t.equal(serialize('a', Object.assign(new Map(), { toJSON: () => [] })), '[]')
})

void t.test(
  'reserialize() drops values that JSON cannot represent, but refuses cycles and BigInts',
  async (t) => {
    t.equal(reserialize('a', { b: 1, run: () => 1 }), '{"b":1}')
    t.throws(() => reserialize('a', cycle), {
      code: 'SESSION_VALUE_INVALID',
      message: /"a" .*it contains a cycle/
    })
    t.throws(() => reserialize('a', { b: 1n }), { code: 'SESSION_VALUE_INVALID', message: /a bigint at "b"/ })
  }
)

void t.test(
  'deserialize() returns undefined for a value that is not JSON text, and reports it',
  async (t) => {
    const reports = listen(t, 'invalid-record')
    const broken = ['', '{', 'undefined', "'a'", '1 2', 'NaN', null, 7, true, {}, ['1']]
    for (const text of broken) t.equal(deserialize('id', 'name', text), undefined)
    t.same(
      reports,
      broken.map(() => ({ id: 'id', key: 'name', reason: 'json' }))
    )
    t.same(deserialize('id', 'name', '{"a":null}'), { a: null })
    t.equal(deserialize('id', 'name', 'null'), null)
    t.equal(reports.length, broken.length)
  }
)

void t.test('deserialize() accepts a __proto__ key in JSON and does not pollute any prototype', async (t) => {
  const value = deserialize('id', 'name', '{"__proto__":{"admin":true}}') as object
  t.same(Object.keys(value), ['__proto__'])
  t.equal((value as { admin?: boolean }).admin, undefined)
  t.equal(({} as { admin?: boolean }).admin, undefined)
})
