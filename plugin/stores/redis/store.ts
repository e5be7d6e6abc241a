import { toUSVString } from 'node:util'
import { channels } from '../../diagnostics.js'
import { SessionOptionError } from '../../errors.js'
import { engineOf, hopeless, isReply } from './client.js'
import type { Engine, Hash, IoRedisClient, NodeRedisClient } from './client.js'
import { CREATE, DESTROY, ENTER, ESCAPED, LEAVE, LIST, NOBODY, PLAIN, UNCHANGED, UPDATE } from './scripts.js'
import type { Script } from './scripts.js'
import type { SessionPatch, SessionRecord, SessionStore, StoredSession, UpdateResult } from '../../types.js'

export type { IoRedisClient, NodeRedisClient }

export interface RedisStoreOptions {
  /** A connected client. It stays the caller's: the store neither connects nor closes it. */
  readonly client: NodeRedisClient | IoRedisClient
  /** What every key begins with; without `{` and `}`, which place keys in a cluster. Default `'sesame:'`. */
  readonly prefix?: string
}

/** What the scripts say: how it went, and the user of the record as it was before, or as it is to be indexed. */
type Answer = readonly [status: string, user?: string]
/** The leading digits of an id are its key's hash tag: 256 groups, spread over all masters, each in one slot. */
const TAG_LENGTH = 2

/**
 * Sessions in Redis or Valkey, on a single server, behind Sentinel or in a cluster. A session is a hash with a field
 * for each key, a write is one script, and Redis itself drops what has expired. On a cluster the index of a user's
 * sessions lies elsewhere than the sessions: an entry is written before its session, and removed after it.
 */
export class RedisStore implements SessionStore {
  /** Two in a cluster, so that a rotation stays in its slot. */
  readonly rotationPrefix?: number
  readonly #client: RedisStoreOptions['client']
  readonly #engine: Engine
  readonly #prefix: string
  readonly #userPrefix: string

