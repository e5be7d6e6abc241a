import t from 'tap'
import { MemoryStore, type SessionRecord } from '../../plugin/index.js'
import { infoOf, infoWithDataOf } from '../../plugin/session/record.js'
import { isRecord } from '../../plugin/stores/record.js'
import { addRoutes, Browser, makeApp, setCookieOf } from '../fixtures/app.js'
import { listen } from '../fixtures/diagnostics.js'
import { makeRecord, wrap } from '../fixtures/stores.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

void t.test('isRecord() accepts a valid record and does not report it', async (t) => {
  const reports = listen(t, 'invalid-record')
  for (const part of [
    {},
    { userId: 'ada' },
    { data: {} },
    { expiresAt: 0.5 },
    { more: 'of a later version' }
  ]) {
    t.equal(isRecord('id', makeRecord(part)), true)
  }
  t.same(reports, [])
})

void t.test(
  'isRecord() rejects a malformed record, and reports it if the diagnostics channel has a subscriber',
  async (t) => {
    const malformed = [
      ...[undefined, null, 7, 'x', [], {}],
      ...[{ version: 1.5 }, { data: null }, { data: [] }, { createdAt: '0' }, { lastAccessed: NaN }].map(
        (part) => ({
          ...makeRecord(),
          ...part
        })
      ),
      { ...makeRecord(), expiresAt: null },
      { ...makeRecord(), userId: 7 }
    ]
    for (const record of malformed) t.equal(isRecord('id', record as never), false)
    const reports = listen(t, 'invalid-record')
    for (const record of malformed) t.equal(isRecord('id', record as never), false)
    t.same(
      reports,
      malformed.map(() => ({ id: 'id', reason: 'shape' }))
    )
  }
)

void t.test('infoOf() returns no data, and infoWithDataOf() only the application’s data', async (t) => {
  const data = {
    ['__proto__']: '{"a":1}',
    name: '"ada"',
    $csrf: '"secret"',
    '$flash.note': '{}',
    broken: '{'
  }
  const record = makeRecord({ data, userId: 'ada' })
  const { data: values, ...info } = infoWithDataOf('id', record)
  t.same(infoOf('id', record), info)
  const { createdAt, lastAccessed, expiresAt } = record
  t.same(info, { id: 'id', userId: 'ada', createdAt, lastAccessed, expiresAt })
  t.equal(Object.getPrototypeOf(values), null)
  t.same(Object.entries(values), [
    ['__proto__', { a: 1 }],
    ['name', 'ada'],
    ['broken', undefined]
  ])
})

/** Malformed records that another program or a bug could have written to the store. */
const MALFORMED: Record<string, unknown> = {
  'a missing version': { ...makeRecord(), version: undefined },
  'a version that is text': { ...makeRecord(), version: '1' },
  'no data': { ...makeRecord(), data: undefined },
  'null as data': { ...makeRecord(), data: null },
  'JSON text as data': { ...makeRecord(), data: '{"name":"ada"}' },
  'other text as data': { ...makeRecord(), data: 'name' },
  'an array as data': { ...makeRecord(), data: ['ada'] },
  'a missing createdAt': { ...makeRecord(), createdAt: undefined },
  'a Date as createdAt': { ...makeRecord(), createdAt: new Date() },
  'NaN as createdAt': { ...makeRecord(), createdAt: NaN },
  'NaN as lastAccessed': { ...makeRecord(), lastAccessed: NaN },
  'a missing expiresAt': { ...makeRecord(), expiresAt: undefined },
  'text as expiresAt': { ...makeRecord(), expiresAt: '9999999999999' },
  'Infinity as expiresAt': { ...makeRecord(), expiresAt: Infinity },
  'a missing userId': { ...makeRecord(), userId: undefined },
  'a number as userId': { ...makeRecord(), userId: 7 },
  'an empty object': {},
  'an array': [],
  text: 'x',
  'JSON text': '{"version":1}',
  'a number': 7,
  true: true,
  null: null
}

