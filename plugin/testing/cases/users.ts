import assert from 'node:assert/strict'
import type { SessionStore } from '../../types.js'
import { assertRecord, idOf, makePatch, makeRecord } from '../records.js'
import type { Case, Subject } from '../store.js'

type ByUser = SessionStore & Required<Pick<SessionStore, 'listByUser' | 'destroyByUser'>>

const [A, B, C] = [idOf('a'), idOf('b'), idOf('c')]

/** Different user ids that a database could confuse if it trims, case-folds, truncates, splits or interpolates them. */
const USERS = [
  '',
  ' ',
  'ada',
  'Ada',
  'ada ',
  'ada:1',
  'ada:',
  'ada*',
  'ad%',
  'ad_',
  '*',
  '%',
  '?',
  "ada'",
  "' OR '1'='1",
  'ada"',
  '"ada"',
  '`ada`',
  '{ada}',
  '{}',
  '[]',
  'null',
  'undefined',
  '__proto__',
  'constructor',
  '\\',
  'ada\\',
  'ada\n',
  'ada\r\n',
  'ada\0',
  'ada\0b',
  '\0',
  'é',
  'e\u0301',
  '\ud800',
  '\ud801',
  '\ufffd',
  '👩‍🚀',
  '$1',
  'x'.repeat(1024),
  'x'.repeat(1023)
]

