import fc, { type Arbitrary } from 'fast-check'
import t, { type Test } from 'tap'
import { MemoryStore, type SessionOptions } from '../../plugin/index.js'
import { signIn } from '../../plugin/testing/index.js'
import { Browser, contextOf, makeApp, SECRET } from '../fixtures/app.js'
import { stopClock } from '../fixtures/clock.js'
import { spyStore } from '../fixtures/stores.js'
import { check } from './fixtures/check.js'
import { mutated } from './fixtures/mutations.js'
import { tell } from './fixtures/runs.js'

const NAME = 'session_id_visitor'
/** The maximum number of cookies with the same name that the library reads from one request. */
const CANDIDATES = 4

/** Creates an app that prints a flash message and a CSRF token, and checks the token of each POST. */
async function setUp(t: Test, options: Partial<SessionOptions> = {}) {
  const store = spyStore(new MemoryStore())
  const app = await makeApp(t, { store, cleanupInterval: 0, csrf: { protect: 'all' }, ...options })
  app.get<{ Params: { note: string } }>('/form/:note', async ({ session, params }, reply) => {
    session.setFlash('note', params.note)
    return reply.generateCsrf()
  })
  app.get('/read', async ({ session }) => ({ note: session.peekFlash('note') ?? null, keys: session.keys() }))
  app.post('/target', async () => 'passed')
  return { app, store, visitors: contextOf(app).visitors }
}

/** Returns a visitor cookie of an app, and the CSRF token that goes with it. */
async function visit({ app }: Awaited<ReturnType<typeof setUp>>, note: string) {
  const browser = new Browser(app)
  const { payload: token } = await browser.get(`/form/${note}`)
  const [[name, value] = ['', '']] = browser.cookies
  return { name, value, token, note }
}

const separator = fc.constantFrom(';', '; ', ' ;', ';;', '; \t')
const junk = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }).map((text) => text.replaceAll(';', '')),
  fc.constantFrom(NAME, `${NAME}=`, 'SESSION_ID_VISITOR=x', `x${NAME}=x`, '__proto__=1', 'a=b', '%00')
)

/** Generates Cookie headers that mix visitor cookies with random text. */
function headers(values: Arbitrary<string>): Arbitrary<{ header: string; candidates: string[] }> {
  const piece = fc.oneof(
    { weight: 3, arbitrary: values.map((value) => `${NAME}=${value.replaceAll(';', '')}`) },
    { weight: 1, arbitrary: junk }
  )
  return fc.array(fc.tuple(piece, separator), { maxLength: 6 }).map((pieces) => {
    const trimmed = pieces.map(([text]) => text.replace(/^[ \t]+|[ \t]+$/g, ''))
    const ours = trimmed.filter((text) => text.startsWith(`${NAME}=`)).slice(0, CANDIDATES)
    return {
      header: pieces.flat().join(''),
      candidates: ours.map((text) => text.slice(NAME.length + 1))
    }
  })
}

void t.test(
  'a visitor cookie that was changed, cut, renamed, sealed with another secret or too old has no value and causes no error',
  async (t) => {
    const clock = stopClock(t)
    const options = { secret: [SECRET, `older: ${SECRET}`] }
    const ours = await setUp(t, options)
    const strangers = [
      { secret: `other: ${SECRET}` },
      { ...options, cookieName: 'session_id_visitor' },
      { ...options, cookieName: 'other' },
      { ...options, cookieName: '__Host-session_id' }
    ]
    const tooOld = await visit(ours, 'old')
    clock.move(86_400_000)
    const valid = [
      await visit(ours, 'ada'),
      await visit(await setUp(t, { secret: `older: ${SECRET}` }), 'bob'),
      await visit(ours, 'eve')
    ]
    const invalid = [tooOld.value, (await signIn(ours.app, { name: 'ada' })).cookie]
    for (const stranger of strangers) invalid.push((await visit(await setUp(t, stranger), 'stranger')).value)
    const right = valid.map(({ value }) => value)
    const values = fc.oneof(
      { weight: 3, arbitrary: mutated(fc.constantFrom(...right)).filter((text) => !right.includes(text)) },
      { weight: 1, arbitrary: fc.constantFrom(...right) },
      { weight: 1, arbitrary: fc.constantFrom(...invalid) },
      { weight: 1, arbitrary: mutated(fc.constantFrom(...invalid)).filter((text) => !right.includes(text)) }
    )
    ours.store.take()

    const property = fc.asyncProperty(headers(values), async ({ header, candidates }) => {
      const counted = valid.find(({ value }) => value === candidates.find((text) => right.includes(text)))
      const read = await ours.app.inject({ url: '/read', headers: { cookie: header } })
      const posts = await Promise.all(
        valid.map(({ token }) =>
          ours.app.inject({
            method: 'POST',
            url: '/target',
            headers: { cookie: header, 'x-csrf-token': token }
          })
        )
      )
      const seen = {
        read: [read.statusCode, read.body, read.cookies],
        posts: posts.map(({ statusCode }) => statusCode),
        calls: ours.store.takeNames()
      }
      const wanted = {
        read: [200, JSON.stringify({ note: counted?.note ?? null, keys: [] }), []],
        posts: valid.map((it) => (it === counted ? 200 : 403)),
        calls: []
      }
      if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(JSON.stringify({ seen, wanted }))
    })
    await check(t, property, { runs: 600, what: 'hostile inputs tried' })
  }
)

