import { inspect } from 'node:util'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { MemoryStore, type SessionStore } from '../../plugin/index.js'
import { withoutValues } from '../../plugin/stores/driver-error.js'
import { fromExpressStore } from '../../plugin/stores/express/store.js'
import { makeFake } from '../fixtures/express.js'
import { assertNoLeaks } from '../fixtures/leaks.js'
import { wrap } from '../fixtures/stores.js'

const print = (error: unknown) =>
  inspect(error, { depth: Infinity, showHidden: true }) + JSON.stringify(error)

void t.test('the copy of an error keeps name, code, message and stack, and nothing else', async (t) => {
  const error = Object.assign(new RangeError('read ECONNRESET'), {
    code: 'ECONNRESET',
    command: { name: 'evalsha', args: ['hunter2'] },
    detail: 'Key (name)=(hunter2) already exists.',
    [Symbol('args')]: ['hunter2']
  })
  Object.defineProperty(error, 'parameters', { value: ['hunter2'], enumerable: false })
  const copy = withoutValues(error)
  t.match(copy, { name: 'RangeError', code: 'ECONNRESET', message: 'read ECONNRESET' })
  t.match(copy.stack, /^RangeError: read ECONNRESET\n {4}at .*driver-error\.test\.ts/)
  t.notMatch(print(copy), 'hunter2')
  t.same(Object.keys(copy), ['code'])
})

void t.test('values in a message or a stack are replaced, however the driver quotes them', async (t) => {
  const values = [
    { name: '"ada \\"the\\" first"', card: '{"number":4111222233334444}' },
    'ada@example.org',
    '[tea{{'
  ]
  const quotes = {
    'as it is': ['no ada "the" first!', 'no [redacted]!'],
    'as JSON': ['no "ada \\"the\\" first"!', 'no [redacted]!'],
    'as JSON in JSON': ['no "\\"ada \\\\\\"the\\\\\\" first\\""!', 'no "[redacted]"!'],
    'an object': ['no {"other":"secret"}!', 'no [redacted]'],
    'an object that is cut off': ['no {"other":"sec', 'no [redacted]'],
    'a text that only begins like JSON': ['no [tea{{!', 'no [redacted]!'],
    'the beginning': ['no ada@exam…', 'no [redacted]…'],
    'twice, side by side': ['no ada@example.orgada@example.org!', 'no [redacted]!'],
    'a number': ['no 4111222233334444!', 'no [redacted]!'],
    'a part that overlaps another': ['no ada@exaada@example.org!', 'no ada@exa[redacted]!']
  }
  for (const [name, [message, expected]] of Object.entries(quotes)) {
    const copy = withoutValues(new Error(message), values)
    t.equal(copy.message, expected, name)
    t.match(copy.stack?.split('\n    at', 1)[0], `Error: ${copy.message}`)
  }
})

void t.test(
  'a short value is replaced only in quotation marks, and a JSON literal is not replaced',
  async (t) => {
    const values = { a: 'null', b: '"data"', c: '"abc"', d: 'true', e: '12' }
    const copy = withoutValues(new Error('null value in "abc": abc is not true, 12 times'), values)
    t.equal(copy.message, 'null value in [redacted]: abc is not true, 12 times')
  }
)

void t.test('a name or a code is kept only if it cannot be a value', async (t) => {
  const copyOf = (fields: object) => withoutValues(Object.assign(new Error('no'), fields), ['hunter2'])
  t.match(copyOf({ code: 23505, name: 'PostgresError' }), { code: 23505, name: 'PostgresError' })
  for (const wrong of ['hunter2', 'two words', { text: 'x' }, 'x'.repeat(51), '']) {
    const copy = copyOf({ code: wrong, name: wrong })
    t.equal(copy.name, 'Error')
    t.notOk('code' in copy, inspect(wrong))
  }
})

void t.test('the causes of an error and the errors in an AggregateError are copied too', async (t) => {
  const inner = Object.assign(new TypeError('bad hunter2'), { args: ['hunter2'] })
  const error = new AggregateError([inner, new Error('other')], 'both failed', { cause: inner })
  const copy = withoutValues(error, ['hunter2']) as AggregateError
  const expected = { name: 'TypeError', message: 'bad [redacted]' }
  t.match(copy, { name: 'AggregateError', cause: expected, errors: [expected, { message: 'other' }] })
  t.notMatch(print(copy), 'hunter2')
})

void t.test('a cycle or a tree of causes is copied to a limited depth and width', async (t) => {
  const cyclic = new AggregateError([], 'round')
  cyclic.cause = cyclic
  cyclic.errors = Array.from({ length: 100 }, () => cyclic)
  const copy = withoutValues(cyclic) as AggregateError
  t.equal(copy.errors.length, 5)
  const count = (error: unknown): number => {
    const { cause, errors = [] } = Object(error) as Partial<AggregateError>
    return error === undefined
      ? 0
      : [cause, ...(errors as unknown[])].reduce<number>((sum, one) => sum + count(one), 1)
  }
  t.ok(count(copy) < 2000, `${count(copy)} errors`)
})

