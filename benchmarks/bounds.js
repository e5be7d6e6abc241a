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

/**
 * The same for the quick form, which must not flap on a shared machine: of the least that each cost in any round, because
 * what disturbs them only adds, of more rounds where it is past, and wider, because where each request meets another
 * session, it is the memory of the machine that is measured. So it sees a cost that has become a multiple, and not some
 * percent.
 */
export const QUICK_BOUNDS = {
  anonymous: 1.25,
  'read-hot': 1.45,
  'read-10k': 1.9,
  'read-1m': 2.8,
  'read-64k': 1.45,
  change: 1.8
}

/**
 * The bounds beside what was measured: `{ what, bound, measured, holds }`, those that were not measured left out.
 * `results`: scenario → the lines of summarize(). `quick`: with the quick form's bounds, and without the peers.
 */
export function compare(results, { quick = false, scale } = {}) {
  const line = (scenario, name) => results[scenario]?.find(({ contender }) => contender === name)
  const cpu = Object.entries(quick ? QUICK_BOUNDS : CPU_BOUNDS).map(([scenario, bound]) => {
    const ours = line(scenario, 'sesame-memory')
    return quick
      ? atMost(`${scenario}: least CPU, × bare Fastify`, bound, ours?.leastCpu)
      : atMost(`${scenario}: CPU, × bare Fastify`, bound, ours?.ratio?.cpu)
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
