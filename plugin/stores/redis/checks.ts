import { LARGEST_SKEW, skewOf } from '../clock.js'
import type { Engine } from './client.js'
import { INSPECT } from './scripts.js'

export const READ_ONLY =
  'Redis is a read-only replica, so that every write fails: connect to the master, through Sentinel or the cluster ' +
  'client if it can change'

/** Returns a warning for each setting of Redis or of the client that can lose or repeat a write. */
export async function warningsOf(client: object, engine: Engine): Promise<string[]> {
  const servers = await inspect(engine)
  const policy = servers.map((server) => server.policy).find(evicts)
  const skew = servers.map((server) => server.skew).find((skew) => Math.abs(skew) > LARGEST_SKEW)
  const warnings = resendWarnings(client)
  if (policy !== undefined)
    warnings.push(
      `Redis has the maxmemory-policy ${policy}, so that it may sign users out, and ending the sessions of a user reads ` +
        'the keys of all sessions: set `maxmemory-policy noeviction`'
    )
  if (skew !== undefined)
    warnings.push(
      `The clock of Redis is ${Math.abs(skew) / 1000} s ${skew > 0 ? 'ahead of' : 'behind'} the clock of this server, ` +
        'so that sessions may end too early or too late: synchronize both with NTP'
    )
  return warnings
}

/** Returns whether a server may have evicted the index of a user. Returns `false` if the client may not ask. */
export async function mayEvict(engine: Engine): Promise<boolean> {
  return (await inspect(engine)).some(({ policy }) => evicts(policy))
}

function evicts(policy: string): boolean {
  return policy !== '' && policy !== 'noeviction'
}

interface Server {
  readonly policy: string
  /** How far its clock is ahead of the clock of this process, in milliseconds. */
  readonly skew: number
}

async function inspect(engine: Engine): Promise<Server[]> {
  return Promise.all((await engine.masters()).map(inspectServer))
}

async function inspectServer(engine: Engine): Promise<Server> {
  const asked = Date.now()
  const reply = await engine.run(INSPECT, [], [])
  const answered = Date.now()
  const [seconds, microseconds, policy] = reply as [string, string, string]
  const time = Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000)
  return { policy, skew: skewOf(time, asked, answered) }
}

/** The options of a `Redis` client of `ioredis`. A `Cluster` or a client of `redis` does not have them. */
interface ClientOptions {
  readonly autoResendUnfulfilledCommands?: boolean
  readonly maxRetriesPerRequest?: number | null
}

/** A write that is sent again changes nothing, but a logout that is sent again does not find its session. */
function resendWarnings(client: object): string[] {
  const { options = {} } = client as { options?: ClientOptions }
  if (options.autoResendUnfulfilledCommands !== true || options.maxRetriesPerRequest === 0) return []
  return [
    'The client sends a command again if its reply was lost, so that a logout may not find its session: set ' +
      '`autoResendUnfulfilledCommands: false` and `maxRetriesPerRequest: 0`'
  ]
}
