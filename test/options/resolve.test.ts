import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { mock } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import Type from 'typebox'
import sessions, { MemoryStore, SessionOptionError, type SessionOptions } from '../../plugin/index.js'
import { ALTERNATIVES } from '../../plugin/options/alternatives.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { OPTIONS } from '../../plugin/options/table.js'
import { createTokens } from '../../plugin/cookies/tokens.js'
import { contextOf, addRoutes, Browser, makeApp, SECRET, setCookieOf } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { failingStore, spyStore, wrap } from '../fixtures/stores.js'
import { ENTRIES, PATHS, withDocComments } from './fixtures/docs.js'

/** Registers the plugin with options that TypeScript would refuse, and returns the error. */
async function refusalOf(t: Test, given: object): Promise<SessionOptionError> {
  const app = Fastify()
  t.teardown(() => app.close())
  const outcome: unknown = await app.register(sessions, given as SessionOptions).then(
    () => 'no error',
    (error: unknown) => error
  )
  if (outcome instanceof SessionOptionError) return outcome
  throw new Error(`expected ${inspect(given)} to be refused, got ${inspect(outcome)}`)
}

const NON_NUMBERS = [NaN, Infinity, -Infinity, -1, null, '1h30m', '60', true, {}, [60], 60n, new Date(0)]
const NON_STRINGS = [5, null, true, {}, ['x']]
const NON_OBJECTS = [null, true, 'x', 5, []]

/** Maps each option to a pattern for the expected error message, followed by invalid values. */
const WRONG: Record<string, [want: RegExp, ...values: unknown[]]> = {
  cookieName: [/a cookie name/, ...NON_STRINGS, '', 'a b', 'a=b', 'a;b', 'a\n', 'a"', 'é', '(x)'],
  maxAge: [/a number of seconds above 0, at most 34560000/, ...NON_NUMBERS, 0, 34_560_001],
  idleTimeout: [/a number of seconds above 0, at most 34560000/, ...NON_NUMBERS, 0, 34_560_001],
  idLength: [/a whole number from 16 to 64/, ...NON_NUMBERS, 0, 15, 65, 31.5],
  cleanupInterval: [/a number of seconds from 0 to 2147483/, ...NON_NUMBERS, 2_147_484],
  storeTimeout: [/a number of milliseconds above 0/, ...NON_NUMBERS, 0, 2 ** 31],
  migrateFrom: [
    /lacks get, create, update, destroy|is an empty list; leave the option out/,
    ...NON_OBJECTS,
    {}
  ],
  maxSessionsPerUser: [/a whole number above 0/, ...NON_NUMBERS, 0, 1.5],
  maxSize: [/a whole number of bytes above 0/, ...NON_NUMBERS, 0, 1.5],
  onLimit: [/one of 'end-oldest', 'reject'/, ...NON_STRINGS, 'ignore', ''],
  userKey: [/a key that does not begin with "\$"/, ...NON_STRINGS, '$csrf'],
  properties: [/true or false/, 'true', 1, null],
  onStoreError: [/one of 'fail', 'anonymous'/, ...NON_STRINGS, 'ignore', ''],
  schema: [/a TypeBox object/, ...NON_OBJECTS, {}, { properties: null }, { properties: { name: 5 } }],
  store: [/lacks get, create, update, destroy/, ...NON_OBJECTS, {}],
  cookie: [/an object of cookie attributes/, ...NON_OBJECTS],
  'cookie.path': [/a path/, ...NON_STRINGS, '', 'x', '/;Domain=x', '/<', '/\n', '/é', `/${'x'.repeat(1024)}`],
  'cookie.domain': [
    /a host name, such as "example.com", or a function/,
    ...[
      ...NON_STRINGS,
      '',
      'a..test',
      'a.test.',
      'a.test:80',
      'https://a.test',
      'a.test\n',
      '-a.test',
      'a-.test'
    ],
    ...['a_b.test', `${'a'.repeat(64)}.test`, 'a.'.repeat(127)]
  ],
  'cookie.secure': [/one of true, false, 'auto'/, 'yes', 1, null, 'true'],
  'cookie.httpOnly': [/true or false/, 'true', 1, null],
  'cookie.sameSite': [/one of 'strict', 'lax', 'none'/, 'Lax', true, false, null, ''],
  'cookie.partitioned': [/true or false/, 'true', 1, null],
  'cookie.persistent': [/true or false/, 'true', 1, null],
  clearSiteData: [/true or false/, 'true', 1, null, '"cache"'],
  csrf: [/an object of CSRF options/, ...NON_OBJECTS],
  'csrf.protect': [/one of 'origin', 'all', 'routes'/, true, 'none', null],
  'csrf.header': [/a header name/, ...NON_STRINGS, '', 'x y', 'x:y', 'é'],
  'csrf.field': [/the name of a body field/, ...NON_STRINGS, ''],
  'csrf.trustedOrigins': [/a list of origins/, 'https://a.test', null, [5], {}],
  'csrf.token': [/true or false/, 'false', 0, null],
  'csrf.decorate': [/true or false/, 'false', 0, null]
}

