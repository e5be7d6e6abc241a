import t from 'tap'
import { compare, CPU_BOUNDS, QUICK_BOUNDS } from '../../benchmarks/bounds.js'

const ours = (cpu, rps = 100) => ({ contender: 'sesame-memory', rps, ratio: { cpu }, leastCpu: cpu - 0.2 })

void t.test('an upper bound holds for a value equal to it, and fails for a higher value', async (t) => {
  const verdict = (cpu) => compare({ 'read-hot': [ours(cpu)] }).map(({ holds }) => holds)
  t.same(verdict(CPU_BOUNDS['read-hot']), [true])
  t.same(verdict(CPU_BOUNDS['read-hot'] + 0.01), [false])
})

void t.test('a performance bound is left out of the results if its value was not measured', async (t) => {
  t.same(compare({}), [])
  t.same(compare({ 'read-hot': [{ contender: 'sesame-memory', problem: 'crashed' }] }), [])
})

void t.test('this plugin’s requests per second are compared with those of another plugin', async (t) => {
  const peer = { contender: 'secure-session', rps: 80, ratio: { cpu: 2 } }
  const found = compare({ 'read-hot': [ours(1.05, 100), peer] }).find(({ title }) =>
    title.includes('secure-session')
  )
  t.match(found, { bound: 1.2, measured: 1.25, holds: true })
})

void t.test('a quick run uses looser performance bounds and ignores other plugins’ results', async (t) => {
  t.same(Object.keys(QUICK_BOUNDS), Object.keys(CPU_BOUNDS))
  for (const [scenario, bound] of Object.entries(CPU_BOUNDS)) t.ok(QUICK_BOUNDS[scenario] > bound, scenario)
  const peer = { contender: 'secure-session', rps: 1000, ratio: { cpu: 2 } }
  const verdict = (cpu) => compare({ 'read-hot': [ours(cpu), peer] }, { quick: true })
  t.match(verdict(QUICK_BOUNDS['read-hot'] + 0.2 - 0.001), [{ holds: true }], 'compares the lowest CPU time')
  t.match(verdict(QUICK_BOUNDS['read-hot'] + 0.21), [{ holds: false }])
  t.equal(verdict(1).length, 1)
})

void t.test('memory per session and the longest sweep pause are compared with their bounds', async (t) => {
  const bounds = compare({}, { scale: { bytesPerSession: 600, sweepHoldMs: 4 } })
  t.same(
    bounds.map(({ holds }) => holds),
    [false, true]
  )
})