  /** @throws {SessionOptionError} when `client` is no client, or `prefix` no string without braces. */
  constructor({ client, prefix = 'sesame:' }: RedisStoreOptions) {
    if (typeof prefix !== 'string' || /[{}]/.test(prefix))
      throw SessionOptionError.wrong('prefix', prefix, 'a string without { and }')
    this.#client = client
    this.#engine = engineOf(client)
    this.#prefix = prefix
    this.#userPrefix = `${prefix}user:`
    if (this.#engine.isCluster) this.rotationPrefix = TAG_LENGTH
  }

  /** @throws {SessionOptionError} when the client was never connected, is no cluster's, or may not use its keys. */
  async ready(): Promise<void> {
    if ((this.#client as { isOpen?: boolean }).isOpen === false) {
      throw new SessionOptionError('client', 'is not connected: `await client.connect()` first')
    }
    try {
      // Neither finds or changes anything; who may not run scripts, or use these keys, is found out.
      await Promise.all([this.get('ready'), this.destroy('ready')])
    } catch (error) {
      throw hopeless(error as Error) ?? error
    }
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    let hash: Hash
    try {
      hash = await this.#engine.read(this.#key(id))
    } catch (error) {
      if (!isReply(error, 'WRONGTYPE')) throw error
      return reportForeign(id)
    }
    return recordOf(id, hash)
  }

  async create(id: string, record: SessionRecord): Promise<boolean> {
    const user = record.userId === null ? NOBODY : toBytes(record.userId)
    const args = timesOf(record)
    args.push(id, String(record.createdAt), user, String(record.version))
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
    return this.#settled(id, answer)
  }

  async destroy(id: string): Promise<boolean> {
    return this.#end(id, UNCHANGED)
  }

  async listByUser(userId: string): Promise<StoredSession[]> {
    const ids = await this.#idsOf(toBytes(userId))
    const records = await Promise.all(ids.map((id) => this.get(id)))
    const found: StoredSession[] = []
    for (const [index, record] of records.entries()) {
      if (record?.userId === userId) found.push({ id: ids[index] as string, record })
    }
    return found
  }

  /** A session that rotates meanwhile is entered under its new id before it moves, so that a later look finds it. */
  async destroyByUser(userId: string, except?: string): Promise<number> {
    const user = toBytes(userId)
    const seen = new Set<string>()
    for (let count = 0; ;) {
      const ids = (await this.#idsOf(user)).filter((id) => id !== except)
      const ends = await Promise.all(ids.map((id) => this.#end(id, user)))
      const ended = ends.filter(Boolean).length
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
    // Only the record knows its user: the script changes nothing while a user's entry has still to be made.
    while (answer[0] === 'enter') {
      args[ENTERED] = answer[1] as string
      await this.#enter(args[ENTERED], target, args)
      answer = await this.#run(UPDATE, keys, args)
    }
    const [status, before] = answer
    // Of a session that keeps its id the entry stays: its user may be the same again before it is gone.
    if (status === 'ok' && before !== undefined && target !== id) this.#leave(before, id)
    return answer
  }

  /** Ends a session, if it is this user's; `UNCHANGED` is anybody's. */
  async #end(id: string, user: string): Promise<boolean> {
    const { isCluster } = this.#engine
    const keys = isCluster ? [this.#key(id)] : [this.#key(id), this.#userPrefix]
    const answer = await this.#run(DESTROY, keys, [String(Date.now()), id, user])
    const ended = this.#settled(id, answer) === 'ok'
    if (ended && isCluster && answer[1] !== undefined) this.#leave(answer[1], id)
    return ended
  }

  #settled(id: string, [status]: Answer): UpdateResult {
    if (status === 'foreign') reportForeign(id)
    return status === 'ok' || status === 'conflict' ? status : 'gone'
  }

  async #idsOf(user: string): Promise<string[]> {
    return this.#run<string[]>(LIST, [this.#userPrefix + user], [String(Date.now())])
  }

  async #enter(user: string, id: string, [now, ttl, expiresAt]: readonly string[]): Promise<void> {
    await this.#run(ENTER, [this.#userPrefix + user], [now, ttl, expiresAt, id] as string[])
  }

  /** Not waited for: an entry that stays is never shown and goes with its time, but a failure here is no failure. */
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

function tagOf(id: string): string {
  return id.slice(0, TAG_LENGTH)
}

// Where argsOf() puts what a cluster looks at again.
const ENTERED = 10

function argsOf(id: string, patch: SessionPatch): string[] {
  const { set, remove, clear, createdAt = '', userId, renameTo = '', ifVersion = '' } = patch
  const user = userId === undefined ? UNCHANGED : userId === null ? NOBODY : toBytes(userId)
  const args = timesOf(patch)
  args.push(id, String(createdAt), user, String(ifVersion), renameTo, clear === true ? '1' : '', '')
  args.push(String(remove.length))
  for (const key of remove) args.push(toBytes(key))
  pushPairs(args, set)
  return args
}

function timesOf({ lastAccessed, expiresAt }: SessionPatch | SessionRecord): string[] {
  const now = Date.now()
  return [String(now), String(Math.ceil(expiresAt - now)), String(expiresAt), String(lastAccessed)]
}

function pushPairs(args: string[], data: Readonly<Record<string, string>>): void {
  for (const [key, text] of Object.entries(data)) args.push(toBytes(key), text)
}

/** A key or a user id as Redis keeps it. UTF-8 would turn every lone surrogate into one and the same character. */
function toBytes(text: string): string {
  return toUSVString(text) === text ? PLAIN + text : ESCAPED + Buffer.from(text, 'utf16le').toString('hex')
}

function recordOf(id: string, hash: Hash): SessionRecord | undefined {
  const version = Number(hash.v)
  const createdAt = Number(hash.c)
  const lastAccessed = Number(hash.a)
  const expiresAt = Number(hash.e)
  if (!Number.isFinite(version + createdAt + lastAccessed + expiresAt)) {
    return Object.keys(hash).length === 0 ? undefined : reportForeign(id)
  }
  if (Date.now() >= expiresAt) return undefined
  const userId = hash.u === undefined ? null : fromBytes(hash.u)
  return { version, data: dataOf(hash), createdAt, lastAccessed, expiresAt, userId }
}

/** Without a prototype, in which `__proto__` is a key like any other. */
function dataOf(hash: Hash): Record<string, string> {
  const data = Object.create(null) as Record<string, string>
  for (const field in hash) {
    if (field.startsWith(PLAIN) || field.startsWith(ESCAPED)) data[fromBytes(field)] = hash[field] as string
  }
  return data
}

function fromBytes(bytes: string): string {
  return bytes.startsWith(PLAIN) ? bytes.slice(1) : Buffer.from(bytes.slice(1), 'hex').toString('utf16le')
}

function reportForeign(id: string): undefined {
  const channel = channels.invalidRecord
  if (channel.hasSubscribers) channel.publish({ id, reason: 'shape' })
}
