import t from 'tap'
import { CONTENDERS } from '../../benchmarks/contenders.js'
import { listOf, planOf, skipMissingEngines } from '../../benchmarks/plan.js'
import { SCENARIOS } from '../../benchmarks/scenarios.js'

const all = { contenders: CONTENDERS, scenarios: SCENARIOS }
const plan = (options) => planOf(options, { all, bounded: ['anonymous', 'read-100k'] })
const names = (matches) =>
  matches.map(({ scenario, contenders }) => [scenario.name, ...contenders.map(({ name }) => name)])
const named = (list, name) => list.find((entry) => entry.name === name)

void t.test('every scenario measures bare Fastify first, even if --only does not name it', async (t) => {
  for (const { contenders } of plan({}).matches) t.equal(contenders[0].name, 'bare')
  const contenders = [named(CONTENDERS, 'mgcrea')]
  const { matches } = plan({ contenders, scenarios: [named(SCENARIOS, 'change')] })
  t.same(names(matches), [['change', 'bare', 'mgcrea']])
})

void t.test('a quick run measures our memory store in all scenarios with a performance limit', async (t) => {
  const { matches, engines } = plan({ quick: true })
  t.same(names(matches), [
    ['anonymous', 'bare', 'sesame-memory'],
    ['read-100k', 'bare', 'sesame-memory']
  ])
  t.same(engines, [])
  const contenders = [named(CONTENDERS, 'secure-session')]
  t.same(names(plan({ quick: true, contenders }).matches)[0], ['anonymous', 'bare', 'secure-session'])
})

void t.test('the plan gives a reason for each contender that it skips in a scenario', async (t) => {
  const { matches } = plan({ scenarios: [named(SCENARIOS, 'read-64k')] })
  t.same(
    matches[0].skipped.map(({ title }) => title),
    ['@fastify/secure-session', 'iron-session on Fastify']
  )
  t.ok(matches[0].skipped.every(({ reason }) => reason.length > 0))
})

void t.test('the plan lists the databases that its contenders and the scale tests need', async (t) => {
  t.same(plan({}).engines, ['redis', 'postgres'])
  t.same(plan({ scenarios: [], withScale: true }).engines, ['redis'])
})

void t.test('a contender whose database is missing is skipped, and the others are measured', async (t) => {
  const { matches } = plan({ scenarios: [named(SCENARIOS, 'csrf')] })
  const [{ contenders, skipped }] = skipMissingEngines(matches, { redis: 'not installed' })
  t.notOk(contenders.some(({ engine }) => engine === 'redis'))
  t.ok(contenders.some(({ engine }) => engine === 'postgres'))
  t.match(skipped.at(-1), { title: 'fastify-sesame, Redis', reason: 'no redis: not installed' })
})

void t.test('every scenario that a contender is configured to skip exists', async (t) => {
  for (const { name, skip } of CONTENDERS) {
    for (const scenario of Object.keys(skip)) t.ok(named(SCENARIOS, scenario), `${name}: ${scenario}`)
  }
})

void t.test(
  'a scenario in which each connection keeps its own cookie has at least one session per connection',
  async (t) => {
    const followers = SCENARIOS.filter(({ follow }) => follow === 'each')
    t.ok(followers.length > 0)
    for (const { name, sessions, connections } of followers) t.ok(connections <= sessions, name)
  }
)

void t.test('--list names all contenders, scenarios and skipped combinations', async (t) => {
  const text = listOf(all)
  for (const { name } of [...CONTENDERS, ...SCENARIOS]) t.match(text, name)
  t.match(text, /mgcrea +login: has no regenerate\(\)/)
})