for (const [option, [want, ...values]] of Object.entries(WRONG)) {
  void t.test(`an invalid ${option} is refused, and the error names the valid values`, async (t) => {
    for (const value of values) {
      const error = await refusalOf(t, { secret: SECRET, ...nested(option, value) })
      const got = inspect(value, { depth: 0 })
      t.match(error, { option, code: 'SESSION_OPTION_INVALID', message: want }, got)
      if (!/^(store|migrateFrom)$/.test(option))
        t.ok(error.message.includes(`"${option}" is ${got},`), error.message)
    }
  })
}

function nested(path: string, value: unknown): object {
  const [outer, inner] = path.split('.') as [string, string?]
  return { [outer]: inner === undefined ? value : { [inner]: value } }
}

void t.test('the error for an invalid secret names its length or type, but not its value', async (t) => {
  const short = 'sweet-but-not-long-enough'
  const hidden = { toString: () => short }
  const wrong: [given: unknown, option: string, message: RegExp][] = [
    [undefined, 'secret', /is missing/],
    [null, 'secret', /is null/],
    ['', 'secret', /has 0 bytes/],
    [short, 'secret', /has 25 bytes, but must have at least 32/],
    [Buffer.from(short), 'secret', /has 25 bytes/],
    [[SECRET, short], 'secret[1]', /has 25 bytes/],
    [[[SECRET]], 'secret[0]', /is of type object/],
    [new Array(1).concat(SECRET), 'secret[0]', /is missing/],
    [[], 'secret', /is an empty list/],
    [12345, 'secret', /is of type number/],
    [hidden, 'secret', /is of type object/],
    [new Uint16Array(64), 'secret', /is of type object/]
  ]
  for (const [secret, option, message] of wrong) {
    const error = await refusalOf(t, { secret })
    t.match(error, { option, message })
    t.notMatch(inspect(error, { showHidden: true }), short)
  }
  t.match(await refusalOf(t, {}), { option: 'secret', message: /is missing/ })
})

void t.test('a secret of 31 characters is accepted only if it has at least 32 bytes', async (t) => {
  await t.resolves(makeApp(t, { secret: `é${'x'.repeat(30)}` }))
  await t.resolves(makeApp(t, { secret: new Uint8Array(32) }))
  t.match(await refusalOf(t, { secret: 'x'.repeat(31) }), { option: 'secret' })
})

void t.test('the error for an unknown option names it and lists the known options', async (t) => {
  const unknown: [given: object, option: string, known: RegExp][] = [
    [{ savedUninitialized: true }, 'savedUninitialized', /are secret, cookieName, maxAge/],
    [{ constructor: 1 }, 'constructor', /are secret/],
    [{ 'a/b~c': 1 }, 'a/b~c', /are secret/],
    [{ cookie: { maxage: 60 } }, 'cookie.maxage', /are path, domain, secure/],
    [{ csrf: { key: 'x' } }, 'csrf.key', /are protect/],
    [{ cookie: JSON.parse('{"__proto__":{"secure":false}}') as object }, 'cookie.__proto__', /are path/],
    [{ csrf: { origins: [] } }, 'csrf.origins', /are protect, header, field/]
  ]
  for (const [given, option, message] of unknown) {
    const error = await refusalOf(t, { secret: SECRET, ...given })
    t.match(error, { option, message })
    t.notMatch(error.message, SECRET)
  }
})

