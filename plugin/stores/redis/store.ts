import { randomBytes } from 'node:crypto'
import { SessionOptionError } from '../../errors.js'
import { storeOptions } from '../../own-options.js'
import { decode, encode } from '../codec.js'
import { parseRecord, reportInvalidRecord } from '../record.js'
import { mayEvict, READ_ONLY, warningsOf } from './checks.js'
import { CLIENT_HINT, engineOf, fatalError, isClient, isReadOnly, isReply } from './client.js'
import type { Engine, Hash, IoRedisClient, NodeRedisClient } from './client.js'
import {
  CREATE,
  DESTROY,
  ENTER,
  LEAVE,
  LIST,
  MARK,
  NOBODY,
  NONCE_LENGTH,
  SCAN,
  UNCHANGED,
  UPDATE
} from './scripts.js'
import type { Script } from './scripts.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../../types.js'

export type { IoRedisClient, NodeRedisClient }

export interface RedisStoreOptions {
  /** A connected client. The store does not close it. */
  readonly client: NodeRedisClient | IoRedisClient
  /** The prefix of every key. Must not contain braces, which determine a key's cluster slot. Default `'sesame:'`. */
  readonly prefix?: string
}

/** The errors for options of connect-redis. */
const ALTERNATIVES = {
  url: `is unknown; use \`client\` with a client: ${CLIENT_HINT}`,
  ttl: 'is unknown; use `maxAge` of the plugin',
  disableTTL: 'is unknown; omit it, because every session expires',
  disableTouch: 'is unknown; omit it, because a session is extended only if the plugin has an `idleTimeout`'
}
/** A script's reply. `user` is the previous user or, if the status is `enter`, the user whose list needs an entry. */
type Answer = readonly [status: string, user?: string]
/** How many leading hex digits of an id form its key's hash tag. Two digits give 256 tags, each in one cluster slot. */
const TAG_LENGTH = 2
/** How many sessions of a user are read or ended at a time. More would occupy the event loop for too long. */
const CHUNK = 64

/**
 * Keeps sessions in Redis or Valkey: a single server, Sentinel or a cluster. Each session is a hash with one field per
 * key, each write is one script, and Redis itself removes expired sessions. In a cluster, the list of a user's sessions
 * is in another slot. An entry is added before its session is written, and removed after its session has been removed.
 */
export class RedisStore implements SessionStore {
  /** In a cluster, a new id begins with the same 2 digits as the old one, so that the session stays in its slot. */
  readonly rotationPrefix?: number
  readonly #client: RedisStoreOptions['client']
  readonly #engine: Engine
  readonly #prefix: string
  readonly #userPrefix: string

