// The performance targets of the library. A CPU ratio is the server's CPU time per request, divided by that of bare
// Fastify in the same round.

/**
 * The highest allowed CPU time per request with the library's memory store, as a multiple of the CPU time that bare
 * Fastify needs.
 */
export const CPU_BOUNDS = {
  anonymous: 1.04,
  'read-hot': 1.1,
  'read-10k': 1.2,
  'read-100k': 1.35,
  'read-64k': 1.15,
  change: 1.35
}

/**
 * Comparisons with other libraries. In `scenario`, the contender `ours` must serve at least `times` times as many
 * requests per second as the contender `peer`.
 */
export const PEER_BOUNDS = [
  { scenario: 'read-hot', ours: 'sesame-memory', peer: 'fastify-session-lean', times: 2.2 },
  { scenario: 'read-10k', ours: 'sesame-memory', peer: 'fastify-session-lean', times: 2.2 },
  { scenario: 'read-hot', ours: 'sesame-memory', peer: 'secure-session', times: 1.2 },
  { scenario: 'read-10k', ours: 'sesame-memory', peer: 'secure-session', times: 1.2 },
  { scenario: 'read-hot', ours: 'sesame-redis', peer: 'fastify-session-redis', times: 1.5 },
  { scenario: 'change', ours: 'sesame-redis', peer: 'fastify-session-redis', times: 1.5 },
  { scenario: 'read-64k', ours: 'sesame-memory', peer: 'fastify-session-lean', times: 10 }
]

/**
 * Upper bounds on the memory per session and on the longest pause of the event loop during a sweep. The memory
 * store is measured at its default limit of 100,000 sessions.
 */
export const SCALE_BOUNDS = { bytesPerSession: 500, sweepHoldMs: 5 }

/**
 * Looser bounds for `--quick`, which runs on shared CI machines. They apply to the fastest round of each contender,
 * because other work on the machine can only add time. A scenario that misses its bound is measured again before the
 * run fails. Scenarios with many sessions have the widest bounds, because they depend most on the speed of the
 * machine's memory.
 * These bounds detect that the library has become twice as slow, but they do not detect a slowdown of 5 %.
 */
export const QUICK_BOUNDS = {
  anonymous: 1.25,
  'read-hot': 1.45,
  'read-10k': 2.2,
  'read-100k': 3.2,
  'read-64k': 1.55,
  change: 2.3
}

/**
 * Compares the results with the bounds. Returns one `{ title, bound, measured, holds }` for each bound, except for
 * bounds for which nothing was measured.
 * `results` maps each scenario to the lines that `summarize` returned for it. With `quick`, the bounds of `--quick`
 * apply, and the comparison with other libraries is left out.
 */
export function compare(results, { quick = false, scale } = {}) {
  const line = (scenario, name) => results[scenario]?.find(({ contender }) => contender === name)
  const cpu = Object.entries(quick ? QUICK_BOUNDS : CPU_BOUNDS).map(([scenario, bound]) => {
    const ours = line(scenario, 'sesame-memory')
    return quick
      ? atMost(`${scenario}: CPU of the fastest round, × bare Fastify`, bound, ours?.leastCpu)
      : atMost(`${scenario}: CPU, × bare Fastify`, bound, ours?.ratio?.cpu)
  })
  const peers = PEER_BOUNDS.map(({ scenario, ours, peer, times }) => {
    const measured = line(scenario, ours)?.rps / line(scenario, peer)?.rps
    return {
      title: `${scenario}: requests/s of ${ours}, × ${peer}`,
      bound: times,
      measured,
      holds: measured >= times
    }
  })
  const scaleBounds = Object.entries(SCALE_BOUNDS).map(([figure, bound]) =>
    atMost(SCALE_TITLES[figure], bound, scale?.[figure])
  )
  return [...cpu, ...(quick ? [] : peers), ...scaleBounds].filter(({ measured }) => measured > 0)
}

const SCALE_TITLES = {
  bytesPerSession: 'memory store with 100,000 sessions: bytes per session, without the id',
  sweepHoldMs:
    'memory store, sweep of 100,000 sessions: longest pause of the event loop, ms, best of 5 sweeps'
}

function atMost(title, bound, measured) {
  return { title, bound, measured, holds: measured <= bound }
}