void t.test('the error for an option of another library says what to use here', async (t) => {
  const unknown: [given: object, option: string, instead: RegExp][] = [
    [
      { prefix: '/app' },
      'prefix',
      /has no effect, because this plugin has no routes.*RedisStore\(\{ client, prefix \}\)/
    ],
    [{ sessionName: 'session' }, 'sessionName', /use `cookieName`.*`request\.session`/],
    [
      { key: Buffer.alloc(32) },
      'key',
      /use `cookieName` for the name of the cookie, and `secret` for the key/
    ],
    [{ secrets: [SECRET] }, 'secrets', /use `secret`, which can be a list/],
    [{ salt: 'mq9hDxBVDbspDR6n' }, 'salt', /omit it, because `secret` alone/],
    [{ ttl: 60 }, 'ttl', /use `maxAge`, which is in seconds/],
    [{ expiry: 60 }, 'expiry', /use `maxAge`, which is in seconds/],
    [{ rolling: true }, 'rolling', /use `idleTimeout`/],
    [{ saveUninitialized: false }, 'saveUninitialized', /omit it, because a new session is stored only if/],
    [{ resave: false }, 'resave', /omit it, because a session is written only if/],
    [{ secure: true }, 'secure', /is an attribute of the cookie; write it into the option `cookie`/],
    [
      { cookie: { maxAge: 3_600_000 } },
      'cookie.maxAge',
      /use the option `maxAge` beside `cookie`, which is in seconds/
    ],
    [{ cookie: { expires: new Date() } }, 'cookie.expires', /use the option `maxAge` beside `cookie`/],
    [{ cookie: { signed: true } }, 'cookie.signed', /omit it, because the cookie is always signed/]
  ]
  for (const [given, option, message] of unknown) {
    const error = await refusalOf(t, { secret: SECRET, ...given })
    t.match(error, { option, message })
    t.notMatch(error.message, SECRET)
  }
})

void t.test('no option has the name of an option of another library that the errors explain', async (t) => {
  for (const name of Object.keys(ALTERNATIVES))
    t.notOk(
      ENTRIES.some(({ path }) => path === name),
      name
    )
})

void t.test('options that contradict each other are refused', async (t) => {
  const wrong: [option: string, given: Partial<SessionOptions>][] = [
    ['idleTimeout', { maxAge: 60, idleTimeout: 61 }],
    ['store', { maxSessionsPerUser: 1, store: { ...spyStore(), listByUser: undefined } as never }],
    ['cookieName', { cookieName: 'n'.repeat(4096 - 108 + 1) }],
    ['cookieName', { idLength: 64, cookieName: 'n'.repeat(4096 - 172 + 1) }],
    ['csrf.trustedOrigins', { csrf: { trustedOrigins: ['https://a.test', 'https://b.test/'] } }],
    // This array has an empty slot instead of an origin. `every()` would skip the slot, but the plugin must refuse it.
    ['csrf.trustedOrigins', { csrf: { trustedOrigins: new Array<string>(1) } }]
  ]
  for (const [option, given] of wrong) {
    t.match(await refusalOf(t, { secret: SECRET, ...given }), {
      option,
      message: / at most |an exact origin|lacks listByUser/
    })
  }
})

void t.test('options that Fastify itself adds are ignored', async (t) => {
  const own = { logLevel: 'warn', logSerializers: {} }
  const app = await makeApp(t, { ...own, prefix: undefined } as Partial<SessionOptions>)
  for (const name of Object.keys(own)) t.notOk(name in contextOf(app).options, name)
})

void t.test('an option that is set to undefined is treated as if it were missing', async (t) => {
  const names = Object.keys(OPTIONS).filter((name) => name !== 'secret')
  const nothing = Object.fromEntries(names.map((name) => [name, undefined]))
  const store = new MemoryStore()
  const given = { secret: SECRET, ...nothing, cookie: { path: undefined }, csrf: { header: undefined } }
  const plain = resolveOptions({ secret: SECRET }, () => store)
  for (const options of [given, { ...given, cookie: undefined, csrf: undefined }]) {
    const { problemOf, ...rest } = resolveOptions(options, () => store)
    t.same({ ...rest, problemOf: plain.problemOf }, plain)
    t.equal(problemOf('name', 'ada'), undefined)
  }
})

