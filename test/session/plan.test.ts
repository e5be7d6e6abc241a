import t from 'tap'
import { emptyTexts, type Difference, type Texts } from '../../plugin/session/changes.js'
import {
  plan,
  type CreatePlan,
  type DestroyPlan,
  type FoundSession,
  type Ids,
  type IfGone,
  type Outcome,
  type Plan,
  type PlannedCookie,
  type UpdatePlan,
  type VisitorPlan
} from '../../plugin/session/plan.js'
import type { SessionPatch, SessionRecord } from '../../plugin/types.js'
import { makeRecord } from '../fixtures/stores.js'

const NOW = 1_000_000_000_000
const MINUTE = 60_000
const DAY = 86_400_000
const NEW_IDS: Ids = { token: 'new token', id: 'new id' }
const LOADED_IDS: Ids = { token: 'token', id: 'id' }

const lifetime = { maxAge: DAY, idleTimeout: Infinity, persistent: true }
const idle = { ...lifetime, idleTimeout: 10 * MINUTE }
const remembered = { maxAge: 30 * DAY, idleTimeout: Infinity, persistent: true }

/** The record of a session that was created one minute before `NOW`. */
const record = makeRecord({
  version: 3,
  createdAt: NOW - MINUTE,
  lastAccessed: NOW - MINUTE,
  expiresAt: NOW - MINUTE + DAY
})
const found = foundWith({})
const idleFound = foundWith({ expiresAt: NOW - MINUTE + 10 * MINUTE })
const adas = foundWith({ userId: 'ada', data: { userId: '"ada"', name: '"ada"' } })
const bobs = foundWith({ userId: 'bob', data: { userId: '"bob"', name: '"bob"' } })

function foundWith(fields: Partial<SessionRecord>): FoundSession {
  return { ...LOADED_IDS, stale: false, record: { ...record, ...fields } }
}

function differenceOf({ set = {}, ...difference }: Partial<Difference>): Difference {
  const keys = Object.keys(set)
  return {
    remove: [],
    clear: false,
    versioned: false,
    sets: { data: keys.some((key) => !key.startsWith('$')), own: keys.some((key) => key.startsWith('$')) },
    ...difference,
    set: textsOf(set)
  }
}

function textsOf(texts: Texts): Texts {
  return Object.assign(emptyTexts(), texts)
}

const SET_NAME = differenceOf({ set: { name: '"ada"' } })
const SET_USER = differenceOf({ set: { userId: '"ada"' } })
const SET_FLASH = differenceOf({ set: { '$flash.note': '1' } })

/** The outcome of a login as ada. */
const login = { rotated: true, signsIn: true, createdAt: NOW, difference: SET_USER, userId: 'ada' }
/** A login or rotation writes the values that stay, instead of changing those that are in the store. */
const KEPT_ONLY = { clear: true, versioned: true, sets: { data: false, own: false } }

const newCookie: PlannedCookie = { token: 'new token', expiresAt: NOW + DAY, persistent: true }
const rotatedCookie: PlannedCookie = { ...newCookie, expiresAt: record.expiresAt }
const loadedCookie: PlannedCookie = { ...rotatedCookie, token: 'token' }

function created(data: Texts, fields: Partial<SessionRecord> = {}, cookie = newCookie): CreatePlan {
  const { expiresAt } = cookie
  const times = { createdAt: NOW, lastAccessed: NOW, expiresAt }
  return {
    kind: 'create',
    id: 'new id',
    record: { version: 1, data, ...times, userId: null, ...fields },
    cookie
  }
}

const touch: SessionPatch = { set: {}, remove: [], lastAccessed: NOW, expiresAt: record.expiresAt }

function updated(patch: Partial<SessionPatch>, rest: Partial<UpdatePlan> = {}): UpdatePlan {
  return {
    kind: 'update',
    id: 'id',
    patch: { ...touch, ...patch },
    ifGone: 'ignore',
    signsIn: false,
    cookie: undefined,
    ...rest
  }
}