  /**
   * @throws {SessionOptionError} if `client` is not a Redis client, `prefix` is not a string without braces, or an
   * option is unknown.
   */
  constructor(options: RedisStoreOptions) {
    if (isClient(options))
      throw new SessionOptionError('client', 'is missing; use `new RedisStore({ client })`')
    const { client, prefix = 'sesame:' } = storeOptions(options, ['client', 'prefix'], ALTERNATIVES)
    if (typeof prefix !== 'string' || /[{}]/.test(prefix))
      throw SessionOptionError.wrong('prefix', prefix, 'a string without { and }')
    this.#client = client
    this.#engine = engineOf(client)
    this.#prefix = prefix
    this.#userPrefix = `${prefix}user:`
    if (this.#engine.isCluster) this.rotationPrefix = TAG_LENGTH
  }

  /**
   * Returns a warning if Redis may evict keys or is read-only, if its clock differs by more than 5 s, or if `ioredis` has
   * settings with which it sends a command twice.
   * @throws {SessionOptionError} if the client is not connected, lacks permission or reaches only one cluster node.
   */
  async ready(): Promise<string[]> {
    if ((this.#client as { isOpen?: boolean }).isOpen === false) {
      throw new SessionOptionError('client', 'is not connected: `await client.connect()` first')
    }
    try {
      // These calls change no session. They fail if the client is not allowed to run scripts or to access session keys.
      const removal = this.#run(LEAVE, [`${this.#userPrefix}ready`], ['', 'ready'])
      await Promise.all([this.get('ready'), this.destroy('ready'), removal])
      return await warningsOf(this.#client, this.#engine)
    } catch (error) {
      if (isReadOnly(error)) return [READ_ONLY]
      throw fatalError(error as Error) ?? error
    }
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    let hash: Hash
    try {
      hash = await this.#engine.read(this.#key(id))
    } catch (error) {
      if (!isReply(error, 'WRONGTYPE')) throw error
      return reportInvalidRecord(id, 'shape')
    }
    return recordOf(id, hash)
  }

  async create(id: string, record: SessionRecord): Promise<boolean> {
    const user = record.userId === null ? NOBODY : MARK + encode(record.userId)
    const args = timesOf(record)
    args.push(id, String(record.createdAt), user, String(record.version), newNonce())
    pushPairs(args, record.data)
    const keys = [this.#key(id)]
    if (!this.#engine.isCluster) keys.push(this.#userPrefix)
    else if (user !== NOBODY) await this.#enter(user, id, args)
    const [status] = await this.#run(CREATE, keys, args)
    return status === 'ok'
  }

  async update(id: string, patch: SessionPatch): Promise<UpdateResult> {
    const { renameTo = id } = patch
    const keys = [this.#key(id), this.#key(renameTo)]
    const args = argsOf(id, patch)
    const answer = this.#engine.isCluster
      ? await this.#updateInCluster(id, patch, keys, args)
      : await this.#run(UPDATE, [...keys, this.#userPrefix], args)
    return this.#resultOf(id, answer)
  }

  async destroy(id: string): Promise<boolean> {
    return this.#end(id, UNCHANGED)
  }

  async listByUser(userId: string): Promise<StoredSession[]> {
    const ids = await this.#idsOf(MARK + encode(userId))
    const records = await inChunks(ids, (id) => this.get(id))
    const found: StoredSession[] = []
    for (const [index, record] of records.entries()) {
      if (record?.userId === userId) found.push({ id: ids[index] as string, record })
    }
    return found
  }

  /**
   * If Redis may evict keys, reads the keys of all sessions, because the index of the user may have been evicted. Then
   * repeats until no session is left, because a session renamed during this call is listed under its new id.
   */
  async destroyByUser(userId: string, except?: string): Promise<number> {
    const user = MARK + encode(userId)
    const seen = new Set<string>()
    for (let count = (await mayEvict(this.#engine)) ? await this.#endUnlisted(user, except) : 0; ;) {
      const ids = (await this.#idsOf(user)).filter((id) => id !== except)
      const ended = await this.#endAll(ids, user)
      count += ended
      if (ended === ids.length || (ended === 0 && ids.every((id) => seen.has(id)))) return count
      for (const id of ids) seen.add(id)
    }
  }

  async #updateInCluster(id: string, patch: SessionPatch, keys: string[], args: string[]): Promise<Answer> {
    const target = patch.renameTo ?? id
    if (tagOf(target) !== tagOf(id))
      throw new Error(`RedisStore: in a cluster a rotation keeps the first ${TAG_LENGTH} digits of the id`)
    let answer = await this.#run(UPDATE, keys, args)
    // The script reads the session's user, and changes nothing until that user's list has an entry for the session.
    while (answer[0] === 'enter') {
      args[ENTERED] = answer[1] as string
      await this.#enter(args[ENTERED], target, args)
      answer = await this.#run(UPDATE, keys, args)
    }
    const [status, before] = answer
    // If the id did not change, keep the entry, because the session may be assigned to the same user again.
    if (status === 'ok' && before !== undefined && target !== id) this.#leave(before, id)
    return answer
  }

  /** Ends the sessions of a user that are found among the keys of all sessions. Returns the number of ended sessions. */
  async #endUnlisted(user: string, except: string | undefined): Promise<number> {
    const prefix = this.#engine.keyPrefix + this.#prefix
    const pattern = `${prefix.replace(/[\\*?[]/g, '\\$&')}{${'?'.repeat(TAG_LENGTH)}}:*`
    const idAt = prefix.length + TAG_LENGTH + '{}:'.length
    const endOn = async (master: Engine): Promise<number> => {
      let count = 0
      for (let cursor = '0'; ;) {
        const reply = await master.run(SCAN, [], [cursor, pattern, user])
        const [next, ...keys] = reply as [string, ...string[]]
        const ids = keys.map((key) => key.slice(idAt)).filter((id) => id !== except)
        count += await this.#endAll(ids, user)
        if (next === '0') return count
        cursor = next
      }
    }
    const counts = await Promise.all((await this.#engine.masters()).map(endOn))
    return counts.reduce((sum, count) => sum + count, 0)
  }

  async #endAll(ids: readonly string[], user: string): Promise<number> {
    const ends = await inChunks(ids, (id) => this.#end(id, user))
    return ends.filter(Boolean).length
  }

  /** Ends a session if it belongs to `user`. `UNCHANGED` matches any user. */
  async #end(id: string, user: string): Promise<boolean> {
    const { isCluster } = this.#engine
    const keys = isCluster ? [this.#key(id)] : [this.#key(id), this.#userPrefix]
    const answer = await this.#run(DESTROY, keys, [String(Date.now()), id, user])
    const ended = this.#resultOf(id, answer) === 'ok'
    if (ended && isCluster && answer[1] !== undefined) this.#leave(answer[1], id)
    return ended
  }

  #resultOf(id: string, [status]: Answer): UpdateResult {
    if (status === 'malformed') reportInvalidRecord(id, 'shape')
    return status === 'ok' || status === 'conflict' ? status : 'gone'
  }

  async #idsOf(user: string): Promise<string[]> {
    return this.#run<string[]>(LIST, [this.#userPrefix + user], [])
  }

  async #enter(user: string, id: string, [now, ttl]: readonly string[]): Promise<void> {
    await this.#run(ENTER, [this.#userPrefix + user], [now, ttl, id] as string[])
  }

  /** Ignores errors, because `listByUser` skips an entry that has no session, and such an entry expires later. */
  #leave(user: string, id: string): void {
    this.#run(LEAVE, [this.#userPrefix + user], [String(Date.now()), id]).catch(() => undefined)
  }

  #key(id: string): string {
    return `${this.#prefix}{${tagOf(id)}}:${id}`
  }

  async #run<T = Answer>(script: Script, keys: string[], args: string[]): Promise<T> {
    return (await this.#engine.run(script, keys, args)) as T
  }
}

async function inChunks<T>(ids: readonly string[], call: (id: string) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  for (let at = 0; at < ids.length; at += CHUNK)
    results.push(...(await Promise.all(ids.slice(at, at + CHUNK).map(call))))
  return results
}

const PROCESS = randomBytes(NONCE_LENGTH)
  .toString('base64url')
  .slice(0, NONCE_LENGTH / 2)
let writes = 0

/** Returns a text that no other write has. It does not have to be secret. */
function newNonce(): string {
  return PROCESS + (writes++).toString(36).padStart(NONCE_LENGTH / 2, '0')
}

function tagOf(id: string): string {
  return id.slice(0, TAG_LENGTH)
}

/** The position, in the result of `argsOf()`, of the user whose list already contains the session. */
const ENTERED = 10

function argsOf(id: string, patch: SessionPatch): string[] {
  const { set, remove, clear, createdAt = '', userId, renameTo = '', ifVersion = '' } = patch
  const user = userId === undefined ? UNCHANGED : userId === null ? NOBODY : MARK + encode(userId)
  const args = timesOf(patch)
  args.push(id, String(createdAt), user, String(ifVersion), renameTo, clear === true ? '1' : '', '')
  args.push(newNonce(), String(remove.length))
  for (const key of remove) args.push(MARK + encode(key))
  pushPairs(args, set)
  return args
}

function timesOf({ lastAccessed, expiresAt }: SessionPatch | SessionRecord): string[] {
  const now = Date.now()
  return [String(now), String(Math.ceil(expiresAt - now)), String(expiresAt), String(lastAccessed)]
}

function pushPairs(args: string[], data: Readonly<Record<string, string>>): void {
  for (const [key, text] of Object.entries(data)) args.push(MARK + encode(key), encode(text))
}

function recordOf(id: string, hash: Hash): SessionRecord | undefined {
  if (hash.e === undefined && Object.keys(hash).length === 0) return undefined
  const record = parseRecord(id, () => ({
    version: hash.v,
    data: dataOf(hash),
    createdAt: hash.c,
    lastAccessed: hash.a,
    expiresAt: hash.e,
    userId: hash.u === undefined ? null : decode(hash.u.slice(MARK.length))
  }))
  return record !== undefined && Date.now() < record.expiresAt ? record : undefined
}

/** Returns an object without a prototype, so that `__proto__` is an ordinary key. */
function dataOf(hash: Hash): Record<string, string> {
  const data = Object.create(null) as Record<string, string>
  for (const field in hash) {
    if (field.startsWith(MARK)) data[decode(field.slice(MARK.length))] = decode(hash[field] as string)
  }
  return data
}
