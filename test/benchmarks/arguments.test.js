import t from 'tap'
import { parseArguments, USAGE } from '../../benchmarks/arguments.js'
import { UsageError } from '../../benchmarks/usage-error.js'

const KNOWN = {
  contenders: [{ name: 'bare' }, { name: 'ours' }],
  scenarios: [{ name: 'read' }, { name: 'change' }]
}
const parse = (...args) => parseArguments(args, KNOWN)

void t.test('without arguments, the benchmarks measure everything, including the scale tests', async (t) => {
  t.match(parse(), {
    quick: false,
    isFullRun: true,
    withScale: true,
    rounds: 5,
    seconds: 0.5,
    port: 0,
    pin: true
  })
  t.equal(parse().contenders, undefined)
  t.equal(parse().scenarios, undefined)
})

void t.test('a --quick run is shorter, skips the scale tests and does not count as a full run', async (t) => {
  t.match(parse('--quick'), { quick: true, isFullRun: false, withScale: false, seconds: 0.2 })
  t.match(parse('--quick', '--seconds', '2'), { seconds: 2 })
})

void t.test('--only accepts several names separated by commas, and can be repeated', async (t) => {
  const { contenders, scenarios, isFullRun, withScale } = parse('--only', 'ours, read', '--only', 'change')
  t.same(contenders, [{ name: 'ours' }])
  t.same(scenarios, KNOWN.scenarios)
  t.notOk(isFullRun)
  t.notOk(withScale)
})

void t.test('with --only scale, a scenario is measured only if it is also named', async (t) => {
  t.match(parse('--only', 'scale'), { scenarios: [], withScale: true })
  t.match(parse('--only', 'scale,read'), { scenarios: [{ name: 'read' }], withScale: true })
})

void t.test('options such as --port are parsed, and the usage text names every option', async (t) => {
  const given = parse(
    '--rounds',
    '3',
    '--port',
    '8000',
    '--no-pin',
    '--cpu-prof',
    'profiles',
    '--list',
    '--help'
  )
  t.match(given, { rounds: 3, port: 8000, pin: false, profileTo: 'profiles', list: true, help: true })
  for (const option of ['quick', 'only', 'list', 'rounds', 'seconds', 'port', 'no-pin', 'cpu-prof', 'help']) {
    t.match(USAGE, `--${option}`, `the usage names --${option}`)
  }
})

void t.test('an invalid argument causes a one-line error message that names the argument', async (t) => {
  const cases = [
    [['--only', 'nobody'], /"nobody".*--list/],
    [['--rounds', '0'], /--rounds is "0", but must be a whole number from 1 to 1000/],
    [['--rounds', '1.5'], /--rounds/],
    [['--port', '65536'], /--port is "65536", but must be/],
    [['--seconds', '0'], /--seconds is "0", but must be a number above 0/],
    [['--seconds', 'soon'], /--seconds/],
    [['--unknown'], /--unknown/],
    [['positional'], /positional/]
  ]
  for (const [args, message] of cases) {
    const error = t.throws(() => parse(...args), { message })
    t.ok(error instanceof UsageError, args.join(' '))
    t.notMatch(error.message, '\n')
  }
})
