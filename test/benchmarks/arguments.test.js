import t from 'tap'
import { parseArguments, USAGE } from '../../benchmarks/arguments.js'
import { UsageError } from '../../benchmarks/usage-error.js'

const KNOWN = {
  contenders: [{ name: 'bare' }, { name: 'ours' }],
  scenarios: [{ name: 'read' }, { name: 'change' }]
}
const parse = (...args) => parseArguments(args, KNOWN)

void t.test('without arguments everything is measured, scale too', async (t) => {
  t.match(parse(), {
    quick: false,
    isWhole: true,
    withScale: true,
    rounds: 5,
    seconds: 0.5,
    port: 0,
    pin: true
  })
  t.equal(parse().contenders, undefined)
  t.equal(parse().scenarios, undefined)
})

void t.test('the quick form has shorter windows, no scale, and is not whole', async (t) => {
  t.match(parse('--quick'), { quick: true, isWhole: false, withScale: false, seconds: 0.2 })
  t.match(parse('--quick', '--seconds', '2'), { seconds: 2 })
})

void t.test('--only takes names of both kinds, with commas and repeated', async (t) => {
  const { contenders, scenarios, isWhole, withScale } = parse('--only', 'ours, read', '--only', 'change')
  t.same(contenders, [{ name: 'ours' }])
  t.same(scenarios, KNOWN.scenarios)
  t.notOk(isWhole)
  t.notOk(withScale)
})

void t.test('--only scale measures no scenario, unless one is named too', async (t) => {
  t.match(parse('--only', 'scale'), { scenarios: [], withScale: true })
  t.match(parse('--only', 'scale,read'), { scenarios: [{ name: 'read' }], withScale: true })
})

void t.test('the other options', async (t) => {
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

void t.test('what is wrong is said in one line', async (t) => {
  const cases = [
    [['--only', 'nobody'], /"nobody".*--list/],
    [['--rounds', '0'], /--rounds must be a whole number from 1 to 1000, and is "0"/],
    [['--rounds', '1.5'], /--rounds/],
    [['--port', '65536'], /--port must be/],
    [['--seconds', '0'], /--seconds must be a number above 0/],
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
