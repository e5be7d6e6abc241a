import fc from 'fast-check'
import t from 'tap'
import { HOST, makeCsrfApp, OWN, verdictOf, visit } from '../fixtures/csrf.js'
import { check } from './fixtures/check.js'
import { mutated } from './fixtures/mutations.js'

/** The secret under the mask of a token. */
function secretIn(token: string): string {
  const bytes = Buffer.from(token, 'base64url')
  return Buffer.from(bytes.subarray(0, 32).map((byte, at) => byte ^ (bytes[32 + at] ?? 0))).toString('hex')
}

const isShaped = (token: unknown): token is string => typeof token === 'string' && /^[\w-]{86}$/.test(token)

void t.test('every token that a session issued passes there, and nowhere else', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  const [one, other] = [await visit(app), await visit(app)]
  const seen = new Set<string>()
  const property = fc.asyncProperty(fc.boolean(), async (own) => {
    const { payload: token } = await one.browser.get('/token')
    if (seen.has(token) || secretIn(token) !== secretIn(one.token)) throw new Error(`a bad mask: ${token}`)
    seen.add(token)
    const sent = {
      method: 'POST',
      url: '/target',
      headers: { host: HOST, origin: OWN, 'x-csrf-token': token }
    } as const
    const verdict = verdictOf(await (own ? one : other).browser.request(sent))
    if (verdict !== (own ? 'passes' : 'token')) throw new Error(verdict)
  })
  await check(t, property, { runs: 200, what: 'tokens tried' })
})

void t.test('a token that was changed is refused, unless it is a mask of the same secret', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  const [{ browser, token }, other] = [await visit(app), await visit(app)]
  const junk = fc.oneof(
    fc.string(),
    fc.base64String({ minLength: 80, maxLength: 90 }),
    fc.constant(other.token)
  )
  const tried = fc.oneof(
    { weight: 4, arbitrary: mutated(fc.constant(token)) },
    { weight: 1, arbitrary: junk }
  )
  // What a header can carry.
  const sendable = tried.filter((text) => /^[\x20-\x7e]*$/.test(text))
  const property = fc.asyncProperty(sendable, fc.boolean(), async (text, inHeader) => {
    const verdict = verdictOf(
      await browser.request({
        method: 'POST',
        url: '/target',
        headers: { host: HOST, origin: OWN, ...(inHeader && { 'x-csrf-token': text }) },
        ...(!inHeader && { payload: { _csrf: text } })
      })
    )
    const isMask = isShaped(text) && secretIn(text) === secretIn(token)
    if (verdict !== (isMask ? 'passes' : 'token')) throw new Error(verdict)
  })
  await check(t, property, { runs: 800, what: 'hostile inputs tried' })
})

void t.test('whatever a body is, the answer is a refusal and never an error', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  const { browser } = await visit(app)
  const body = fc.oneof(
    fc.jsonValue(),
    fc.jsonValue().map((value) => ({ _csrf: value })),
    fc.constant(JSON.parse('{"constructor":{"_csrf":1}}'))
  )
  const property = fc.asyncProperty(body, async (value) => {
    const headers = { host: HOST, origin: OWN, 'content-type': 'application/json' }
    const verdict = verdictOf(
      await browser.request({ method: 'POST', url: '/target', headers, payload: JSON.stringify(value) })
    )
    // Fastify itself refuses a key that would change a prototype.
    if (verdict !== 'token' && !verdict.startsWith('400 ')) throw new Error(verdict)
  })
  await check(t, property, { runs: 500, what: 'hostile inputs tried' })
})
