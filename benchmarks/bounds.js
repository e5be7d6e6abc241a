// What the library is to reach. CPU: the server's CPU time a request, as a ratio to bare Fastify in the same round.

/** Of our memory store, at most. */
export const CPU_BOUNDS = {
  anonymous: 1.04,
  'read-hot': 1.1,
  'read-10k': 1.2,
  'read-1m': 1.35,
  'read-64k': 1.15,
  change: 1.35
}

/** Requests per second of ours, at least so many times the peer's. */
export const PEER_BOUNDS = [
  { scenario: 'read-hot', ours: 'sesame-memory', peer: 'fastify-session-lean', times: 2.2 },
  { scenario: 'read-10k', ours: 'sesame-memory', peer: 'fastify-session-lean', times: 2.2 },
  { scenario: 'read-hot', ours: 'sesame-memory', peer: 'secure-session', times: 1.2 },
  { scenario: 'read-10k', ours: 'sesame-memory', peer: 'secure-session', times: 1.2 },
  { scenario: 'read-hot', ours: 'sesame-redis', peer: 'fastify-session-redis', times: 1.5 },
  { scenario: 'change', ours: 'sesame-redis', peer: 'fastify-session-redis', times: 1.5 },
  { scenario: 'read-64k', ours: 'sesame-memory', peer: 'fastify-session-lean', times: 10 }
]

/** Of the memory store at a million sessions, at most. */
export const SCALE_BOUNDS = { bytesPerSession: 500, sweepHoldMs: 5 }

/** A short run on a shared machine must not flap: twice the allowed cost, and a tenth for the noise. */
export function quickBound(bound) {
  return 1 + (bound - 1) * 2 + 0.1
}

/**
 * The bounds beside what was measured: `{ what, bound, measured, holds }`, those that were not measured left out.
 * `results`: scenario → the lines of summarize(). `quick`: with the quick form's bounds, and without the peers.
 */
export function compare(results, { quick = false, scale } = {}) {
  const line = (scenario, name) => results[scenario]?.find(({ contender }) => contender === name)
  const cpu = Object.entries(CPU_BOUNDS).map(([scenario, bound]) => {
    const measured = line(scenario, 'sesame-memory')?.ratio?.cpu
    return atMost(`${scenario}: CPU, × bare Fastify`, quick ? quickBound(bound) : bound, measured)
  })
  const peers = PEER_BOUNDS.map(({ scenario, ours, peer, times }) => {
    const measured = line(scenario, ours)?.rps / line(scenario, peer)?.rps
    return {
      what: `${scenario}: requests/s of ${ours}, × ${peer}`,
      bound: times,
      measured,
      holds: measured >= times
    }
  })
  const large = Object.entries(SCALE_BOUNDS).map(([figure, bound]) =>
    atMost(SCALE_TITLES[figure], bound, scale?.[figure])
  )
  return [...cpu, ...(quick ? [] : peers), ...large].filter(({ measured }) => measured > 0)
}

const SCALE_TITLES = {
  bytesPerSession: 'memory store, 1,000,000 sessions: bytes a session beyond its id',
  sweepHoldMs: 'memory store, sweep of 1,000,000: longest hold of the event loop, the least of 5, ms'
}

function atMost(what, bound, measured) {
  return { what, bound, measured, holds: measured <= bound }
}