export const userCases: readonly Case[] = [
  userCase('a user without sessions has an empty list', async (store) => {
    await store.create(A, makeRecord())
    assert.deepEqual(await store.listByUser('ada'), [])
    assert.equal(await store.destroyByUser('ada'), 0)
    assert.notEqual(await store.get(A), undefined)
  }),
  userCase('a record without data and without a user belongs to no user', async (store) => {
    const record = makeRecord({ data: {} })
    await store.create(A, record)
    for (const userId of USERS) {
      await assertListed(store, userId, [])
      assert.equal(await store.destroyByUser(userId), 0, JSON.stringify(userId))
    }
    assertRecord(await store.get(A), record)
  }),
  userCase(
    'listByUser returns every session of the user with its record, and no session of another user',
    async (store) => {
      const [a, b] = [makeRecord({ userId: 'ada', data: { a: '1' } }), makeRecord({ userId: 'ada' })]
      await store.create(A, a)
      await store.create(B, b)
      await store.create(C, makeRecord({ userId: 'bob' }))
      const listed = new Map((await store.listByUser('ada')).map(({ id, record }) => [id, record]))
      assert.deepEqual([...listed.keys()].sort(), [A, B].sort())
      assertRecord(listed.get(A), a)
      assertRecord(listed.get(B), b)
    }
  ),
  userCase('destroyByUser ends all sessions of the user, and no session of another user', async (store) => {
    for (const id of [A, B]) await store.create(id, makeRecord({ userId: 'ada' }))
    await store.create(C, makeRecord({ userId: 'bob' }))
    assert.equal(await store.destroyByUser('ada'), 2)
    for (const id of [A, B]) assert.equal(await store.get(id), undefined)
    assert.equal(await store.update(A, makePatch()), 'gone')
    assert.notEqual(await store.get(C), undefined)
    await assertListed(store, 'ada', [])
    assert.equal(await store.destroyByUser('ada'), 0)
  }),
  userCase('destroyByUser keeps the session whose id is passed as `except`', async (store) => {
    for (const id of [A, B, C]) await store.create(id, makeRecord({ userId: 'ada' }))
    assert.equal(await store.destroyByUser('ada', B), 2)
    await assertListed(store, 'ada', [B])
    assert.notEqual(await store.get(B), undefined)
  }),
  userCase('destroyByUser ignores `except` if the user has no session with that id', async (store) => {
    await store.create(C, makeRecord({ userId: 'bob' }))
    for (const except of [C, '', '*', "' OR '1'='1", 'a\0b', '\ud800']) {
      await store.create(A, makeRecord({ userId: 'ada' }))
      assert.equal(await store.destroyByUser('ada', except), 1, except)
      assert.equal(await store.get(A), undefined)
    }
    assert.notEqual(await store.get(C), undefined)
  }),
  userCase('a destroyed session is not listed', async (store) => {
    for (const id of [A, B]) await store.create(id, makeRecord({ userId: 'ada' }))
    await store.destroy(A)
    await assertListed(store, 'ada', [B])
  }),
  userCase('a renamed session is listed only under its new id', async (store) => {
    await store.create(A, makeRecord({ userId: 'ada' }))
    await store.update(A, makePatch({ renameTo: B }))
    await assertListed(store, 'ada', [B])
    assert.equal(await store.destroyByUser('ada'), 1)
    assert.equal(await store.get(B), undefined)
  }),
  userCase('a session moves to the new user’s list when its user changes', async (store) => {
    await store.create(A, makeRecord())
    await store.update(A, makePatch({ userId: 'ada' }))
    await assertListed(store, 'ada', [A])
    await store.update(A, makePatch({ userId: 'bob', renameTo: B }))
    await assertListed(store, 'ada', [])
    await assertListed(store, 'bob', [B])
    await store.update(B, makePatch({ userId: null }))
    await assertListed(store, 'bob', [])
    assert.equal(await store.destroyByUser('bob'), 0)
    assert.notEqual(await store.get(B), undefined)
  }),
  userCase('a session stays listed after a data change or a touch', async (store) => {
    await store.create(A, makeRecord({ userId: 'ada' }))
    await store.update(A, makePatch({ set: { a: '1' } }))
    await store.update(A, makePatch({ clear: true }))
    await store.update(A, makePatch())
    await assertListed(store, 'ada', [A])
  }),
  userCase('a refused write does not change any user’s list of sessions', async (store) => {
    await store.create(A, makeRecord({ userId: 'ada' }))
    await store.create(B, makeRecord({ userId: 'bob' }))
    await store.update(A, makePatch({ userId: 'bob', ifVersion: 9 }))
    await store.update(A, makePatch({ userId: 'bob', renameTo: B }))
    await store.create(A, makeRecord({ userId: 'bob' }))
    await assertListed(store, 'ada', [A])
    await assertListed(store, 'bob', [B])
  }),
  userCase('any string works as a user id, and no two user ids share sessions', async (store) => {
    for (const [index, userId] of USERS.entries()) {
      await store.create(idOf(`${index}`), makeRecord({ userId }))
    }
    for (const [index, userId] of USERS.entries()) {
      await assertListed(store, userId, [idOf(`${index}`)])
      assert.equal((await store.get(idOf(`${index}`)))?.userId, userId)
    }
    for (const [index, userId] of USERS.entries()) {
      assert.equal(await store.destroyByUser(userId), 1, JSON.stringify(userId))
      const next = index + 1
      if (next < USERS.length) assert.notEqual(await store.get(idOf(`${next}`)), undefined)
    }
  }),
  userCase('a user can have 200 sessions', async (store) => {
    const ids = Array.from({ length: 200 }, (_, index) => idOf(`${index}`))
    await Promise.all(ids.map(async (id) => store.create(id, makeRecord({ userId: 'ada' }))))
    await assertListed(store, 'ada', ids)
    assert.equal(await store.destroyByUser('ada', ids[7]), 199)
    await assertListed(store, 'ada', [ids[7] as string])
  })
]

function userCase(name: string, run: (store: ByUser) => Promise<void>): Case {
  return { name, needs: 'by user', run: ({ store }: Subject) => run(byUser(store)) }
}

function byUser(store: SessionStore): ByUser {
  const has = store.listByUser !== undefined && store.destroyByUser !== undefined
  assert.ok(
    has,
    'the store has no listByUser() or destroyByUser(). If that is intended, give the reason in `unsupported: { "by user": … }`'
  )
  return store as ByUser
}

async function assertListed(store: ByUser, userId: string, ids: readonly string[]): Promise<void> {
  const listed = await store.listByUser(userId)
  assert.deepEqual(listed.map(({ id }) => id).sort(), [...ids].sort(), JSON.stringify(userId))
}
