import Fastify from 'fastify'
import fc, { type Arbitrary } from 'fast-check'
import t from 'tap'
import sessions, { MemoryStore, SessionOptionError, type SessionOptions } from '../../plugin/index.js'
import { addRoutes, SECRET } from '../fixtures/app.js'
import { ENTRIES } from '../options/fixtures/docs.js'
import { check } from './fixtures/check.js'

/** The path of an option, such as `['cookie', 'sameSite']`. */
type Path = readonly [string, string?]

const KNOWN = ENTRIES.map(({ path }) => path.split('.') as unknown as Path)
const unknownName = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty', '', '/', '~1', 'Secret', 'maxage')
)
/** Returns whether the option is handled by Fastify itself and not by this plugin. */
const isFastifyOption = (name: string): boolean => ['prefix', 'logLevel', 'logSerializers'].includes(name)
const path: Arbitrary<Path> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...KNOWN) },
  { weight: 1, arbitrary: unknownName.filter((name) => !isFastifyOption(name)).map((name): Path => [name]) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('cookie', 'csrf'), unknownName) }
)

const noop = (): void => undefined
const value = fc.oneof(
  fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true
  }),
  fc.anything({ withObjectString: true, withSet: true, withSparseArray: true, withTypedArray: true }),
  fc.constantFrom<unknown>(
    noop,
    Map,
    Symbol('x'),
    Symbol.iterator,
    new Proxy({}, {}),
    Promise.resolve(),
    /x/,
    new URL('http://a.test')
  ),
  fc.constantFrom<unknown>(
    0,
    -0,
    1,
    16,
    64,
    65,
    0.5,
    1e-9,
    34_560_000,
    34_560_001,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 53,
    Infinity,
    NaN,
    -1
  ),
  fc.constantFrom<unknown>(
    'none',
    'lax',
    'auto',
    true,
    false,
    'all',
    'routes',
    'fail',
    'anonymous',
    'reject',
    '/',
    '/a',
    '/a;b',
    '.a.test',
    'a.test',
    '1h'
  ),
  fc.constantFrom<unknown>(
    '__Host-a',
    '__Secure-a',
    '__host-',
    'a=b',
    '$a',
    'x-token',
    'https://a.test',
    ['https://a.test'],
    ['null'],
    [' https://a.test']
  ),
  fc.constantFrom<unknown>(SECRET, [SECRET], [SECRET, SECRET], [], Buffer.alloc(31), Buffer.alloc(32), [
    Buffer.alloc(64)
  ]),
  fc.constantFrom<unknown>(
    { get: noop },
    { type: 'object', properties: {} },
    { properties: { name: { type: 'string' } } },
    { properties: { name: 1 } }
  ),
  fc.constant(undefined).map(() => new MemoryStore())
)

function optionsOf(given: readonly (readonly [Path, unknown])[]): Record<string, unknown> {
  const options = Object.create(null) as Record<string, unknown>
  options['secret'] = SECRET
  for (const [[name, key], value] of given) {
    if (key === undefined) options[name] = value
    else
      options[name] = Object.fromEntries([...Object.entries(Object(options[name]) as object), [key, value]])
  }
  // Turns every option into an own property of the object, even an option named `__proto__`.
  return Object.fromEntries(Object.entries(options))
}

/** Returns whether the error names one of the given options. */
function isNamed(error: unknown, options: object): boolean {
  if (!(error instanceof SessionOptionError)) return false
  const { option, message, code } = error
  const isGiven = Object.keys(options).some(
    (name) => option === name || option.startsWith(`${name}.`) || option.startsWith(`${name}[`)
  )
  return isGiven && code === 'SESSION_OPTION_INVALID' && message.includes(`option "${option}"`)
}

/** Registers the plugin and sends two requests. Throws unless the second one reads the data that the first one set. */
async function requireValid(options: SessionOptions): Promise<void> {
  const app = Fastify()
  try {
    await app.register(sessions, options)
    addRoutes(app)
    const first = await app.inject('/set?name=ada')
    const cookie = String(first.headers['set-cookie']).split(';', 1)[0] as string
    const { body } = await app.inject({ url: '/read', headers: { cookie } })
    const isShortLived = [options.maxAge, options.idleTimeout].some(
      (seconds) => seconds !== undefined && seconds < 60
    )
    if (body !== '{"name":"ada"}' && !isShortLived)
      throw new Error(`the session was lost after the first request: ${first.body}, ${body}`)
  } finally {
    await app.close()
  }
}

async function requireValidOrNamed(given: readonly (readonly [Path, unknown])[]): Promise<void> {
  const options = optionsOf(given)
  await requireValid(options as unknown as SessionOptions).catch((error: unknown) => {
    if (!isNamed(error, options)) throw error
  })
}

void t.test('any value of an option either works or causes an error that names the option', async (t) => {
  const property = fc.asyncProperty(path, value, async (path, value) => requireValidOrNamed([[path, value]]))
  await check(t, property, { runs: 300, what: 'options tried' })
})

void t.test(
  'any combination of options either works or causes an error that names one of them',
  async (t) => {
    const several = fc.array(fc.tuple(path, value), { minLength: 2, maxLength: 5 })
    await check(t, fc.asyncProperty(several, requireValidOrNamed), { runs: 100, what: 'options tried' })
  }
)
