import { SessionOptionError } from '../../errors.js'
import type { Script } from './scripts.js'

/** A client of `redis` (node-redis): `createClient`, `createCluster`, `createSentinel` or `createClientPool`. */
export interface NodeRedisClient {
  hGetAll(key: string): Promise<unknown>
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
}

/** A client of `ioredis` or `iovalkey`: `Redis` or `Cluster`. */
export interface IoRedisClient {
  hgetall(key: string): Promise<unknown>
  eval(script: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
  evalsha(sha: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
}

/** The reply to HGETALL. */
export type Hash = Record<string, string>

/** The same few commands, whichever client carries them. */
export interface Engine {
  /** In a cluster a script reaches one slot only. */
  readonly isCluster: boolean
  read(key: string): Promise<Hash>
  run(script: Script, keys: string[], args: string[]): Promise<unknown>
}

/** @throws {SessionOptionError} naming what the client lacks. */
export function engineOf(client: unknown): Engine {
  if (typeof client !== 'object' || client === null) {
    const got = client === null ? 'null' : `a ${typeof client}`
    throw new SessionOptionError('client', `is ${got}, but must be a client: ${CLIENT_LINES}`)
  }
  const methods = 'hGetAll' in client ? ['hGetAll', 'eval', 'evalSha'] : ['hgetall', 'eval', 'evalsha']
  const missing = methods.filter((name) => typeof Reflect.get(client, name) !== 'function')
  if (missing.length > 0)
    throw new SessionOptionError(
      'client',
      `lacks ${missing.join(', ')}; it must be a client: ${CLIENT_LINES}`
    )
  // The cluster clients of both kinds know the slots, the others do not.
  const isCluster = 'slots' in client
  return 'hGetAll' in client
    ? nodeRedisEngine(client as NodeRedisClient, isCluster)
    : ioRedisEngine(client as IoRedisClient, isCluster)
}

const CLIENT_LINES = '`await createClient({ url }).connect()` of redis, or `new Redis(url)` of ioredis'

function nodeRedisEngine(given: NodeRedisClient, isCluster: boolean): Engine {
  const client = withOwnOptions(given)
  return {
    isCluster,
    read: (key) => client.hGetAll(key) as Promise<Hash>,
    run({ sha, text }, keys, args) {
      const options = { keys, arguments: args }
      return client.evalSha(sha, options).catch((error: unknown) => {
        if (isReply(error, 'NOSCRIPT')) return client.eval(text, options)
        throw error
      })
    }
  }
}

/**
 * The application's own mapping of replies, to Buffers for one, must not reach the store. Where no command waits for a
 * connection, none needs a time-out of the client's: that is an AbortSignal each, which costs as much as the command.
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

function ioRedisEngine(client: IoRedisClient, isCluster: boolean): Engine {
  return {
    isCluster,
    read: (key) => client.hgetall(key) as Promise<Hash>,
    run({ sha, text }, keys, args) {
      return client.evalsha(sha, keys.length, ...keys, ...args).catch((error: unknown) => {
        if (isReply(error, 'NOSCRIPT')) return client.eval(text, keys.length, ...keys, ...args)
        throw error
      })
    }
  }
}

/** Whether Redis answered with an error of this code. */
export function isReply(error: unknown, code: string): boolean {
  return error instanceof Error && error.message.startsWith(code)
}

/** What no waiting mends, as an error of registration. */
export function hopeless(error: Error): SessionOptionError | undefined {
  const problem = PROBLEMS.find(([codes]) => codes.test(error.message))?.[1]
  if (problem === undefined) return undefined
  const wrong = new SessionOptionError('client', problem)
  wrong.cause = error
  return wrong
}

const PROBLEMS: readonly (readonly [RegExp, string])[] = [
  [
    /^(?:CROSSSLOT|MOVED)/,
    'reaches one node of a cluster: use `createCluster()` of redis, or `new Redis.Cluster()` of ioredis'
  ],
  [/^(?:NOAUTH|WRONGPASS)/, 'has no password, or a wrong one: give the client `username` and `password`'],
  [
    /^NOPERM|ACL failure|can't run this command/,
    'may not do what the store needs: `ACL SETUSER … ~<prefix>* +@hash +@sortedset +@keyspace +@scripting`'
  ]
]
