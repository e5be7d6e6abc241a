/** A value or a promise of the value. If a store returns plain values, the plugin creates no promises for it. */
export type Awaitable<T> = T | PromiseLike<T>

/**
 * The keys and values of a session. Declare them by declaration merging:
 * `declare module 'fastify-sesame' { interface SessionData { userId: string } }`.
 * While the interface is empty, every key is allowed and every value is a `JsonValue`.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- applications declare their keys in it
export interface SessionData {}

/**
 * The data that code reads and assigns as properties of `request.session` with the option `properties`. Declare it by
 * declaration merging: `interface SessionProperties extends Partial<SessionData> {}`. A property has the same type when
 * it is read and when it is assigned, so declare a string instead of a Date.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- applications declare their properties in it
export interface SessionProperties {}

/** The keys that `D` declares, or any string if `D` declares none. */
export type SessionKey<D = SessionData> = keyof D extends never ? string : keyof D & string

/** The type that `get` returns for a key: the JSON form of the declared type, or `JsonValue` if none is declared. */
export type SessionValue<K, D = SessionData> = K extends keyof D ? JsonForm<D[K]> : JsonValue

/**
 * The type that `set` accepts for a key: its declared type, or any JSON value or object if none is declared. `object`
 * is included because an interface is not assignable to `JsonValue`. `set` throws if JSON cannot represent the object.
 */
export type SessionInput<K, D = SessionData> = K extends keyof D ? D[K] : JsonValue | object

/** Any value that `JSON.parse` can return. */
export type JsonValue =
  null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue | undefined }

/** The type of a `T` value after `JSON.stringify` and `JSON.parse`. For example, a `Date` becomes a `string`. */
export type JsonForm<T> = T extends JsonValue
  ? T
  : T extends { toJSON(...args: never[]): infer Result }
    ? JsonForm<Result>
    : T extends (...args: never[]) => unknown
      ? never
      : T extends object
        ? { [Key in keyof T]: JsonForm<T[Key]> }
        : T

/** The stored state of one session. */
export interface SessionRecord {
  /** A new record has version 1. Each write to `data` adds 1. Other writes do not change the version. */
  readonly version: number
  /** Maps each key to its value as JSON text, which a store never parses. Any string can be a key, even `__proto__`. */
  readonly data: Readonly<Record<string, string>>
  /** The time when the session was created, or of the last login, in milliseconds since the epoch. */
  readonly createdAt: number
  /** The time of the last recorded access, in milliseconds since the epoch. */
  readonly lastAccessed: number
  /** The time from which the session counts as absent, in milliseconds since the epoch. */
  readonly expiresAt: number
  /** The id of the user who is signed in, or `null` in an anonymous session. */
  readonly userId: string | null
}

/** The changes that one request makes to a record. In one atomic step, a store applies either all of them or none. */
export interface SessionPatch {
  /** The keys to set, each with its value as JSON text. */
  readonly set: Readonly<Record<string, string>>
  /** The keys to remove. */
  readonly remove: readonly string[]
  /** If true, the store removes all data before it applies `set`. */
  readonly clear?: boolean
  readonly lastAccessed: number
  readonly expiresAt: number
  /** The new `createdAt`. If absent, the record keeps its `createdAt`. */
  readonly createdAt?: number
  /** The new user id, or `null` to remove the user. If absent, the record keeps its user. */
  readonly userId?: string | null
  /** The new id of the record, which differs from the current id. Afterwards, no record exists under the old id. */
  readonly renameTo?: string
  /** If present, the store applies the patch only if the record has this version. */
  readonly ifVersion?: number
}

/**
 * `'ok'` means that the record was written. `'gone'` means that the record is absent or has expired. `'conflict'` means
 * that nothing was written, because the version differs from `ifVersion` or another record has the id `renameTo`.
 */
export type UpdateResult = 'ok' | 'gone' | 'conflict'

/** Why a session has ended: by a logout, by `revoke` or `revokeAll`, or by `maxSessionsPerUser`. */
export type EndReason = 'invalidated' | 'revoked' | 'limit'

/** A record and its id. */
export interface StoredSession {
  readonly id: string
  readonly record: SessionRecord
}

/**
 * A session store. Each write is one atomic step in the database, never a read followed by a write. A method throws
 * only if the backend fails. It reports any other outcome through its return value.
 */
export interface SessionStore {
  /**
   * How many leading hex digits of its id a session keeps when it is rotated, for example to stay in the same slot of
   * a Redis Cluster. Each digit makes it 16 times as expensive to generate the new token. Default: 0.
   */
  readonly rotationPrefix?: number
  /**
   * Called once, during registration. Throws a `SessionOptionError` that says how to fix the setup, for example if a
   * table is missing. Any other error, such as an unreachable database, is only logged. Returns warnings to be logged,
   * each a sentence that says what is wrong and what to do.
   */
  ready?(): Awaitable<readonly string[] | undefined | void>
  /** Returns the record, or `undefined` if it is absent or has expired. */
  get(id: string): Awaitable<SessionRecord | undefined>
  /** Stores a new record. Returns `false` and changes nothing if the id is taken. */
  create(id: string, record: SessionRecord): Awaitable<boolean>
  /** Applies a patch to a record. If the record is absent or has expired, returns `'gone'` and inserts nothing. */
  update(id: string, patch: SessionPatch): Awaitable<UpdateResult>
  /** Removes a record. Returns `false` if it is absent or has expired. */
  destroy(id: string): Awaitable<boolean>
  /** Returns every live session of a user, in no particular order. */
  listByUser?(userId: string): Awaitable<StoredSession[]>
  /** Ends every session of a user, except the session with the id `except`. Returns the number of ended sessions. */
  destroyByUser?(userId: string, except?: string): Awaitable<number>
  /** Removes the expired records and returns their number. Stops early once `signal` aborts. */
  cleanup?(signal?: AbortSignal): Awaitable<number>
  /** Releases the resources that the store itself opened. The plugin never calls `close`: several apps can share a store. */
  close?(): Awaitable<void>
}
