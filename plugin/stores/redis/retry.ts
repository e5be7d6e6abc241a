import { setTimeout as delay } from 'node:timers/promises'
import type { Engine } from './client.js'

/** How long a command is sent again, in ms. This is less than the default `storeTimeout`. */
const LONGEST = 3000
/** The shortest and the longest pause between two attempts, in ms. The random pause spreads the load. */
const SHORTEST_PAUSE = 20
const LONGEST_PAUSE = 120
/**
 * The errors with which a cluster refuses a command while a slot moves or has no master. A client follows `MOVED` and
 * `ASK` only a limited number of times. A rotation needs two keys, and a moving slot refuses it with `TRYAGAIN` until
 * the move is complete. The last error is from a script one of whose commands went to a slot that moves.
 */
const MOVING = /\b(?:TRYAGAIN|CLUSTERDOWN|MOVED|ASK)\b|access a non local key/

/** Returns an engine that sends a command again while a cluster refuses it because of its slot. */
export function retryWhileSlotMoves(engine: Engine): Engine {
  return {
    ...engine,
    read: (key) => retry(() => engine.read(key)),
    run: (script, keys, args) => retry(() => engine.run(script, keys, args))
  }
}

async function retry<T>(send: () => Promise<T>): Promise<T> {
  const until = performance.now() + LONGEST
  for (;;) {
    try {
      return await send()
    } catch (error) {
      if (!MOVING.test((error as Error).message) || performance.now() > until) throw error
      await delay(SHORTEST_PAUSE + Math.random() * (LONGEST_PAUSE - SHORTEST_PAUSE))
    }
  }
}