void t.test('a value that is not an Error becomes an error that does not quote it', async (t) => {
  for (const wrong of [
    'hunter2',
    { message: 'hunter2' },
    ['hunter2'],
    null,
    undefined,
    7,
    Symbol('hunter2')
  ]) {
    const copy = withoutValues(wrong)
    t.match(copy.message, /^The store threw a value of type \w+ instead of an Error$/)
    t.notMatch(print(copy), 'hunter2')
  }
})

void t.test('errors of another realm and of any shape are copied', async (t) => {
  t.match(withoutValues(runInNewContext('new RangeError("far")')), { name: 'RangeError', message: 'far' })
  t.match(withoutValues(new DOMException('stop', 'AbortError')), { name: 'AbortError', message: 'stop' })
  const odd = Object.assign(new Error('no'), { message: { text: 'hunter2' }, stack: undefined, name: null })
  t.match(withoutValues(odd), { name: 'Error', message: '[object Object]' })
  t.match(withoutValues(new Error('no\n    at hunter2')).stack, /^Error: no\n {4}at hunter2\n {4}at .*\.test/)
})

void t.test('the message of a SyntaxError is dropped, because JSON.parse quotes the text', async (t) => {
  let error: unknown
  try {
    JSON.parse('hunter2')
  } catch (caught) {
    error = caught
  }
  const copy = withoutValues(error)
  t.match(copy, { name: 'SyntaxError', message: 'A text could not be parsed' })
  t.notMatch(print(copy), 'hunter2')
})

void t.test('a long message is cut off', async (t) => {
  const { message, stack = '' } = withoutValues(new Error('too long '.repeat(1000)))
  t.equal(message.length, 1000)
  t.ok(stack.length < 2500)
})

void t.test('a session with many or deeply nested values is searched', async (t) => {
  const many = Object.fromEntries(
    Array.from({ length: 20_000 }, (_, n) => [`key${n}`, `"value number ${n}"`])
  )
  t.equal(withoutValues(new Error('no value number 19999!'), many).message, 'no [redacted]!')
  const deep = `${'['.repeat(100_000)}"hunter2"${']'.repeat(100_000)}`
  t.equal(withoutValues(new Error('no hunter2'), { deep }).message, 'no [redacted]')
})

/** A store that fails as the worst driver would: it quotes everything that it got or has, wherever an error can. */
function tellingStore(isAsync: boolean) {
  const memory = new MemoryStore()
  const state = { fails: false }
  const store = wrap(memory, (method, args, next) => {
    if (!state.fails || method === 'get') return next()
    const quoted = JSON.stringify(args).replace(/[{}]/g, '') + inspect(args, { depth: Infinity })
    const cause = Object.assign(new TypeError(quoted), { detail: quoted, command: { args } })
    const errors = [cause, args]
    const error = Object.assign(new AggregateError(errors, quoted, { cause }), { query: args, code: quoted })
    if (isAsync) return Promise.reject(error)
    throw error
  })
  return { store, fail: () => (state.fails = true) }
}

for (const isAsync of [false, true]) {
  const kind = isAsync ? 'rejects' : 'throws'
  void t.test(`F10: an error that a store ${kind} shows no value of the session`, async (t) => {
    const { store, fail } = tellingStore(isAsync)
    const errors = await assertNoLeaks(t, store, fail)
    t.equal(errors.length, 5)
    for (const error of errors)
      t.match(error, { name: 'AggregateError', message: /./, cause: { name: 'TypeError' } })
    t.match(errors[0]?.message, '[redacted]')
  })
}

void t.test('F10: a session that cannot be moved to the new store shows no value', async (t) => {
  const old = new MemoryStore()
  const { store, fail } = tellingStore(true)
  fail()
  const broken: SessionStore = { ...store, get: () => undefined }
  const { migratingStore } = await import('../../plugin/stores/migrating.js')
  const moving = migratingStore(broken, old, 1000)
  const target: SessionStore = {
    ...moving,
    get: (id) => old.get(id),
    create: (id, record) => old.create(id, record)
  }
  await assertNoLeaks(t, target, () => (target.get = (id) => moving.get(id)))
})

void t.test('F10: an express-session store that quotes the session shows no value', async (t) => {
  for (const wrapError of [(text: string) => new Error(text), (text: string) => ({ text })]) {
    const fake = makeFake({ touch: true })
    const quote = (_sid: string, session: unknown, callback: (error: unknown) => void) =>
      callback(wrapError((JSON.stringify(session) + inspect(session)).replace(/[{}]/g, '')))
    const errors = await assertNoLeaks(
      t,
      fromExpressStore(fake),
      () => (fake.set = fake.touch = quote as never)
    )
    t.ok(errors.length >= 2)
  }
})
