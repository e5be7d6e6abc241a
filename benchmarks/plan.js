/** The contenders that `--quick` measures: the reference, and the only contender whose CPU time has a limit. */
const QUICK_CONTENDERS = ['bare', 'sesame-memory']

/**
 * Returns the plan of a run. `matches` holds one `{ scenario, contenders, skipped }` for each scenario. The reference
 * is always the first contender. `engines` names the database servers that the run needs.
 */
export function planOf({ quick, contenders, scenarios, withScale }, { all, bounded }) {
  const isQuick = quick && contenders === undefined
  const wanted =
    contenders ?? all.contenders.filter(({ name }) => !isQuick || QUICK_CONTENDERS.includes(name))
  const [reference] = all.contenders
  const chosen = scenarios ?? all.scenarios.filter(({ name }) => !quick || bounded.includes(name))
  const matches = chosen.map((scenario) => {
    const others = wanted.filter(({ name }) => name !== reference.name)
    return {
      scenario,
      contenders: [reference, ...others.filter(({ skip }) => skip[scenario.name] === undefined)],
      skipped: others.flatMap(({ title, skip }) =>
        skip[scenario.name] === undefined ? [] : [{ title, reason: skip[scenario.name] }]
      )
    }
  })
  const engines = matches.flatMap((match) => match.contenders.flatMap(({ engine }) => engine ?? []))
  if (withScale) engines.push('redis')
  return { matches, engines: [...new Set(engines)] }
}

/** Moves each contender whose database server is missing to `skipped`, with the reason. */
export function skipMissingEngines(matches, missing) {
  return matches.map(({ scenario, contenders, skipped }) => ({
    scenario,
    contenders: contenders.filter(({ engine }) => missing[engine] === undefined),
    skipped: [
      ...skipped,
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
  const skippedLines = ({ name, skip }) =>
    Object.entries(skip).map(([scenario, reason]) => `  ${name.padEnd(width)}  ${scenario}: ${reason}`)
  return [
    'Contenders',
    ...contenders.map(line),
    '\nScenarios',
    ...scenarios.map(line),
    '\nSkipped',
    ...contenders.flatMap(skippedLines)
  ].join('\n')
}
