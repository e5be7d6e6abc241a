import fc from 'fast-check'
import t from 'tap'
import { HOST, makeCsrfApp, OWN, verdictOf, visit } from '../fixtures/csrf.js'
import { check } from './fixtures/check.js'
import { mutated } from './fixtures/mutations.js'

/** Removes the mask from a CSRF token and returns the secret. */
function secretIn(token: string): string {
  const bytes = Buffer.from(token, 'base64url')
  return Buffer.from(bytes.subarray(0, 32).map((byte, at) => byte ^ (bytes[32 + at] ?? 0))).toString('hex')
}

const isShaped = (token: unknown): token is string => typeof token === 'string' && /^[\w-]{86}$/.test(token)

void t.test('every CSRF token is accepted in its own session and rejected in another session', async (t) => {
  const app = await makeCsrfApp(t, { protect: 'all' })
  const [one, other] = [await visit(app), await visit(app)]
  const seen = new Set<string>()
  const property = fc.asyncProperty(fc.boolean(), async (own) => {
    const { payload: token } = await one.browser.get('/token')
    if (seen.has(token) || secretIn(token) !== secretIn(one.token))
      throw new Error(`the token was issued before or holds another secret: ${token}`)
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

void t.test('a modified CSRF token is rejected unless it still encodes the same secret', async (t) => {
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
  // A header can contain only printable ASCII characters.
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
    const isSameSecret = isShaped(text) && secretIn(text) === secretIn(token)
    if (verdict !== (isSameSecret ? 'passes' : 'token')) throw new Error(verdict)
  })
  await check(t, property, { runs: 800, what: 'hostile inputs tried' })
})

void t.test(
  'a POST without a CSRF token is rejected and causes no 5xx, whatever its JSON body contains',
  async (t) => {
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
      // Fastify itself rejects a body that contains a key such as `__proto__`, with status 400.
      if (verdict !== 'token' && !verdict.startsWith('400 ')) throw new Error(verdict)
    })
    await check(t, property, { runs: 500, what: 'hostile inputs tried' })
  }
)
