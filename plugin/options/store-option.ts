import { SessionOptionError } from '../errors.js'
import { migratingStore } from '../stores/migrating.js'
import type { SessionStore } from '../types.js'

interface StoreOptions {
  readonly store?: SessionStore
  readonly migrateFrom?: SessionStore
  readonly maxSessionsPerUser?: number
  readonly storeTimeout: number
}

const METHODS = ['get', 'create', 'update', 'destroy']

/**
 * Returns the store to use, which moves sessions from `migrateFrom` if that is given.
 * @throws {SessionOptionError} if one of the two is not a store. The message says how to make one from what was given.
 */
export function resolveStore(options: StoreOptions, makeStore: () => SessionStore): SessionStore {
  const { store: given, migrateFrom, maxSessionsPerUser, storeTimeout } = options
  const isLimited = maxSessionsPerUser !== undefined
  // Use the default store only for `undefined`. `null` usually means that the application failed to create its store,
  // and storing the sessions in memory would hide that mistake.
  const store = given === undefined ? makeStore() : given
  checkStore('store', store, isLimited)
  if (migrateFrom === undefined) return store
  checkStore('migrateFrom', migrateFrom, isLimited)
  return migratingStore(store, migrateFrom, storeTimeout)
}

function checkStore(option: string, store: SessionStore, isLimited: boolean): void {
  const missing = METHODS.filter((name) => !hasMethod(store, name))
  if (missing.length > 0) {
    const known = KINDS.find(({ methods }) => methods.every((name) => hasMethod(store, name)))
    throw new SessionOptionError(option, known?.problem ?? `lacks ${missing.join(', ')}; ${STORES}`)
  }
  if (isLimited && !hasMethod(store, 'listByUser'))
    throw new SessionOptionError(option, 'lacks listByUser, which `maxSessionsPerUser` needs')
  // Each required prefix digit makes finding a new id 16 times slower. With five digits, it would take about a second.
  const { rotationPrefix = 0 } = store
  if (![0, 1, 2, 3, 4].includes(rotationPrefix))
    throw SessionOptionError.wrong(`${option}.rotationPrefix`, rotationPrefix, 'a whole number from 0 to 4')
}

const STORES =
  'a store is a MemoryStore, SqliteStore, PostgresStore, RedisStore, what fromExpressStore() returns, or one of your own'
const REDIS =
  'is a Redis client, not a store; write `new RedisStore({ client })` of fastify-sesame/stores/redis'

/**
 * The objects that applications pass instead of a store, recognized by their methods. The first match counts, because a
 * Redis client also has the methods of a store of express-session.
 */
const KINDS: readonly { readonly methods: readonly string[]; readonly problem: string }[] = [
  { methods: ['then'], problem: 'is a promise, not a store; await it first' },
  { methods: ['hgetall', 'evalsha'], problem: REDIS },
  { methods: ['hGetAll', 'evalSha'], problem: REDIS },
  {
    methods: ['query', 'connect', 'end'],
    problem:
      'is a pool or client of a database, not a store; for pg, write `new PostgresStore({ pool })` of fastify-sesame/stores/postgres'
  },
  {
    methods: ['prepare', 'exec'],
    problem:
      'is a SQLite database, not a store; write `new SqliteStore(database)` of fastify-sesame/stores/sqlite'
  },
  {
    methods: ['get', 'set', 'destroy'],
    problem: 'is a store of express-session; write `fromExpressStore(store)` of fastify-sesame/stores/express'
  },
  {
    methods: ['bind', 'call'],
    problem: 'is a function or a class, not a store; pass an instance, such as `new MemoryStore()`'
  }
]

function hasMethod(store: unknown, name: string): boolean {
  return typeof Reflect.get(Object(store) as object, name) === 'function'
}