void t.test('the plugin neither changes nor keeps the option objects of the caller', async (t) => {
  const secret = Buffer.from(SECRET)
  const given = {
    secret: [secret],
    cookie: { sameSite: 'strict' as const },
    csrf: { trustedOrigins: ['https://a.test'] }
  }
  const before = inspect(given)
  const app = addRoutes(await makeApp(t, given))
  t.equal(inspect(given), before)
  secret.fill(0)
  given.cookie = { sameSite: 'lax' } as never
  given.csrf.trustedOrigins.push('https://evil.test')
  const response = await app.inject('/set?name=ada')
  t.match(setCookieOf(response), 'SameSite=Strict')
  const value = response.cookies[0]?.value as string
  t.ok(createTokens([Buffer.from(SECRET)], 32).verify(value))
  t.equal(contextOf(app).options.csrf.trustedOrigins.includes('https://evil.test'), false)
})

void t.test('the resolved options are frozen, and printing them shows no secret', async (t) => {
  const { options } = contextOf(await makeApp(t))
  for (const part of [options, options.cookie, options.csrf, options.secrets]) t.ok(Object.isFrozen(part))
  t.throws(() => ((options as { maxAge: number }).maxAge = 1), TypeError)
  const printed = inspect(options, { depth: Infinity, showHidden: true }) + JSON.stringify(options)
  t.notMatch(printed, SECRET)
  t.notMatch(printed, /Buffer|61 20 73/)
})

void t.test('the store receives times in whole milliseconds even for a fractional maxAge', async (t) => {
  stopClock(t)
  for (const maxAge of [8.200_123, 1.1, 1e-9]) {
    const store = spyStore()
    const app = addRoutes(await makeApp(t, { store, maxAge, cleanupInterval: 0 }))
    await app.inject('/set?name=ada')
    const [[, , record]] = store.take() as [[string, string, { expiresAt: number; createdAt: number }]]
    t.equal(record.expiresAt - record.createdAt, Math.max(1, Math.round(maxAge * 1000)))
  }
})

/** Registers the plugin with the given options, and returns what the option under test affects, such as a cookie. */
type Observe = (t: Test, options: Partial<SessionOptions>) => Promise<unknown>

const setCookie: Observe = async (t, options) => {
  stopClock(t)
  const app = addRoutes(await makeApp(t, options))
  return setCookieOf(await app.inject('/set?name=ada'))?.replace(/=[0-9a-f]+\.[^;]+/, '=*')
}

const token: Observe = async (t, options) => {
  const app = addRoutes(await makeApp(t, options))
  return (await app.inject('/set?name=ada')).cookies[0]?.value
}

/** Sends a request that creates a record in the store. Returns the lifetime and the user id of the record. */
const record: Observe = async (t, options) => {
  const { start } = stopClock(t)
  const store = spyStore()
  const app = addRoutes(await makeApp(t, { cleanupInterval: 0, ...options, store }))
  await app.inject('/set?name=ada&userId=1&account=2')
  const [call] = store.take() as [[string, string, { expiresAt: number; userId: string }]]
  return { life: call[2].expiresAt - start, userId: call[2].userId }
}

/**
 * Returns a function that sends a POST request and returns the status code of the response. `send` receives a valid
 * CSRF token and returns the headers, the payload or the URL to use instead of the defaults.
 */
function post(
  send: (token: string) => { headers?: Record<string, string>; payload?: object; url?: string }
): Observe {
  return async (t, options) => {
    const app = await makeApp(t, options)
    app.get('/form', async (_request, reply) => reply.generateCsrf())
    app.post('/guarded', { preHandler: app.csrfProtection }, async () => 'changed')
    app.post('/open', async () => 'changed')
    const browser = new Browser(app)
    const { body } = await browser.get('/form')
    const response = await browser.request({ method: 'POST', url: '/guarded', ...send(body) })
    return response.statusCode
  }
}

/**
 * Sends a request to an app whose store never responds. Returns the status code of the response, and the waiting time
 * in milliseconds.
 */
const timeToFailure: Observe = async (t, options) => {
  const store = wrap(new MemoryStore(), (method, _args, next) =>
    method === 'create' ? new Promise(() => undefined) : next()
  )
  const app = addRoutes(await makeApp(t, { ...options, store }))
  await app.ready()
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  let status = 0
  void app.inject('/set?name=ada').then(({ statusCode }) => (status = statusCode))
  for (let waited = 0; ; waited += 100) {
    for (let turn = 0; turn < 20; turn++) await nextTurn()
    if (status !== 0) return { status, waited }
    mock.timers.tick(100)
  }
}