for (const [name, malformed] of Object.entries(MALFORMED)) {
  void t.test(`a malformed record is treated as absent and reported: ${name}`, async (t) => {
    const reports = listen(t, 'invalid-record')
    for (const isAsync of [false, true]) {
      const store = wrap(new MemoryStore(), (method, _args, next) =>
        method !== 'get' ? next() : isAsync ? Promise.resolve(malformed) : malformed
      )
      const { visit } = await makeVisits(t, { store })
      const { result: id } = await visit((session) => session.set('name', 'ada') ?? session.id)
      const { response, result } = await visit((session) => ({
        isNew: session.isNew,
        keys: session.keys(),
        name: session.get('name'),
        hasSameId: session.id === id
      }))
      t.same(result, { isNew: true, keys: [], name: undefined, hasSameId: false })
      t.equal(response.statusCode, 200)
      t.equal(setCookieOf(response), undefined)
      t.same(reports.splice(0), [{ id, reason: 'shape' }])
    }
  })
}

void t.test(
  'a malformed value is treated as absent and reported, and the other values are kept',
  async (t) => {
    for (const text of ['{', '', 'ada', undefined, null, 7, {}, ['"a"']]) {
      const { visit, memory } = await makeVisits(t)
      const reports = listen(t, 'invalid-record')
      const { result: id } = await visit((session) => session.set('name', 'ada') ?? session.id)
      const record = { ...makeRecord(), data: { name: text, color: '"red"' } }
      memory.get = () => record as never
      const { result } = await visit((session) => ({
        name: session.get('name'),
        has: session.has('name'),
        values: valuesOf(session)
      }))
      t.same(result, { name: undefined, has: false, values: { color: 'red' } })
      if (text !== undefined) t.match(reports, [{ id, key: 'name', reason: 'json' }])
    }
  }
)

void t.test(
  'a stored value that is not JSON is treated as absent, reported and never evaluated',
  async (t) => {
    const reports = listen(t, 'invalid-record')
    const data = { name: '(() => { globalThis.evaluated = true })()', color: '"red"', broken: '{"a":' }
    const app = addRoutes(await makeApp(t, { store: storeOf({ data }) }))
    const browser = new Browser(app)
    app.get('/all', async ({ session }) => ['name', 'color', 'broken'].map((key) => session.get(key) ?? null))
    await browser.get('/set?name=ada')
    t.same((await browser.get('/all')).json(), [null, 'red', null])
    t.match(reports, [
      { key: 'name', reason: 'json' },
      { key: 'broken', reason: 'json' }
    ])
    t.notOk('evaluated' in globalThis)
  }
)

void t.test(
  '__proto__ in a record does not pollute any prototype, whether it is a key or inside a value',
  async (t) => {
    const data = JSON.parse(
      '{"__proto__":"{\\"isAdmin\\":true}","name":"{\\"__proto__\\":{\\"isAdmin\\":true}}"}'
    ) as {
      [key: string]: string
    }
    const app = addRoutes(await makeApp(t, { store: storeOf({ data }) }))
    const browser = new Browser(app)
    app.get('/all', async ({ session }) => ({
      keys: session.keys(),
      isAdmin: [session.get('isAdmin') ?? null, ({} as { isAdmin?: true }).isAdmin ?? null]
    }))
    await browser.get('/set?name=ada')
    t.same((await browser.get('/all')).json(), { keys: ['__proto__', 'name'], isAdmin: [null, null] })
    t.equal((await browser.get('/set?__proto__=x&constructor=y')).statusCode < 500, true)
    t.equal(({} as { isAdmin?: true }).isAdmin, undefined)
  }
)

/** Creates a store whose `get()` ignores the id and returns a valid record with the given fields. */
function storeOf(record: Partial<SessionRecord>) {
  return wrap(new MemoryStore(), (method, _args, next) => (method === 'get' ? makeRecord(record) : next()))
}
