import t from 'tap'
import { emptyTexts, type Difference } from '../../plugin/session/changes.js'
import { plan, type FoundSession, type Outcome, type Plan } from '../../plugin/session/plan.js'
import { makeRecord } from '../fixtures/stores.js'

const NOW = 1_000_000_000_000
const MINUTE = 60_000
const DAY = 86_400_000
const IDS = { token: 'new token', id: 'new id' }
const KEPT = { token: 'token', id: 'id' }

const options = {
  maxAge: DAY,
  idleTimeout: Infinity,
  userKey: 'userId',
  cookie: { persistent: true }
} as Outcome['options']

const idle = { ...options, idleTimeout: 10 * MINUTE }

/** The record of a session that was created one minute before `NOW`. */
const record = makeRecord({
  version: 3,
  createdAt: NOW - MINUTE,
  lastAccessed: NOW - MINUTE,
  expiresAt: NOW - MINUTE + DAY
})
const found: FoundSession = { ...KEPT, stale: false, record }
const idleFound = { ...found, record: { ...record, expiresAt: NOW - MINUTE + 10 * MINUTE } }

function differenceOf(difference: Partial<Difference>): Difference {
  return {
    remove: [],
    clear: false,
    versioned: false,
    ...difference,
    set: Object.assign(emptyTexts(), difference.set)
  }
}

const SET_NAME = differenceOf({ set: { name: '"ada"' } })
const SET_USER = differenceOf({ set: { userId: '"ada"' } })

interface Row {
  readonly outcome: Partial<Outcome>
  readonly ids?: typeof IDS
  readonly plan: Plan | undefined
}

const touched = { set: {}, remove: [], lastAccessed: NOW, expiresAt: record.expiresAt }
const created: Plan = {
  kind: 'create',
  id: 'new id',
  record: {
    version: 1,
    data: { name: '"ada"' },
    createdAt: NOW,
    lastAccessed: NOW,
    expiresAt: NOW + DAY,
    userId: null
  },
  cookie: { token: 'new token', expiresAt: NOW + DAY }
}