const signInTwice: Observe = async (t, options) => {
  const clock = stopClock(t)
  const app = addRoutes(await makeApp(t, options))
  await app.inject('/login')
  clock.move(1)
  const { statusCode } = await app.inject('/login')
  return { status: statusCode, sessions: (await app.sessionManager.list('ada')).length }
}

const saveText: Observe = async (t, options) => {
  const app = addRoutes(await makeApp(t, options))
  return (await app.inject('/set?name=more+than+twenty+bytes')).statusCode
}

const assignProperty: Observe = async (t, options) => {
  const app = await makeApp(t, options)
  app.get('/', async ({ session }) => {
    Reflect.set(session, 'name', 'ada')
    return session.get('name')
  })
  const { statusCode, body } = await app.inject('/')
  return statusCode === 200 ? body : (JSON.parse(body) as { code: string }).code
}

const OLD_STORE = new MemoryStore()
const ATTRIBUTES = 'Path=/; HttpOnly; Secure; SameSite=Lax'
const NONE = { sameSite: 'none' } as const

/**
 * For each option, a function that observes the effect of the option, and the two results that the function must
 * return: `byDefault` if the option is not set, and `seen` if the options in `changed` are set.
 */
const EFFECTS: Record<
  string,
  [Observe, byDefault: unknown, changed: Partial<SessionOptions>, seen: unknown]
