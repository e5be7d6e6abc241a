import { median } from './statistics.js'

const FIGURES = ['rps', 'p50', 'p99', 'cpu', 'rss']

/**
 * A line a contender: medians over the rounds, and under `ratio` the medians of the ratios to the reference of the same
 * round. `leastCpu`: the least CPU time of the rounds as a ratio to the reference's least. `lost`: updates lost a
 * thousand requests, where they were counted.
 * `entries`: as `runScenario` returns them, the reference first. One with a `problem` has no figures.
 */
export function summarize(entries) {
  const reference = new Map(entries[0].samples.map((sample) => [sample.round, sample]))
  return entries.map(({ contender, samples, problem }) => {
    const line = { contender: contender.name, title: contender.title }
    if (problem !== undefined) return { ...line, problem }
    const ratio = ratiosOf(samples, reference)
    const leastCpu = leastOf(samples) / leastOf(entries[0].samples)
    return { ...line, ...figuresOf(samples), ratio, leastCpu, ...lossesOf(samples) }
  })
}

function figuresOf(samples) {
  const each = (figure) => [figure, median(samples.map((sample) => sample[figure]))]
  return { rounds: samples.length, requests: samples[0].requests, ...Object.fromEntries(FIGURES.map(each)) }
}

function ratiosOf(samples, reference) {
  const pairs = samples
    .map((own) => [own, reference.get(own.round)])
    .filter(([, other]) => other !== undefined)
  const each = (figure) => [figure, median(pairs.map(([own, other]) => own[figure] / other[figure]))]
  return Object.fromEntries(FIGURES.map(each))
}

function leastOf(samples) {
  return Math.min(...samples.map(({ cpu }) => cpu))
}

function lossesOf(samples) {
  if (samples[0].lost === undefined) return {}
  return { lost: median(samples.map(({ lost, requests }) => (1000 * lost) / requests)) }
}
