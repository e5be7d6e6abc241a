import t from 'tap'
import { infoOf, isRecord } from '../../plugin/session/record.js'
import { listen } from '../fixtures/diagnostics.js'
import { makeRecord } from '../fixtures/stores.js'

void t.test('a record of ours is one, and is not reported', async (t) => {
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

void t.test('anything else is none, and is reported where somebody listens', async (t) => {
  const others = [
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
  for (const other of others) t.equal(isRecord('id', other as never), false)
  const reports = listen(t, 'invalid-record')
  for (const other of others) t.equal(isRecord('id', other as never), false)
  t.same(
    reports,
    others.map(() => ({ id: 'id', reason: 'shape' }))
  )
})

void t.test('what a device list shows is the application’s data alone', async (t) => {
  const data = {
    ['__proto__']: '{"a":1}',
    name: '"ada"',
    $csrf: '"secret"',
    '$flash.note': '{}',
    broken: '{'
  }
  const record = makeRecord({ data, userId: 'ada' })
  const { data: values, ...info } = infoOf('id', record)
  const { createdAt, lastAccessed, expiresAt } = record
  t.same(info, { id: 'id', userId: 'ada', createdAt, lastAccessed, expiresAt })
  t.equal(Object.getPrototypeOf(values), null)
  t.same(Object.entries(values), [
    ['__proto__', { a: 1 }],
    ['name', 'ada'],
    ['broken', undefined]
  ])
})