function signedIn(patch: Partial<SessionPatch>, rest: Partial<UpdatePlan> = {}): UpdatePlan {
  const times = { createdAt: NOW, expiresAt: NOW + DAY }
  const user = { set: { userId: '"ada"' }, userId: 'ada', renameTo: 'new id' }
  return updated({ ...user, ...times, ...patch }, { signsIn: true, cookie: newCookie, ...rest })
}

function rotated(patch: Partial<SessionPatch>, rest: Partial<UpdatePlan> = {}): UpdatePlan {
  return updated({ remove: ['$csrf'], renameTo: 'new id', ...patch }, { cookie: rotatedCookie, ...rest })
}

function visited(texts: Texts): VisitorPlan {
  return { kind: 'visitor', texts }
}

const ENDED = { id: 'id', userId: null }

function destroyed(next?: DestroyPlan['next'], ifGone: IfGone = 'ignore'): DestroyPlan {
  return { kind: 'destroy', id: 'id', next, ifGone }
}

interface Row {
  readonly outcome: Partial<Outcome>
  readonly plan: Plan | undefined
}

const NEW_SESSIONS: Record<string, Row> = {
  'a new session without data writes nothing': { outcome: {}, plan: undefined },
  'a new session with data is created, with a cookie': {
    outcome: { difference: SET_NAME },
    plan: created({ name: '"ada"' })
  },
  'a login of a visitor creates the session of that user': {
    outcome: { ...login, rotated: false },
    plan: created({ userId: '"ada"' }, { userId: 'ada' })
  },
  'a login with a lifetime of its own creates a session and a cookie that live as long': {
    outcome: { ...login, rotated: false, lifetime: remembered },
    plan: created({ userId: '"ada"' }, { userId: 'ada' }, { ...newCookie, expiresAt: NOW + 30 * DAY })
  },
  'a login that is not persistent creates a session whose cookie ends with the browser': {
    outcome: { ...login, rotated: false, lifetime: { ...lifetime, persistent: false } },
    plan: created({ userId: '"ada"' }, { userId: 'ada' }, { ...newCookie, persistent: false })
  },
  'a new session with an idle timeout ends after that timeout': {
    outcome: { difference: SET_NAME, lifetime: idle },
    plan: created({ name: '"ada"' }, {}, { ...newCookie, expiresAt: NOW + 10 * MINUTE })
  },
  'a new session with data writes nothing on a 5xx': {
    outcome: { difference: SET_NAME, failed: true },
    plan: undefined
  }
}

const VISITORS: Record<string, Row> = {
  'own keys of a visitor go into the visitor cookie, not into the store': {
    outcome: { difference: SET_FLASH },
    plan: visited({ '$flash.note': '1' })
  },
  'a change of one own key leaves the other own keys in the visitor cookie': {
    outcome: { difference: SET_FLASH, data: { $csrf: '"s"', '$flash.note': '1' } },
    plan: visited({ $csrf: '"s"', '$flash.note': '1' })
  },
  'removing the last own key of a visitor empties the visitor cookie': {
    outcome: { difference: differenceOf({ remove: ['$flash.note'] }), data: {} },
    plan: visited({})
  },
  'clearing the session of a visitor empties the visitor cookie': {
    outcome: { difference: differenceOf({ clear: true }), data: {} },
    plan: visited({})
  },
  'a visitor whose cookie was only read writes nothing': {
    outcome: { data: { $csrf: '"s"' } },
    plan: undefined
  },
  'a visitor cookie that is due is sent again with the same values': {
    outcome: { visitorDue: true, data: { $csrf: '"s"' } },
    plan: visited({ $csrf: '"s"' })
  },
  'a visitor’s own keys move into the session that is created with the application’s data': {
    outcome: { difference: SET_NAME, data: { '$flash.note': '1', $csrf: '"s"', name: '"ada"' } },
    plan: created({ '$flash.note': '1', $csrf: '"s"', name: '"ada"' })
  },
  'own keys of a visitor write nothing on a 5xx, even if the visitor cookie is due': {
    outcome: { difference: SET_FLASH, visitorDue: true, failed: true },
    plan: undefined
  }
}

