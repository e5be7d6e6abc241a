import t from 'tap'
import { CONTENDERS } from '../../benchmarks/contenders.js'
import { listOf, planOf, without } from '../../benchmarks/programme.js'
import { SCENARIOS } from '../../benchmarks/scenarios.js'

const all = { contenders: CONTENDERS, scenarios: SCENARIOS }
const plan = (options) => planOf(options, { all, bounded: ['anonymous', 'read-100k'] })
const names = (meetings) =>
  meetings.map(({ scenario, contenders }) => [scenario.name, ...contenders.map(({ name }) => name)])
const named = (list, name) => list.find((one) => one.name === name)

void t.test('the reference comes first in every scenario, whoever was asked for', async (t) => {
  for (const { contenders } of plan({}).meetings) t.equal(contenders[0].name, 'bare')
  const contenders = [named(CONTENDERS, 'mgcrea')]
  const { meetings } = plan({ contenders, scenarios: [named(SCENARIOS, 'change')] })
  t.same(names(meetings), [['change', 'bare', 'mgcrea']])
})

void t.test('the quick form has our memory store and the scenarios with a bound', async (t) => {
  const { meetings, engines } = plan({ quick: true })
  t.same(names(meetings), [
    ['anonymous', 'bare', 'sesame-memory'],
    ['read-100k', 'bare', 'sesame-memory']
  ])
  t.same(engines, [])
  const contenders = [named(CONTENDERS, 'secure-session')]
  t.same(names(plan({ quick: true, contenders }).meetings)[0], ['anonymous', 'bare', 'secure-session'])
})

void t.test('who is left out of a scenario has a reason', async (t) => {
  const { meetings } = plan({ scenarios: [named(SCENARIOS, 'read-64k')] })
  t.same(
    meetings[0].leftOut.map(({ title }) => title),
    ['@fastify/secure-session', 'iron-session on Fastify']
  )
  t.ok(meetings[0].leftOut.every(({ reason }) => reason.length > 0))
})

void t.test('engines are those of the contenders that take part, and Redis for scale', async (t) => {
  t.same(plan({}).engines, ['redis', 'postgres'])
  t.same(plan({ scenarios: [], withScale: true }).engines, ['redis'])
})

void t.test('without its engine a contender is left out, and the others go on', async (t) => {
  const { meetings } = plan({ scenarios: [named(SCENARIOS, 'csrf')] })
  const [{ contenders, leftOut }] = without(meetings, { redis: 'not installed' })
  t.notOk(contenders.some(({ engine }) => engine === 'redis'))
  t.ok(contenders.some(({ engine }) => engine === 'postgres'))
  t.match(leftOut.at(-1), { title: 'fastify-sesame, Redis', reason: 'no redis: not installed' })
})

void t.test('every reason to leave one out names a scenario that exists', async (t) => {
  for (const { name, skip } of CONTENDERS) {
    for (const scenario of Object.keys(skip)) t.ok(named(SCENARIOS, scenario), `${name}: ${scenario}`)
  }
})

void t.test('where each connection follows its own cookie, there is a session for each', async (t) => {
  const followers = SCENARIOS.filter(({ follow }) => follow === 'each')
  t.ok(followers.length > 0)
  for (const { name, sessions, connections } of followers) t.ok(connections <= sessions, name)
})

void t.test('the list names everyone, and who is left out where', async (t) => {
  const text = listOf(all)
  for (const { name } of [...CONTENDERS, ...SCENARIOS]) t.match(text, name)
  t.match(text, /mgcrea +login: has no regenerate\(\)/)
})
