import type { Engine } from './client.js'

/** How long a connection may be silent until nothing more is sent on it, in ms. */
const SILENCE = 500
/** A command that has waited longer is not sent, because its request has probably been answered. In ms. */
const LONGEST_WAIT = 3000

/** The commands on one connection that wait for a reply. */
interface Line {
  pending: number
  /** The time of the last reply or, if there is none yet, of the first command. */
  since: number
  latest: Promise<unknown>
}

/**
 * Returns an engine that sends nothing more while Redis does not reply. If a firewall has forgotten a connection, the
 * `socketTimeout` of node-redis closes it after a time without activity, but each write counts as activity.
 */
export function waitWhileSilent(engine: Engine): Engine {
  const lines = new Map<string, Line>()
  const send = async <T>(key: string, call: () => Promise<T>): Promise<T> => {
    const name = engine.isCluster ? slotOf(key) : ''
    const began = performance.now()
    let line = lines.get(name)
    while (line !== undefined && performance.now() - line.since > SILENCE) {
      await line.latest.catch(() => undefined)
      if (performance.now() - began > LONGEST_WAIT) throw new Error('RedisStore: Redis does not reply')
      line = lines.get(name)
    }
    const answer = call()
    line ??= { pending: 0, since: performance.now(), latest: answer }
    line.pending++
    line.latest = answer
    lines.set(name, line)
    try {
      return await answer
    } finally {
      line.since = performance.now()
      if (--line.pending === 0) lines.delete(name)
    }
  }
  return {
    ...engine,
    read: (key) => send(key, () => engine.read(key)),
    run: (script, keys, args) => send(String(keys[0]), () => engine.run(script, keys, args))
  }
}

/** Returns a text that only keys of one slot share, and so of one server. */
function slotOf(key: string): string {
  return key.slice(0, key.indexOf('}') + 1) || key
}