> = {
  secret: [
    async (t, options) =>
      createTokens([Buffer.from(SECRET)], 32).verify(String(await token(t, options))) !== undefined,
    true,
    { secret: 'o'.repeat(32) },
    false
  ],
  cookieName: [
    setCookie,
    `session_id=*; Max-Age=86400; ${ATTRIBUTES}`,
    { cookieName: '__Host-s' },
    /^__Host-s=\*/
  ],
  maxAge: [record, { life: 86_400_000 }, { maxAge: 60 }, { life: 60_000 }],
  idleTimeout: [record, { life: 86_400_000 }, { idleTimeout: 60 }, { life: 60_000 }],
  idLength: [async (t, options) => String(await token(t, options)).indexOf('.'), 64, { idLength: 16 }, 32],
  userKey: [record, { userId: '1' }, { userKey: 'account' }, { userId: '2' }],
  properties: [assignProperty, 'SESSION_PROPERTY_UNKNOWN', { properties: true }, 'ada'],
  cleanupInterval: [
    async (t, options) => {
      const clock = stopClock(t)
      const store = spyStore()
      await (await makeApp(t, { ...options, store })).ready()
      clock.move(3_600_000)
      await Promise.resolve()
      return store.takeNames().length
    },
    1,
    { cleanupInterval: 1800 },
    2
  ],
  store: [
    async (t, { store = spyStore() }) => {
      const spy = spyStore(store)
      const browser = new Browser(addRoutes(await makeApp(t, { store: spy })))
      await browser.get('/set?name=ada')
      return [(await browser.get('/read')).statusCode, spy.takeNames()]
    },
    [200, ['create', 'get']],
    { store: failingStore((method) => method === 'get') },
    [503, ['create', 'get']]
  ],
  migrateFrom: [
    async (t, { migrateFrom = new MemoryStore() }) => {
      const old = new Browser(addRoutes(await makeApp(t, { store: migrateFrom as MemoryStore })))
      await old.get('/set?name=ada')
      const app = addRoutes(await makeApp(t, migrateFrom === OLD_STORE ? { migrateFrom } : {}))
      return (await app.inject({ url: '/read', headers: { cookie: old.cookie } })).json()
    },
    { name: null },
    { migrateFrom: OLD_STORE },
    { name: 'ada' }
  ],
  maxSize: [saveText, 200, { maxSize: 20 }, 413],
  maxSessionsPerUser: [signInTwice, { status: 200, sessions: 2 }, { maxSessionsPerUser: 1 }, { sessions: 1 }],
  onLimit: [
    (t, options) => signInTwice(t, { maxSessionsPerUser: 1, ...options }),
    { status: 200, sessions: 1 },
    { onLimit: 'reject' },
    { status: 403, sessions: 1 }
  ],
  onStoreError: [
    async (t, options) => {
      const store = failingStore((method) => method === 'get')
      const browser = new Browser(addRoutes(await makeApp(t, { ...options, store })))
      await browser.get('/set?name=ada')
      return (await browser.get('/read')).statusCode
    },
    503,
    { onStoreError: 'anonymous' },
    200
  ],
  storeTimeout: [
    timeToFailure,
    { status: 503, waited: 2000 },
    { storeTimeout: 300 },
    { status: 503, waited: 300 }
  ],
  schema: [
    async (t, options) => (await addRoutes(await makeApp(t, options)).inject('/set?name=ada')).statusCode,
    200,
    { schema: Type.Object({ name: Type.Number() }) },
    500
  ],
  clearSiteData: [
    async (t, options) => {
      const browser = new Browser(addRoutes(await makeApp(t, options)))
      await browser.get('/set?name=ada')
      return (await browser.get('/logout')).headers['clear-site-data']
    },
    undefined,
    { clearSiteData: true },
    '"cache"'
  ],
  'cookie.path': [setCookie, /; Path=\/;/, { cookie: { path: '/app' } }, /; Path=\/app;/],
  'cookie.domain': [setCookie, /^(?!.*Domain)/, { cookie: { domain: 'a.test' } }, /; Domain=a\.test;/],
  'cookie.secure': [setCookie, /; Secure/, { cookie: { secure: false } }, /^(?!.*Secure)/],
  'cookie.httpOnly': [setCookie, /; HttpOnly/, { cookie: { httpOnly: false } }, /^(?!.*HttpOnly)/],
  'cookie.sameSite': [setCookie, /; SameSite=Lax/, { cookie: NONE }, /; SameSite=None/],
  'cookie.partitioned': [setCookie, /^(?!.*Partitioned)/, { cookie: { partitioned: true } }, /; Partitioned/],
  'cookie.persistent': [
    setCookie,
    /; Max-Age=86400/,
    { cookie: { persistent: false } },
    /^(?!.*(Max-Age|Expires))/
  ],
  'csrf.protect': [post(() => ({ url: '/open' })), 200, { csrf: { protect: 'all' } }, 403],
  'csrf.header': [
    post((token) => ({ headers: { 'x-csrf-token': token } })),
    200,
    { csrf: { header: 'X-Other-Token' } },
    403
  ],
  'csrf.field': [post((token) => ({ payload: { _csrf: token } })), 200, { csrf: { field: 'token' } }, 403],
  'csrf.trustedOrigins': [
    post((token) => ({
      headers: { 'x-csrf-token': token, origin: 'https://a.test', 'sec-fetch-site': 'cross-site' }
    })),
    403,
    { csrf: { trustedOrigins: ['https://a.test'] } },
    200
  ],
  'csrf.token': [
    post(() => ({ headers: { 'sec-fetch-site': 'same-origin' } })),
    403,
    { csrf: { token: false } },
    200
  ],
  'csrf.decorate': [
    async (t, options) => (await makeApp(t, options)).hasReplyDecorator('generateCsrf'),
    true,
    { csrf: { decorate: false } },
    false
  ]
}

for (const [option, [observe, byDefault, changed, seen]] of Object.entries(EFFECTS)) {
  void t.test(`changing ${option} changes the observable behaviour`, async (t) => {
    await t.test(
      'without the option, the default applies',
      async (t) => void t.match(await observe(t, {}), byDefault)
    )
    await t.test(
      'a value that differs from the default applies',
      async (t) => void t.match(await observe(t, changed), seen)
    )
  })
}

void t.test('every option has a test with invalid values and a test of its effect', async (t) => {
  t.same(Object.keys(EFFECTS).sort(), [...PATHS].sort())
  t.same(Object.keys({ ...WRONG, secret: [] }).sort(), ENTRIES.map(({ path }) => path).sort())
})

void t.test('the name of a custom CSRF header is case-insensitive', async (t) => {
  const send = post((token) => ({ headers: { 'x-other-token': token } }))
  t.equal(await send(t, { csrf: { header: 'X-Other-Token' } }), 200)
})

void t.test('the doc comments of the options are up to date (npm run docs:options)', async (t) => {
  const source = readFileSync(new URL('../../plugin/options/session-options.ts', import.meta.url), 'utf8')
  t.equal(withDocComments(source), source)
})
