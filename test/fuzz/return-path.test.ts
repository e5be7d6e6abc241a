import fc from 'fast-check'
import t from 'tap'
import { RETURN_KEY } from '../../plugin/session/record.js'
import { isReturnPath, rememberPage } from '../../plugin/session/return-path.js'
import { Session } from '../../plugin/session/session.js'
import { stopClock } from '../fixtures/clock.js'
import { check } from './fixtures/check.js'
import { setUpCore } from './fixtures/core.js'
import { emptyJar } from './fixtures/jar.js'
import { mutated } from './fixtures/mutations.js'

const HOUR = 3_600_000
const PAGES = [
  'https://app.test/login',
  'http://localhost:3000/a/b?c',
  'https://[::1]:8443/',
  'http://app.test'
]

/** Parts of URLs that lead to another site in some browser, framework or proxy. */
const PARTS = [
  '/',
  '//',
  '\\',
  '/\\',
  '\t',
  '\n',
  '\r',
  '\0',
  ' ',
  '\u00a0',
  '\u2028',
  '\ufeff',
  '．',
  '／',
  '＼',
  '%2F',
  '%5c',
  '%09',
  '%00',
  '.',
  '..',
  ';',
  ':',
  '@',
  '?',
  '#',
  'https:',
  'javascript:alert(1)',
  'evil.test',
  'user:password@evil.test',
  '[::1]',
  '\ud800',
  'account'
]

const local = fc
  .webUrl({ withQueryParameters: true, withFragments: true })
  .map((url) => new URL(url))
  .map(({ pathname, search, hash }) => pathname + search + hash)
  .filter((path) => !path.startsWith('//'))
const hostile = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.array(fc.constantFrom(...PARTS), { maxLength: 8 }).map((parts) => parts.join(''))
  },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom(...PARTS), local).map((parts) => parts.join('')) },
  { weight: 2, arbitrary: mutated(local) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary' }) },
  { weight: 1, arbitrary: local.map((path) => path + 'x'.repeat(1024)) }
)

/** Throws an error unless a browser that is redirected to `path` stays on the origin of each page. */
function verifyLocal(path: string): void {
  for (const page of PAGES) {
    const { origin } = new URL(path, page)
    if (origin !== new URL(page).origin) throw new Error(`${JSON.stringify(path)} leads to ${origin}`)
  }
  if (!/^\/[\x21-\x7e]*$/.test(path)) throw new Error(`${JSON.stringify(path)} cannot be a Location header`)
}

void t.test('takeReturnTo() returns "/" or a path of this origin, whatever page was asked for', async (t) => {
  const core = await setUpCore(t, { maxAge: 3 * HOUR, idleTimeout: HOUR })
  const property = fc.asyncProperty(hostile, async (path) => {
    const { session } = await core.begin(emptyJar())
    rememberPage(Session.stateOf(session), path)
    const taken = session.takeReturnTo()
    verifyLocal(taken)
    if (taken !== '/' && taken !== path) throw new Error(`${JSON.stringify(path)} became ${taken}`)
    if (session.takeReturnTo('/home') !== '/home') throw new Error('the path was not forgotten')
  })
  await check(t, property, { runs: 3000, what: 'hostile inputs tried' })
})

void t.test('takeReturnTo() returns "/" or a path of this origin, whatever the session holds', async (t) => {
  stopClock(t)
  const core = await setUpCore(t, { maxAge: 3 * HOUR, idleTimeout: HOUR })
  const time = fc.constantFrom(
    () => Date.now(),
    () => Date.now() - HOUR,
    () => 0,
    () => 'now',
    () => null
  )
  const value = fc.oneof(hostile, local, fc.jsonValue())
  const property = fc.asyncProperty(value, time, fc.boolean(), async (value, at, isWrapped) => {
    const { session } = await core.begin(emptyJar())
    Session.stateOf(session).setOwn(RETURN_KEY, isWrapped ? { value, at: at() } : value)
    const taken = session.takeReturnTo()
    verifyLocal(taken)
    if (taken !== '/' && taken !== value) throw new Error(`${JSON.stringify(value)} became ${taken}`)
  })
  await check(t, property, { runs: 2000, what: 'hostile inputs tried' })
})

void t.test('the path of any page of this origin is kept, up to 1,024 bytes', async (t) => {
  const core = await setUpCore(t, { maxAge: 3 * HOUR, idleTimeout: HOUR })
  const property = fc.asyncProperty(local, async (path) => {
    const { session } = await core.begin(emptyJar())
    rememberPage(Session.stateOf(session), path)
    const wanted = path.length <= 1024 ? path : '/'
    if (session.takeReturnTo() !== wanted || isReturnPath(path) !== path.length <= 1024)
      throw new Error(`${path} is not kept`)
  })
  await check(t, property, { runs: 1000, what: 'pages tried' })
})