const LOADED_SESSIONS: Record<string, Row> = {
  'a loaded session that was only read writes nothing': { outcome: { found }, plan: undefined },
  'a loaded session that was only read writes nothing before a touch is due': {
    outcome: { found: foundWith({ ...idleFound.record, lastAccessed: NOW - MINUTE + 1 }), lifetime: idle },
    plan: undefined
  },
  'a loaded session that was only read gets a touch and a cookie when a touch is due': {
    outcome: { found: idleFound, lifetime: idle },
    plan: updated(
      { expiresAt: NOW + 10 * MINUTE },
      { cookie: { ...loadedCookie, expiresAt: NOW + 10 * MINUTE } }
    )
  },
  'a due touch sends no cookie if the cookie ends with the browser': {
    outcome: { found: idleFound, lifetime: { ...idle, persistent: false } },
    plan: updated({ expiresAt: NOW + 10 * MINUTE })
  },
  'a session never outlives maxAge, however recent its last request is': {
    outcome: {
      found: foundWith({ createdAt: NOW - DAY + MINUTE, expiresAt: NOW + MINUTE }),
      lifetime: idle
    },
    plan: updated({ expiresAt: NOW + MINUTE })
  },
  'a loaded session whose cookie is signed with an older secret is touched, with a cookie': {
    outcome: { found: { ...found, stale: true } },
    plan: updated({}, { cookie: loadedCookie })
  },
  'a changed session is updated, without a cookie': {
    outcome: { found, difference: SET_NAME },
    plan: updated({ set: { name: '"ada"' } }, { ifGone: 'refuse' })
  },
  'a changed own key of a stored session is updated in the store': {
    outcome: { found, difference: SET_FLASH },
    plan: updated({ set: { '$flash.note': '1' } }, { ifGone: 'refuse' })
  },
  'removing a key causes an update that may be lost silently': {
    outcome: { found, difference: differenceOf({ remove: ['name'] }) },
    plan: updated({ remove: ['name'] })
  },
  'a changed session writes nothing on a 5xx': {
    outcome: { found, difference: SET_NAME, failed: true },
    plan: undefined
  },
  'a due touch writes nothing on a 5xx': {
    outcome: { found: idleFound, lifetime: idle, failed: true },
    plan: undefined
  },
  'a change by update() is written only to the version that was loaded': {
    outcome: { found, difference: { ...SET_NAME, versioned: true } },
    plan: updated({ set: { name: '"ada"' }, ifVersion: 3 }, { ifGone: 'refuse' })
  },
  'setting the same user without a login puts the user id into the patch': {
    outcome: { found: adas, difference: SET_USER, userId: 'ada' },
    plan: updated({ set: { userId: '"ada"' }, userId: 'ada' }, { ifGone: 'refuse' })
  },
  'removing the user sets the user in the patch to null': {
    outcome: { found, difference: differenceOf({ remove: ['userId'] }) },
    plan: updated({ remove: ['userId'], userId: null })
  },
  'clearing the session clears the data and sets the user to null': {
    outcome: { found, difference: differenceOf({ clear: true }) },
    plan: updated({ clear: true, userId: null })
  }
}

