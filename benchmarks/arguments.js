import { parseArgs } from 'node:util'
import { UsageError } from './usage-error.js'

/** The value of `--only` that selects the measurements in scale.js. */
const SCALE = 'scale'

export const USAGE = `npm run bench -- [options]

  --quick          checks the bounds, as CI does, with few contenders and short windows; writes no results
  --only NAMES     measures only these contenders, scenarios or "scale", separated by commas. Bare Fastify always runs
  --list           prints the contenders, the scenarios and the skipped combinations
  --rounds N       number of rounds (default 5; 3 with --quick)
  --seconds N      CPU seconds of the server in each timed window (default 0.5; 0.2 with --quick)
  --port N         the port of the servers (default: the system chooses one)
  --no-pin         does not pin the server and the load generator to separate cores
  --cpu-prof DIR   writes a CPU profile of each contender's last timed window to DIR/<contender>.<scenario>.cpuprofile
  --help           prints this text`

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
 * Parses the command line.
 * @throws {UsageError} if an option is invalid. The message names the option.
 */
export function parseArguments(args, { contenders, scenarios }) {
  const given = read(args)
  const names = given.only.flatMap((list) => list.split(',')).map((name) => name.trim())
  for (const name of names) requireName(name, [...contenders, ...scenarios, { name: SCALE }])
  const { quick } = given
  const isFullRun = !quick && names.length === 0
  return {
    quick,
    list: given.list,
    help: given.help,
    contenders: chosen(contenders, names),
    scenarios: names.length > 0 && names.every((name) => name === SCALE) ? [] : chosen(scenarios, names),
    withScale: names.includes(SCALE) || isFullRun,
    isFullRun,
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

/** Returns the entries of `all` whose names are in `names`, or `undefined` if there are no such entries. */
function chosen(all, names) {
  const named = all.filter(({ name }) => names.includes(name))
  return named.length === 0 ? undefined : named
}

function requireName(name, all) {
  if (all.some((entry) => entry.name === name)) return
  throw new UsageError(`no contender or scenario is named "${name}"; --list prints all names`)
}

function wholeNumber(option, text, least, most) {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && number <= most) return number
  throw new UsageError(`--${option} is "${text}", but must be a whole number from ${least} to ${most}`)
}

function positive(option, text) {
  const number = Number(text)
  if (Number.isFinite(number) && number > 0) return number
  throw new UsageError(`--${option} is "${text}", but must be a number above 0`)
}
