import { SessionOptionError } from '../../errors.js'
import { withoutValues } from '../driver-error.js'
import type { Script } from './scripts.js'
import { retryWhileSlotMoves } from './retry.js'
import { waitWhileSilent } from './silence.js'

/** A `redis` (node-redis) client from `createClient`, `createCluster`, `createSentinel` or `createClientPool`. */
export interface NodeRedisClient {
  hGetAll(key: string): Promise<unknown>
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
}

/** A `Redis` or `Cluster` client of the package `ioredis` or `iovalkey`. */
export interface IoRedisClient {
  hgetall(key: string): Promise<unknown>
  eval(script: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
  evalsha(sha: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
}

/** The reply to HGETALL. */
export type Hash = Record<string, string>

/** The Redis commands that the store uses. They are the same for every client package. */
export interface Engine {
  /** True if the client is connected to a cluster, where a script can access the keys of only one slot. */
  readonly isCluster: boolean
  /** The text that the client itself puts before each key. */
  readonly keyPrefix: string
  read(key: string): Promise<Hash>
  run(script: Script, keys: string[], args: string[]): Promise<unknown>
  /** Returns an engine for each master of a cluster, or this engine. */
  masters(): Promise<readonly Engine[]>
}

/** @throws {SessionOptionError} if the client lacks a method. The message names the missing methods. */
export function engineOf(client: unknown): Engine {
  if (typeof client !== 'object' || client === null) {
    // Do not quote the value in the message, because it may be a connection string with a password.
    const got = client === null || client === undefined ? String(client) : `a ${typeof client}`
    throw new SessionOptionError('client', `is ${got}; it must be a client: ${CLIENT_HINT}`)
  }
  const missing = methodsOf(client).filter((name) => typeof Reflect.get(client, name) !== 'function')
  if (missing.length > 0)
    throw new SessionOptionError(
      'client',
      `has no ${missing.join(', ')}; it must be a client: ${CLIENT_HINT}`
    )
  const engine =
    'hGetAll' in client
      ? waitWhileSilent(nodeRedisEngine(client as NodeRedisClient))
      : ioRedisEngine(client as IoRedisClient)
  return engine.isCluster ? retryWhileSlotMoves(engine) : engine
}

/** Returns the names of the methods that a client must have. */
function methodsOf(client: object): string[] {
  const [methods, ofCluster] =
    'hGetAll' in client
      ? [['hGetAll', 'eval', 'evalSha'], 'nodeClient']
      : [['hgetall', 'eval', 'evalsha'], 'nodes']
  return isClusterClient(client) ? [...methods, ofCluster] : methods
}

/** Returns true for a client of one of the packages. */
export function isClient(given: unknown): boolean {
  return ['hgetall', 'hGetAll'].some((name) => name in Object(given))
}

export const CLIENT_HINT = '`await createClient({ url }).connect()` of redis, or `new Redis(url)` of ioredis'

/** A client packs more arguments than this into one, because it can only pass a limited number to a function. */
const MOST_ARGUMENTS = 1000

function packed(args: string[]): string[] {
  return args.length > MOST_ARGUMENTS ? [JSON.stringify(args)] : args
}

/** In both `redis` and `ioredis`, only a cluster client has the property `slots`. */
function isClusterClient(client: object): boolean {
  return 'slots' in client
}

function nodeRedisEngine(given: NodeRedisClient): Engine {
  const client = withOwnOptions(given)
  const { _keyPrefix: keyPrefix = '' } = given as { _keyPrefix?: string }
  const engine: Engine = {
    isCluster: isClusterClient(given),
    keyPrefix,
    read: (key) => client.hGetAll(key) as Promise<Hash>,
    run({ sha, text }, keys, args) {
      const options = { keys, arguments: packed(args) }
      if (sha === undefined) return client.eval(text, options)
      return client.evalSha(sha, options).catch((error: unknown) => {
        if (isReply(error, 'NOSCRIPT')) return client.eval(text, options)
        throw error
      })
    },
    async masters() {
      if (!engine.isCluster) return [engine]
      const cluster = given as unknown as NodeRedisCluster
      const clients = await Promise.all(cluster.masters.map(async (node) => cluster.nodeClient(node)))
      return clients.map(nodeRedisEngine)
    }
  }
  return engine
}

interface NodeRedisCluster {
  readonly masters: readonly object[]
  nodeClient(node: object): Promise<NodeRedisClient>
}

/**
 * Returns a client without the application's type mapping, which may turn replies into Buffers. If the offline queue is
 * disabled, also removes the command timeout, because its AbortSignal uses as much CPU time as the command itself.
 */
function withOwnOptions(given: NodeRedisClient): NodeRedisClient {
  const { options, withCommandOptions, withTypeMapping } = given as {
    options?: { disableOfflineQueue?: boolean }
    withCommandOptions?: (options: object) => NodeRedisClient
    withTypeMapping?: (mapping: object) => NodeRedisClient
  }
  if (options?.disableOfflineQueue === true && withCommandOptions !== undefined)
    return withCommandOptions.call(given, { typeMapping: {}, timeout: undefined })
  return withTypeMapping?.call(given, {}) ?? given
}

function ioRedisEngine(client: IoRedisClient): Engine {
  const { keyPrefix = '' } = (client as { options?: { keyPrefix?: string } }).options ?? {}
  const engine: Engine = {
    isCluster: isClusterClient(client),
    keyPrefix,
    read: (key) => client.hgetall(key) as Promise<Hash>,
    run({ sha, text }, keys, args) {
      const rest = [...keys, ...packed(args)]
      if (sha === undefined) return client.eval(text, keys.length, ...rest)
      return client.evalsha(sha, keys.length, ...rest).catch((error: unknown) => {
        if (isReply(error, 'NOSCRIPT')) return client.eval(text, keys.length, ...rest)
        throw error
      })
    },
    async masters() {
      if (!engine.isCluster) return [engine]
      return (client as unknown as IoRedisCluster).nodes('master').map(ioRedisEngine)
    }
  }
  return engine
}

interface IoRedisCluster {
  nodes(role: 'master'): IoRedisClient[]
}

/** Returns true if `error` is a Redis error reply with this code. */
export function isReply(error: unknown, code: string): boolean {
  return error instanceof Error && error.message.startsWith(code)
}

/** Returns true if a write failed because the server is a replica. Redis 6.2 quotes the error of a script. */
export function isReadOnly(error: unknown): boolean {
  return error instanceof Error && error.message.includes('READONLY')
}

/** Returns a `SessionOptionError` for an error that retrying cannot fix, or `undefined` for any other error. */
export function fatalError(error: Error): SessionOptionError | undefined {
  const problem = PROBLEMS.find(([codes]) => codes.test(error.message))?.[1]
  if (problem === undefined) return undefined
  const wrong = new SessionOptionError('client', problem)
  wrong.cause = withoutValues(error)
  return wrong
}

const PROBLEMS: readonly (readonly [RegExp, string])[] = [
  [
    /^(?:CROSSSLOT|MOVED)/,
    'reaches only one node of a cluster: use `createCluster()` of redis, or `new Redis.Cluster()` of ioredis'
  ],
  [/^(?:NOAUTH|WRONGPASS)/, 'has no password or a wrong one: pass `username` and `password` to the client'],
  [
    /^NOPERM|ACL failure|can't run this command/,
    'lacks a permission that the store needs: `ACL SETUSER … ~<prefix>* +@hash +@sortedset +@keyspace +@scripting +time +info`'
  ]
]