void t.test('a visitor cookie is not valid if any part is missing or any bit differs', async (t) => {
  const ours = await setUp(t)
  const { value } = await visit(ours, 'ada')
  const tampered: string[] = []
  for (let at = 0; at < value.length; at++) tampered.push(value.slice(0, at), value.slice(at + 1))
  for (let at = 0; at < value.length; at++) tampered.push(value.slice(0, at) + value.slice(at + 1))
  const bytes = Buffer.from(value, 'base64url')
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7))
    tampered.push(flipped.toString('base64url'))
  }
  for (const text of [value, ...tampered].flatMap((it) => [`${it}=`, `${it}.`, ` ${it}`, it + it]))
    tampered.push(text)
  const opened = tampered.filter((text) => ours.visitors.open([text]) !== undefined)
  t.same(opened, [])
  t.ok(ours.visitors.open([value]), 'the cookie itself is valid')
  tell(t, 'hostile inputs tried', tampered.length)
})

void t.test('other spellings of the same base64 are not a valid visitor cookie', async (t) => {
  const ours = await setUp(t)
  const alphabet = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=')
  const opened: string[] = []
  let tried = 0
  // The number of unused bits in the last character depends on the length, so notes of three lengths are tried.
  for (const note of ['a', 'ab', 'abc']) {
    const { value } = await visit(ours, note)
    const others = [
      value.replaceAll('-', '+').replaceAll('_', '/'),
      ...alphabet.map((character) => value.slice(0, -1) + character)
    ].filter((text) => text !== value)
    tried += others.length
    opened.push(...others.filter((text) => ours.visitors.open([text]) !== undefined))
  }
  t.same(opened, [])
  tell(t, 'hostile inputs tried', tried)
})

void t.test(
  'any values of a visitor come back from the cookie as they were, or do not fit into it',
  async (t) => {
    const { visitors } = await setUp(t)
    const own = fc.string({ unit: 'binary', maxLength: 30 }).map((key) => `$${key}`)
    const value = fc.oneof(
      { weight: 5, arbitrary: fc.jsonValue() },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', minLength: 500, maxLength: 4000, size: 'max' }) }
    )
    const property = fc.asyncProperty(fc.dictionary(own, value, { maxKeys: 5 }), async (data) => {
      const texts = Object.fromEntries(Object.entries(data).map(([key, item]) => [key, JSON.stringify(item)]))
      const fits = visitors.fits(texts)
      let cookie: string | undefined
      try {
        cookie = visitors.seal(texts, undefined)
      } catch (error) {
        if (fits) throw error
      }
      if (!fits && cookie !== undefined) throw new Error('the cookie was made although the values do not fit')
      if (cookie === undefined) return
      if (NAME.length + cookie.length > 4096) throw new Error(`the cookie has ${cookie.length} bytes`)
      const seen = Object.entries(visitors.open([cookie])?.texts ?? {}).sort()
      const wanted = Object.entries(texts).sort()
      if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(JSON.stringify({ seen, wanted }))
    })
    await check(t, property, { runs: 500, what: 'visitors tried' })
  }
)