const ROWS: Record<string, Row> = {
  'a new session without data writes nothing': { outcome: {}, plan: undefined },
  'a new session that was only cleared writes nothing': {
    outcome: { difference: differenceOf({ clear: true }) },
    plan: undefined
  },
  'a new session with data is created, with a cookie': { outcome: { difference: SET_NAME }, plan: created },
  'a new session with a user is created under that user': {
    outcome: { difference: SET_USER, userId: 'ada' },
    plan: { ...created, record: { ...created.record, data: { userId: '"ada"' }, userId: 'ada' } }
  },
  'a new session with data writes nothing on a 5xx': {
    outcome: { difference: SET_NAME, failed: true },
    plan: undefined
  },
  'a loaded session that was only read writes nothing': { outcome: { found }, ids: KEPT, plan: undefined },
  'a loaded session that was only read writes nothing before a touch is due': {
    outcome: {
      found: { ...idleFound, record: { ...idleFound.record, lastAccessed: NOW - MINUTE + 1 } },
      options: idle
    },
    ids: KEPT,
    plan: undefined
  },
  'a loaded session that was only read gets a touch and a cookie when a touch is due': {
    outcome: { found: idleFound, options: idle },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, expiresAt: NOW + 10 * MINUTE },
      lossy: false,
      cookie: { token: 'token', expiresAt: NOW + 10 * MINUTE }
    }
  },
  'a due touch sends no cookie if the cookie ends with the browser': {
    outcome: {
      found: idleFound,
      options: { ...idle, cookie: { ...options.cookie, persistent: false } }
    },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, expiresAt: NOW + 10 * MINUTE },
      lossy: false,
      cookie: undefined
    }
  },
  'a loaded session whose cookie is signed with an older secret is touched, with a cookie': {
    outcome: { found: { ...found, stale: true } },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: touched,
      lossy: false,
      cookie: { token: 'token', expiresAt: record.expiresAt }
    }
  },
  'a changed session is updated, without a cookie': {
    outcome: { found, difference: SET_NAME },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, set: { name: '"ada"' } },
      lossy: true,
      cookie: undefined
    }
  },
  'removing a key causes an update that may be lost silently': {
    outcome: { found, difference: differenceOf({ remove: ['name'] }) },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, remove: ['name'] },
      lossy: false,
      cookie: undefined
    }
  },
  'a changed session writes nothing on a 5xx': {
    outcome: { found, difference: SET_NAME, failed: true },
    ids: KEPT,
    plan: undefined
  },
  'a change by update() is written only to the version that was loaded': {
    outcome: { found, difference: { ...SET_NAME, versioned: true } },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, set: { name: '"ada"' }, ifVersion: 3 },
      lossy: true,
      cookie: undefined
    }
  },
  'setting the user puts the user id into the patch': {
    outcome: { found, difference: SET_USER, userId: 'ada' },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, set: { userId: '"ada"' }, userId: 'ada' },
      lossy: true,
      cookie: undefined
    }
  },
  'removing the user sets the user in the patch to null': {
    outcome: { found, difference: differenceOf({ remove: ['userId'] }) },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, remove: ['userId'], userId: null },
      lossy: false,
      cookie: undefined
    }
  },
  'clearing the session clears the data and sets the user to null': {
    outcome: { found, difference: differenceOf({ clear: true }) },
    ids: KEPT,
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, clear: true, userId: null },
      lossy: false,
      cookie: undefined
    }
  },
  'a rotation renames the record, drops the CSRF secret and restarts maxAge': {
    outcome: { found, rotated: true, createdAt: NOW },
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, remove: ['$csrf'], expiresAt: NOW + DAY, createdAt: NOW, renameTo: 'new id' },
      lossy: true,
      cookie: { token: 'new token', expiresAt: NOW + DAY }
    }
  },
  'a rotation removes a CSRF secret only once if the request removes it too': {
    outcome: { found, rotated: true, createdAt: NOW, difference: differenceOf({ remove: ['$csrf'] }) },
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, remove: ['$csrf'], expiresAt: NOW + DAY, createdAt: NOW, renameTo: 'new id' },
      lossy: true,
      cookie: { token: 'new token', expiresAt: NOW + DAY }
    }
  },
  'a rotation keeps a CSRF secret that was created after it': {
    outcome: { found, rotated: true, createdAt: NOW, difference: differenceOf({ set: { $csrf: '"s"' } }) },
    plan: {
      kind: 'update',
      id: 'id',
      patch: { ...touched, set: { $csrf: '"s"' }, expiresAt: NOW + DAY, createdAt: NOW, renameTo: 'new id' },
      lossy: true,
      cookie: { token: 'new token', expiresAt: NOW + DAY }
    }
  },
  'a rotation writes nothing on a 5xx': {
    outcome: { found, rotated: true, createdAt: NOW, failed: true },
    plan: undefined
  },
  'an invalidated session is destroyed': {
    outcome: { ended: 'id' },
    plan: { kind: 'destroy', id: 'id', next: undefined }
  },
  'on a 5xx, an invalidated session is destroyed and data set afterwards is dropped': {
    outcome: { ended: 'id', difference: SET_NAME, failed: true },
    plan: { kind: 'destroy', id: 'id', next: undefined }
  },
  'an invalidated session with new data is destroyed, and a new session is created': {
    outcome: { ended: 'id', difference: SET_NAME },
    plan: { kind: 'destroy', id: 'id', next: created }
  }
}

for (const [name, row] of Object.entries(ROWS)) {
  void t.test(name, async (t) => {
    const outcome: Outcome = {
      options,
      found: undefined,
      ended: undefined,
      rotated: false,
      createdAt: row.outcome.found?.record.createdAt ?? NOW,
      difference: undefined,
      userId: null,
      failed: false,
      ...row.outcome
    }
    t.strictSame(plain(plan(outcome, NOW, row.ids ?? IDS)), plain(row.plan))
  })
}

/**
 * Clones a plan so that all of its objects have the default prototype, because `strictSame` also compares prototypes.
 */
function plain(value: unknown): unknown {
  return value === undefined ? undefined : structuredClone(value)
}

void t.test('a session never outlives maxAge, however recent its last request is', async (t) => {
  const old = {
    ...found,
    record: { ...record, createdAt: NOW - DAY + MINUTE, lastAccessed: NOW - 2 * MINUTE }
  }
  const outcome: Outcome = {
    options: idle,
    found: old,
    ended: undefined,
    rotated: false,
    createdAt: old.record.createdAt,
    difference: undefined,
    userId: null,
    failed: false
  }
  t.match(plan(outcome, NOW, KEPT), { patch: { expiresAt: NOW + MINUTE } })
})
