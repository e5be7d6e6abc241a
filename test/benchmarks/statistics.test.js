import t from 'tap'
import { median, percentile } from '../../benchmarks/statistics.js'
import { summarize } from '../../benchmarks/summary.js'

void t.test('the median is the middle value, or the mean of the two middle values', async (t) => {
  t.equal(median([3, 1, 20]), 3)
  t.equal(median([4, 1, 2, 100]), 3)
  t.equal(median([7]), 7)
  t.ok(Number.isNaN(median([])))
})

void t.test('median() does not reorder its argument', async (t) => {
  const values = [3, 1, 2]
  median(values)
  t.same(values, [3, 1, 2])
})

void t.test(
  'a percentile is always one of the given values, chosen by the nearest-rank method',
  async (t) => {
    const values = Float64Array.from({ length: 200 }, (_, index) => 200 - index)
    t.equal(percentile(values, 50), 100)
    t.equal(percentile(values, 99), 198)
    t.equal(percentile(values, 100), 200)
    t.equal(percentile(values, 0), 1)
    t.ok(Number.isNaN(percentile(new Float64Array(0), 50)))
  }
)

const sample = (round, cpu, more = {}) => ({
  round,
  requests: 1000,
  rps: 1e6 / cpu,
  p50: 1,
  p99: 2,
  cpu,
  rss: 5,
  ...more
})
const bare = {
  contender: { name: 'bare', title: 'Bare' },
  samples: [sample(0, 10), sample(1, 20), sample(2, 10)]
}

void t.test('a ratio is the median of the ratios of all rounds, not the ratio of the medians', async (t) => {
  const samples = [sample(0, 20), sample(1, 20), sample(2, 16)]
  const [, line] = summarize([bare, { contender: { name: 'ours', title: 'Ours' }, samples }])
  t.match(line, {
    contender: 'ours',
    title: 'Ours',
    rounds: 3,
    requests: 1000,
    cpu: 20,
    ratio: { cpu: 1.6, p50: 1 },
    leastCpu: 1.6
  })
  t.notOk('lost' in line)
})

void t.test('ratios ignore the rounds that the reference contender did not finish', async (t) => {
  const [, line] = summarize([
    { ...bare, samples: [sample(0, 10)] },
    { contender: { name: 'ours', title: 'Ours' }, samples: [sample(0, 30), sample(1, 50)] }
  ])
  t.equal(line.ratio.cpu, 3)
})

void t.test('the summary of a contender gives the lost updates per thousand requests', async (t) => {
  const samples = [sample(0, 10, { lost: 500 }), sample(1, 10, { lost: 0 }), sample(2, 10, { lost: 250 })]
  t.equal(summarize([{ ...bare, samples }])[0].lost, 250)
})

void t.test(
  'the summary of a failed contender gives the reason for the failure and no figures',
  async (t) => {
    const [, line] = summarize([
      bare,
      { contender: { name: 'ours', title: 'Ours' }, samples: [], problem: 'crashed' }
    ])
    t.same(line, { contender: 'ours', title: 'Ours', problem: 'crashed' })
  }
)