const LOGINS: Record<string, Row> = {
  'a login over nobody’s session renames the record, starts both clocks and does not need that session': {
    outcome: { ...login, found },
    plan: signedIn({ remove: ['$csrf'] }, { ifGone: 'create' })
  },
  'a login over a session of the same user is refused if that session is gone': {
    outcome: { ...login, found: adas },
    plan: signedIn({ remove: ['$csrf'] }, { ifGone: 'refuse' })
  },
  'a login over another user’s session replaces all data and does not need that session': {
    outcome: { ...login, found: bobs, difference: differenceOf({ ...KEPT_ONLY, set: SET_USER.set }) },
    plan: signedIn({ clear: true, ifVersion: 3 }, { ifGone: 'create' })
  },
  'a login that keeps only some keys writes them to the version that was loaded': {
    outcome: {
      ...login,
      found,
      difference: differenceOf({ ...KEPT_ONLY, set: { cart: '1', userId: '"ada"' } })
    },
    plan: signedIn({ set: { cart: '1', userId: '"ada"' }, clear: true, ifVersion: 3 }, { ifGone: 'create' })
  },
  'a login over a stored session with a lifetime of its own extends the record and the cookie': {
    outcome: { ...login, found, lifetime: remembered },
    plan: signedIn(
      { remove: ['$csrf'], expiresAt: NOW + 30 * DAY },
      { ifGone: 'create', cookie: { ...newCookie, expiresAt: NOW + 30 * DAY } }
    )
  },
  'a login that is not persistent sends a cookie that ends with the browser': {
    outcome: { ...login, found, lifetime: { ...lifetime, persistent: false } },
    plan: signedIn({ remove: ['$csrf'] }, { ifGone: 'create', cookie: { ...newCookie, persistent: false } })
  },
  'a login whose clock is behind that of the user’s other logins starts later than they did': {
    outcome: { ...login, found, createdAt: NOW + MINUTE },
    plan: signedIn(
      { remove: ['$csrf'], createdAt: NOW + MINUTE, expiresAt: NOW + MINUTE + DAY },
      { ifGone: 'create', cookie: { ...newCookie, expiresAt: NOW + MINUTE + DAY } }
    )
  },
  'a login writes nothing on a 5xx': { outcome: { ...login, found, failed: true }, plan: undefined }
}

const ROTATIONS: Record<string, Row> = {
  'a rotation renames the record and drops the CSRF secret, and its clocks go on': {
    outcome: { found, rotated: true },
    plan: rotated({})
  },
  'a rotation starts the idle timeout again, as every write does': {
    outcome: { found: idleFound, rotated: true, lifetime: idle },
    plan: rotated(
      { expiresAt: NOW + 10 * MINUTE },
      { cookie: { ...rotatedCookie, expiresAt: NOW + 10 * MINUTE } }
    )
  },
  'a rotation with data is refused if the session is gone': {
    outcome: { found, rotated: true, difference: SET_NAME },
    plan: rotated({ set: { name: '"ada"' } }, { ifGone: 'refuse' })
  },
  'a rotation with only own keys may be lost silently': {
    outcome: { found, rotated: true, difference: SET_FLASH },
    plan: rotated({ set: { '$flash.note': '1' } })
  },
  'a rotation that keeps only some keys writes them to the version that was loaded, and may be lost silently':
    {
      outcome: { found, rotated: true, difference: differenceOf({ ...KEPT_ONLY, set: { cart: '1' } }) },
      plan: rotated({ set: { cart: '1' }, remove: [], clear: true, ifVersion: 3, userId: null })
    },
  'a rotation that keeps the user keeps the session of that user': {
    outcome: {
      found: adas,
      rotated: true,
      difference: differenceOf({ ...KEPT_ONLY, set: SET_USER.set }),
      userId: 'ada'
    },
    plan: rotated({ set: SET_USER.set, remove: [], clear: true, ifVersion: 3, userId: 'ada' })
  },
  'a rotation removes a CSRF secret only once if the request removes it too': {
    outcome: { found, rotated: true, difference: differenceOf({ remove: ['$csrf'] }) },
    plan: rotated({})
  },
  'a rotation keeps a CSRF secret that was created after it': {
    outcome: { found, rotated: true, difference: differenceOf({ set: { $csrf: '"s"' } }) },
    plan: rotated({ set: { $csrf: '"s"' }, remove: [] })
  },
  'a rotation sends a cookie even if the cookie ends with the browser': {
    outcome: { found, rotated: true, lifetime: { ...lifetime, persistent: false } },
    plan: rotated({}, { cookie: { ...rotatedCookie, persistent: false } })
  },
  'a rotation writes nothing on a 5xx': { outcome: { found, rotated: true, failed: true }, plan: undefined }
}

