/** The contenders of the quick form: the reference, and the one that has bounds relative to it. */
const QUICK_CONTENDERS = ['bare', 'sesame-memory']

/**
 * Returns the plan of a run. `meetings` has one `{ scenario, contenders, leftOut }` per scenario, with the reference first
 * among the contenders. `engines` names the engines that the run needs.
 */
export function planOf({ quick, contenders, scenarios, withScale }, { all, bounded }) {
  const isQuick = quick && contenders === undefined
  const wanted =
    contenders ?? all.contenders.filter(({ name }) => !isQuick || QUICK_CONTENDERS.includes(name))
  const [reference] = all.contenders
  const asked = scenarios ?? all.scenarios.filter(({ name }) => !quick || bounded.includes(name))
  const meetings = asked.map((scenario) => {
    const others = wanted.filter(({ name }) => name !== reference.name)
    return {
      scenario,
      contenders: [reference, ...others.filter(({ skip }) => skip[scenario.name] === undefined)],
      leftOut: others.flatMap(({ title, skip }) =>
        skip[scenario.name] === undefined ? [] : [{ title, reason: skip[scenario.name] }]
      )
    }
  })
  const engines = meetings.flatMap((meeting) => meeting.contenders.flatMap(({ engine }) => engine ?? []))
  if (withScale) engines.push('redis')
  return { meetings, engines: [...new Set(engines)] }
}

/** Removes the contenders whose engine is missing, and adds them to `leftOut` with the reason. */
export function without(meetings, missing) {
  return meetings.map(({ scenario, contenders, leftOut }) => ({
    scenario,
    contenders: contenders.filter(({ engine }) => missing[engine] === undefined),
    leftOut: [
      ...leftOut,
      ...contenders.flatMap(({ title, engine }) =>
        missing[engine] === undefined ? [] : [{ title, reason: `no ${engine}: ${missing[engine]}` }]
      )
    ]
  }))
}

/** Returns the text that `--list` prints. */
export function listOf({ contenders, scenarios }) {
  const width = Math.max(...[...contenders, ...scenarios].map(({ name }) => name.length))
  const line = ({ name, title }) => `  ${name.padEnd(width)}  ${title}`
  const skipped = ({ name, skip }) =>
    Object.entries(skip).map(([scenario, reason]) => `  ${name.padEnd(width)}  ${scenario}: ${reason}`)
  return [
    'Contenders',
    ...contenders.map(line),
    '\nScenarios',
    ...scenarios.map(line),
    '\nSkipped',
    ...contenders.flatMap(skipped)
  ].join('\n')
}
