import { SessionOptionError } from '../errors.js'
import { migratingStore } from '../stores/migrating.js'
import type { Predecessor } from '../migrate/predecessor.js'
import type { SessionStore } from '../types.js'

/** A source from which sessions can move: another store of this library, or another session library. */
export type MigrationSource = SessionStore | Predecessor

interface StoreOptions {
  readonly store?: SessionStore
  readonly migrateFrom?: MigrationSource | readonly MigrationSource[]
  readonly cookieName: string
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
  const [old, ...others] = sourcesOf(migrateFrom).filter((source) => !isPredecessor(source)) as SessionStore[]
  if (old === undefined) return store
  checkStore('migrateFrom', old, isLimited)
  if (others.length > 0) throw new SessionOptionError('migrateFrom', 'has two stores, but can have only one')
  return migratingStore(store, old, storeTimeout)
}

/**
 * Returns the other session libraries in the option `migrateFrom`.
 * @throws {SessionOptionError} if two cookies have the same name, because each of them would replace the other.
 */
export function resolvePredecessors({ migrateFrom, cookieName }: StoreOptions): readonly Predecessor[] {
  const predecessors = sourcesOf(migrateFrom).filter(isPredecessor)
  const names = [cookieName]
  for (const { cookieName: name } of predecessors) {
    if (names.includes(name))
      throw new SessionOptionError(
        'migrateFrom',
        `has a cookie with the name "${name}", which another cookie has too; choose another \`cookieName\` for the plugin`
      )
    names.push(name)
  }
  return predecessors
}

function sourcesOf(given: StoreOptions['migrateFrom']): readonly MigrationSource[] {
  if (given === undefined) return []
  if (Array.isArray(given) && given.length === 0)
    throw new SessionOptionError('migrateFrom', `is an empty list; leave the option out, or name ${SOURCES}`)
  return Array.isArray(given) ? (given as readonly MigrationSource[]) : [given as MigrationSource]
}

function isPredecessor(source: MigrationSource): source is Predecessor {
  return (source as Predecessor | null)?.kind === 'predecessor'
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

const SOURCES = 'an old store, or what a function of fastify-sesame/migrate returns'
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