const ENDS: Record<string, Row> = {
  'an invalidated session is destroyed': { outcome: { ended: ENDED }, plan: destroyed() },
  'an invalidated session with own keys is destroyed, and the visitor cookie holds them': {
    outcome: { ended: ENDED, difference: SET_FLASH },
    plan: destroyed(visited({ '$flash.note': '1' }))
  },
  'an invalidated session with new data is destroyed, and a new session is created': {
    outcome: { ended: ENDED, difference: SET_NAME },
    plan: destroyed(created({ name: '"ada"' }), 'refuse')
  },
  'an invalidated session with own keys and data is destroyed, and the new session holds both': {
    outcome: { ended: ENDED, difference: differenceOf({ set: { '$flash.note': '1', name: '"ada"' } }) },
    plan: destroyed(created({ '$flash.note': '1', name: '"ada"' }), 'refuse')
  },
  'an invalidated session with a login is destroyed, and the session of the user is created': {
    outcome: { ...login, rotated: false, ended: ENDED, lifetime: remembered },
    plan: destroyed(
      created({ userId: '"ada"' }, { userId: 'ada' }, { ...newCookie, expiresAt: NOW + 30 * DAY }),
      'create'
    )
  },
  'if an invalidated session is gone, a login of the same user must not bring it back': {
    outcome: { ...login, rotated: false, ended: { id: 'id', userId: 'ada' } },
    plan: destroyed(created({ userId: '"ada"' }, { userId: 'ada' }), 'refuse')
  },
  'an invalidated session is destroyed even on a 5xx': {
    outcome: { ended: ENDED, failed: true },
    plan: destroyed()
  },
  'on a 5xx, an invalidated session is destroyed and data set afterwards is dropped': {
    outcome: { ended: ENDED, difference: SET_NAME, failed: true },
    plan: destroyed()
  },
  'on a 5xx, an invalidated session is destroyed and own keys set afterwards are dropped': {
    outcome: { ended: ENDED, difference: SET_FLASH, visitorDue: true, failed: true },
    plan: destroyed()
  }
}

const ROWS = { ...NEW_SESSIONS, ...VISITORS, ...LOADED_SESSIONS, ...LOGINS, ...ROTATIONS, ...ENDS }

for (const [name, row] of Object.entries(ROWS)) {
  void t.test(name, async (t) => {
    const outcome = complete(row.outcome)
    let asked = 0
    const ids = (): Ids => {
      asked++
      return outcome.found === undefined || outcome.rotated ? NEW_IDS : LOADED_IDS
    }
    t.strictSame(plain(plan(outcome, NOW, ids)), plain(row.plan))
    t.equal(asked, needsIds(row.plan) ? 1 : 0, 'a token is made only for a session that is written')
  })
}

/** Fills in the fields that a row does not name. */
function complete(outcome: Partial<Outcome>): Outcome {
  return {
    lifetime,
    userKey: 'userId',
    found: undefined,
    ended: undefined,
    rotated: false,
    signsIn: false,
    createdAt: outcome.found?.record.createdAt ?? NOW,
    difference: undefined,
    visitorDue: false,
    data: outcome.found === undefined ? outcome.difference?.set : undefined,
    userId: null,
    failed: false,
    ...outcome
  }
}

function needsIds(planned: Plan | undefined): boolean {
  if (planned?.kind === 'destroy') return needsIds(planned.next)
  return planned?.kind === 'create' || planned?.kind === 'update'
}

/**
 * Clones a plan so that all of its objects have the default prototype, because `strictSame` also compares prototypes.
 */
function plain(value: unknown): unknown {
  return value === undefined ? undefined : structuredClone(value)
}
