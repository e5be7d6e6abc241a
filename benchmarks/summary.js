import { median } from './statistics.js'

const FIGURES = ['rps', 'p50', 'p99', 'cpu', 'rss']

/**
 * Returns one line of results for each contender, with the median of each figure over all rounds. `entries` come from
 * `runScenario`. The first entry is the reference, to which the others are compared. For an entry with a `problem`, the
 * line has no figures. Every other line also has:
 * - `ratio`: for each figure, the median of the ratios between the contender and the reference in the same round.
 * - `leastCpu`: the contender's lowest CPU time in any round, divided by the reference's lowest CPU time.
 * - `lost`: the number of lost updates per thousand requests, if the scenario counts lost updates.
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
