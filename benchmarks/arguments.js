import { parseArgs } from 'node:util'
import { UsageError } from './usage-error.js'

/** Beside the scenarios' names: what scale.js measures. */
const SCALE = 'scale'

export const USAGE = `npm run bench -- [options]

  --quick          the CI form: few contenders, short windows, and a check of the bounds; keeps no results
  --only NAME      a contender, a scenario or "scale", or several with commas; may be repeated. Bare Fastify always runs
  --list           the contenders and scenarios, and who is left out where
  --rounds N       how many rounds (5; 3 in the quick form)
  --seconds N      CPU seconds of the server in a timed window (0.5; 0.2 in the quick form)
  --port N         the servers' port; without it the system chooses
  --no-pin         do not bind the server and the load to cores of their own
  --cpu-prof DIR   a CPU profile of each contender's last timed window, as DIR/<contender>.<scenario>.cpuprofile
  --help`

const OPTIONS = {
  quick: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true, default: [] },
  list: { type: 'boolean', default: false },
  rounds: { type: 'string' },
  seconds: { type: 'string' },
  port: { type: 'string', default: '0' },
  'no-pin': { type: 'boolean', default: false },
  'cpu-prof': { type: 'string' },
  help: { type: 'boolean', default: false }
}

/**
 * What the command line asks for.
 * @throws {UsageError} naming the option that is wrong.
 */
export function parseArguments(args, { contenders, scenarios }) {
  const given = read(args)
  const names = given.only.flatMap((list) => list.split(',')).map((name) => name.trim())
  for (const name of names) requireName(name, [...contenders, ...scenarios, { name: SCALE }])
  const { quick } = given
  const isWhole = !quick && names.length === 0
  return {
    quick,
    list: given.list,
    help: given.help,
    contenders: chosen(contenders, names),
    scenarios: names.length > 0 && names.every((name) => name === SCALE) ? [] : chosen(scenarios, names),
    withScale: names.includes(SCALE) || isWhole,
    isWhole,
    rounds: wholeNumber('rounds', given.rounds ?? (quick ? '3' : '5'), 1, 1000),
    seconds: positive('seconds', given.seconds ?? (quick ? '0.2' : '0.5')),
    port: wholeNumber('port', given.port, 0, 65_535),
    pin: !given['no-pin'],
    profileTo: given['cpu-prof']
  }
}

function read(args) {
  try {
    return parseArgs({ args, options: OPTIONS, strict: true, allowPositionals: false }).values
  } catch (error) {
    throw new UsageError(error.message.split('\n', 1)[0])
  }
}

/** Those that were named; all of them when none of their kind was. */
function chosen(all, names) {
  const named = all.filter(({ name }) => names.includes(name))
  return named.length === 0 ? undefined : named
}

function requireName(name, all) {
  if (all.some((one) => one.name === name)) return
  throw new UsageError(`no contender or scenario is named "${name}": --list shows them all`)
}

function wholeNumber(option, text, least, most) {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && number <= most) return number
  throw new UsageError(`--${option} must be a whole number from ${least} to ${most}, and is "${text}"`)
}

function positive(option, text) {
  const number = Number(text)
  if (Number.isFinite(number) && number > 0) return number
  throw new UsageError(`--${option} must be a number above 0, and is "${text}"`)
}
