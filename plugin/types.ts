/** A value or a promise for it. If a store answers synchronously, the request creates no promise. */
export type Awaitable<T> = T | PromiseLike<T>

/**
 * The keys and values of a session. Declare them by merging:
 * `declare module 'fastify-sesame' { interface SessionData { userId: string } }`.
 * While the interface is empty, every key is allowed and every value is a `JsonValue`.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- merged into by the application
export interface SessionData {}

/** The keys that `D` declares, or any string if `D` declares none. */
export type SessionKey<D = SessionData> = keyof D extends never ? string : keyof D & string

/** The value that `get` returns for `K`: the JSON form of its declared type, or any `JsonValue` if `K` is not declared. */
export type SessionValue<K, D = SessionData> = K extends keyof D ? JsonForm<D[K]> : JsonValue

/**
 * The value that `set` accepts for `K`: its declared type, or any JSON value or object if `K` is not declared. `object`
 * is included because TypeScript does not assign an interface to `JsonValue`. `set` throws for an object that JSON
 * cannot hold.
 */
export type SessionInput<K, D = SessionData> = K extends keyof D ? D[K] : JsonValue | object

/** A value as `JSON.parse` returns it. */
export type JsonValue =
  null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue | undefined }

/** The type of a `T` after a trip through JSON: an object with `toJSON`, such as a Date, becomes the result of `toJSON`. */
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
  /** 1 at creation. Each write that changes data adds 1; a touch does not. */
  readonly version: number
  /** Each key with its value as JSON text. A store never parses a value. Any string can be a key, even `__proto__`. */
  readonly data: Readonly<Record<string, string>>
  /** Milliseconds since the epoch. A rotation sets it to the current time. */
  readonly createdAt: number
  /** Milliseconds since the epoch. */
  readonly lastAccessed: number
  /** Milliseconds since the epoch. From this time on, the session counts as absent. */
  readonly expiresAt: number
  /** `null` in an anonymous session. */
  readonly userId: string | null
}

/** The changes of one request to a record. A store applies all of them in one atomic step, or none. */
export interface SessionPatch {
  /** The keys to set, each with its value as JSON text. */
  readonly set: Readonly<Record<string, string>>
  /** The keys to remove. */
  readonly remove: readonly string[]
  /** Remove all data before applying `set`. */
  readonly clear?: boolean
  readonly lastAccessed: number
  readonly expiresAt: number
  /** The new `createdAt`. Absent: unchanged. */
  readonly createdAt?: number
  /** The new user. Absent: unchanged. */
  readonly userId?: string | null
  /** Move the record to this id, which differs from the current one. The old id is gone afterwards. */
  readonly renameTo?: string
  /** Apply the patch only if the record has this version. */
  readonly ifVersion?: number
}

/**
 * The result of `update`. `'ok'`: the record was written. `'gone'`: there is no record, and none was inserted.
 * `'conflict'`: nothing was written, because of `ifVersion` or because the id in `renameTo` is taken.
 */
export type UpdateResult = 'ok' | 'gone' | 'conflict'

/** A record and its id. */
export interface StoredSession {
  readonly id: string
  readonly record: SessionRecord
}

/**
 * A store of sessions. Each write is one atomic step in the database, never a read followed by a write. A store throws
 * only if its backend fails; any other outcome is a return value.
 */
export interface SessionStore {
  /**
   * How many leading digits of its id a session keeps at a rotation, so that both ids are in the same place, such as a slot
   * of a Redis Cluster. Each digit makes a new token 16 times as expensive to generate. Default 0.
   */
  readonly rotationPrefix?: number
  /**
   * Called once, during registration. Throws a `SessionOptionError` with the fix in its message if the store cannot work
   * as it is set up (a missing table or a wrong client). Any other error, such as an unreachable engine, is only logged.
   */
  ready?(): Awaitable<void>
  /** Returns the record, or `undefined` if it is absent or has expired. */
  get(id: string): Awaitable<SessionRecord | undefined>
  /** Stores a new record. Returns `false` and changes nothing if the id is taken. */
  create(id: string, record: SessionRecord): Awaitable<boolean>
  /** Applies a patch. Returns `'gone'` if the record is absent or has expired, and never inserts it. */
  update(id: string, patch: SessionPatch): Awaitable<UpdateResult>
  /** Removes a record. Returns `false` if it is absent or has expired. */
  destroy(id: string): Awaitable<boolean>
  /** Returns every live session of a user, in no particular order. */
  listByUser?(userId: string): Awaitable<StoredSession[]>
  /** Ends every session of a user except the id `except`. Returns how many ended. */
  destroyByUser?(userId: string, except?: string): Awaitable<number>
  /** Removes expired records. Returns how many. */
  cleanup?(): Awaitable<number>
  /** Releases resources that the store opened. */
  close?(): Awaitable<void>
}
