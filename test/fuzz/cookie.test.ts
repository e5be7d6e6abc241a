import fc, { type Arbitrary } from 'fast-check'
import t from 'tap'
import { MemoryStore } from '../../plugin/index.js'
import { createCookies } from '../../plugin/http/cookie.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { signIn } from '../../plugin/testing/index.js'
import { idOfToken } from '../../plugin/cookies/tokens.js'
import { contextOf, addRoutes, makeApp, SECRET } from '../fixtures/app.js'
import { spyStore } from '../fixtures/stores.js'
import { check } from './fixtures/check.js'
import { mutated } from './fixtures/mutations.js'

/** The maximum number of cookies with the session cookie's name that the library reads from one request. */
const CANDIDATES = 4

/**
 * Parses a Cookie header without using the library's code. Semicolons separate the pairs (RFC 6265bis, section 4.2.1).
 * Spaces and tabs around each pair are removed.
 */
function valuesIn(header: string, name: string): string[] {
  const pairs = header.split(';').map((pair) => pair.replace(/^[ \t]+|[ \t]+$/g, ''))
  const ours = pairs.filter((pair) => pair.startsWith(`${name}=`))
  return ours.map((pair) => pair.slice(name.length + 1))
}

const separator = fc.constantFrom(';', '; ', ' ;', ';;', ',', ' ', '\t', '; \t', '', '=', '\0', '\r\n')
const junk = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    'session_id',
    'session_id=',
    'SESSION_ID=',
    'xsession_id=',
    '"',
    '__proto__=1',
    'a=b',
    '%00',
    '../',
    "'"
  ),
  fc.constantFrom('x', '%', ';', ' ').map((text) => text.repeat(4096))
)

/**
 * Generates Cookie headers that mix random text with session cookies. The values of these cookies come from `values`.
 */
function headers(values: Arbitrary<string>): Arbitrary<string> {
  const ours = values.map((value) => `session_id=${value}`)
  const piece = fc.oneof(
    { weight: 2, arbitrary: ours },
    { weight: 1, arbitrary: values },
    { weight: 2, arbitrary: junk }
  )
  return fc.array(fc.tuple(piece, separator), { maxLength: 8 }).map((pieces) => pieces.flat().join(''))
}

void t.test(
  'a request with any Cookie header receives a 200, and only correctly signed cookies cause a store lookup',
  async (t) => {
    const store = spyStore(new MemoryStore())
    const app = addRoutes(
      await makeApp(t, { secret: [SECRET, `older: ${SECRET}`], store, cleanupInterval: 0 })
    )
    const older = await makeApp(t, { secret: `older: ${SECRET}`, store, cleanupInterval: 0 })
    const valueOf = (cookie: string): string => cookie.slice('session_id='.length)
    const live = [await signIn(app, { name: 'ada' }), await signIn(older, { name: 'bob' })].map(
      ({ cookie }) => valueOf(cookie)
    )
    const { tokens } = contextOf(app)
    const unknown = Array.from({ length: 2 }, () => tokens.sign(tokens.mint()))
    const names = new Map([...live.map((value, at) => [value, ['ada', 'bob'][at]] as const)])
    const right = [...live, ...unknown]
    store.take()

    const values = fc.oneof(mutated(fc.constantFrom(...right)), fc.constantFrom(...right))
    const property = fc.asyncProperty(headers(values), async (cookie) => {
      const { statusCode, body } = await app.inject({ url: '/read', headers: { cookie } })
      const signed = valuesIn(cookie, 'session_id')
        .filter((value) => right.includes(value))
        .slice(0, CANDIDATES)
      const found = signed.findIndex((value) => names.has(value))
      const asked = (found === -1 ? signed : signed.slice(0, found + 1)).map((value) =>
        idOfToken(value.split('.')[0] as string)
      )
      const gets = store.take().filter(([method]) => method === 'get')
      const seen = { statusCode, body, asked: gets.map(([, id]) => id) }
      const wanted = {
        statusCode: 200,
        body: JSON.stringify({ name: names.get(signed[found] ?? '') ?? null }),
        asked
      }
      if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(JSON.stringify({ seen, wanted }))
    })
    await check(t, property, { runs: 1000, what: 'hostile inputs tried' })
  }
)

void t.test(
  'the cookie of a live session is found among up to three other cookies, whatever they contain',
  async (t) => {
    const app = addRoutes(await makeApp(t, { cleanupInterval: 0 }))
    const { cookie } = await signIn(app, { name: 'ada' })
    const randomText = fc.string({ unit: 'binary', maxLength: 100 }).map((text) => text.replaceAll(';', ''))
    const otherCookie = fc.oneof(
      mutated(fc.constant(cookie)),
      randomText,
      randomText.map((text) => `session_id=${text}`)
    )
    const around = fc.array(
      otherCookie.filter((text) => !text.includes(';')),
      { maxLength: 3 }
    )
    const property = fc.asyncProperty(around, fc.nat(3), async (others, at) => {
      const header = [...others.slice(0, at), cookie, ...others.slice(at)].join('; ')
      const { body } = await app.inject({ url: '/read', headers: { cookie: header } })
      if (body !== '{"name":"ada"}') throw new Error(body)
    })
    await check(t, property, { runs: 1000, what: 'hostile inputs tried' })
  }
)

void t.test('the plugin reads only cookies with the configured name, whatever that name is', async (t) => {
  const characters = Array.from("abzAZ09!#$%&'*+.^_`|~-")
  const name = fc.string({ unit: fc.constantFrom(...characters), minLength: 1, maxLength: 4 })
  const property = fc.asyncProperty(
    name,
    fc.array(fc.tuple(fc.string({ maxLength: 4 }), separator)),
    async (name, parts) => {
      const cookieName = `x${name}`
      const { read } = createCookies(
        resolveOptions({ secret: SECRET, cookieName }, () => new MemoryStore()),
        String
      ).session
      const header = parts.map(([text, between]) => `${text}${cookieName}${between}`).join('=')
      const [seen, wanted] = [read(header), valuesIn(header, cookieName)]
      if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(JSON.stringify({ seen, wanted }))
    }
  )
  await check(t, property, { runs: 1000, what: 'hostile inputs tried' })
})
