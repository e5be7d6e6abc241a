/** A value or a promise of it. A store that answers synchronously spares the request a promise. */
export type Awaitable<T> = T | PromiseLike<T>

/**
 * The keys and values of a session. Declare them by merging:
 * `declare module 'fastify-sesame' { interface SessionData { userId: string } }`.
 * While the interface is empty, every key is allowed and every value is a `JsonValue`.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- merged into by the application
export interface SessionData {}

/** The keys that `D` declares, or any string while `D` declares none. */
export type SessionKey<D = SessionData> = keyof D extends never ? string : keyof D & string

/** The value that `get` returns for `K`: the JSON form of its declared type, or any `JsonValue` if `K` is not declared. */
export type SessionValue<K, D = SessionData> = K extends keyof D ? JsonForm<D[K]> : JsonValue

/**
 * The value that `set` accepts for `K`: its declared type, or anything that may be JSON if `K` is not declared.
 * `object` is included because TypeScript does not assign an interface to `JsonValue`. An object that JSON cannot hold
 * throws when it is set.
 */
export type SessionInput<K, D = SessionData> = K extends keyof D ? D[K] : JsonValue | object

/** A value as `JSON.parse` returns it. */
export type JsonValue =
  null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue | undefined }

/** The type of a `T` that went through JSON: an object with `toJSON`, such as a Date, becomes the result of `toJSON`. */
export type JsonForm<T> = T extends JsonValue
  ? T
  : T extends { toJSON(...args: never[]): infer Result }
    ? JsonForm<Result>
    : T extends (...args: never[]) => unknown
      ? never
      : T extends object
        ? { [Key in keyof T]: JsonForm<T[Key]> }
        : T

/** What a store keeps for one id. */
export interface SessionRecord {
  /** 1 at creation, +1 for each write that changes data; a touch leaves it. */
  readonly version: number
  /** Key to JSON text. A store never looks inside, and any string may be a key, `__proto__` too. */
  readonly data: Readonly<Record<string, string>>
  /** Milliseconds since the epoch, as the two below. */
  readonly createdAt: number
  readonly lastAccessed: number
  readonly expiresAt: number
  readonly userId: string | null
}

/** The change that one request made to a record. A store applies all of it in one atomic step, or nothing. */
export interface SessionPatch {
  readonly set: Readonly<Record<string, string>>
  readonly remove: readonly string[]
  /** Drop all data before `set`. */
  readonly clear?: boolean
  readonly lastAccessed: number
  readonly expiresAt: number
  /** Present at a rotation, which restarts the clock. */
  readonly createdAt?: number
  /** Absent: unchanged. */
  readonly userId?: string | null
  /** Rotation: the record moves to this id, never its own, and the old id is gone. */
  readonly renameTo?: string
  /** Apply only if the record's version is this one. */
  readonly ifVersion?: number
}

/** What `update` did: written, not there (never an insert), or not written because of `ifVersion` or a taken `renameTo`. */
export type UpdateResult = 'ok' | 'gone' | 'conflict'

/** A record and the id it is kept under. */
export interface StoredSession {
  readonly id: string
  readonly record: SessionRecord
}

/**
 * Where sessions live. Each write is one atomic step in the engine: never a read and then a write.
 * A store throws only when its backend fails; whatever else happens is a value.
 */
export interface SessionStore {
  /**
   * How many leading digits of its id a session keeps at a rotation, so that the old and the new record lie in one
   * place, such as one slot of a Redis Cluster. Default 0. Each digit makes the new token 16 times dearer to find.
   */
  readonly rotationPrefix?: number
  /**
   * Asked once, while the plugin registers. Throws where the store can never work as it is set up (a missing table, a
   * wrong client), naming what is missing and what to do; an engine that is only away is no error here.
   */
  ready?(): Awaitable<void>
  /** The record, or `undefined` when there is none or it has expired. */
  get(id: string): Awaitable<SessionRecord | undefined>
  /** `false`: the id is taken, and nothing changed. */
  create(id: string, record: SessionRecord): Awaitable<boolean>
  /** Of a record that is absent or expired: `'gone'`, never an insert. */
  update(id: string, patch: SessionPatch): Awaitable<UpdateResult>
  /** `false`: it was not there. */
  destroy(id: string): Awaitable<boolean>
  /** Every live session of a user, in no particular order. */
  listByUser?(userId: string): Awaitable<StoredSession[]>
  /** Ends every session of a user but `except`, an id; how many ended. */
  destroyByUser?(userId: string, except?: string): Awaitable<number>
  /** Removes expired records; how many went. */
  cleanup?(): Awaitable<number>
  close?(): Awaitable<void>
}
