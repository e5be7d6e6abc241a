import t from 'tap'
import { parseArguments, USAGE } from '../../benchmarks/arguments.js'
import { UsageError } from '../../benchmarks/usage-error.js'

const KNOWN = {
  contenders: [{ name: 'bare' }, { name: 'ours' }],
  scenarios: [{ name: 'read' }, { name: 'change' }]
}
const parse = (...args) => parseArguments(args, KNOWN)

void t.test('without arguments, measures everything including scale', async (t) => {
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

void t.test('--quick measures for less time, skips scale and is not a full run', async (t) => {
  t.match(parse('--quick'), { quick: true, isFullRun: false, withScale: false, seconds: 0.2 })
  t.match(parse('--quick', '--seconds', '2'), { seconds: 2 })
})

void t.test('--only accepts contenders and scenarios, separated by commas or repeated', async (t) => {
  const { contenders, scenarios, isFullRun, withScale } = parse('--only', 'ours, read', '--only', 'change')
  t.same(contenders, [{ name: 'ours' }])
  t.same(scenarios, KNOWN.scenarios)
  t.notOk(isFullRun)
  t.notOk(withScale)
})

void t.test('--only scale measures no scenarios except those that are also named', async (t) => {
  t.match(parse('--only', 'scale'), { scenarios: [], withScale: true })
  t.match(parse('--only', 'scale,read'), { scenarios: [{ name: 'read' }], withScale: true })
})

void t.test('parses the other options and names every option in the usage', async (t) => {
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

void t.test('reports a wrong argument in one line that names it', async (t) => {
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
