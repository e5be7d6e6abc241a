import { createHash, createHmac, createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { cookieValueLength, createTokens, idOfToken } from '../../plugin/cookies/tokens.js'
import { SECRET } from '../fixtures/app.js'
import { collectGarbage } from '../fixtures/garbage.js'

const KEY = Buffer.from(SECRET)
const OTHER = Buffer.from('another secret, also long enough')
const tokens = createTokens([KEY], 32)

void t.test(
  'a token is idLength random bytes as lower-case hex, over several fills of the pool',
  async (t) => {
    for (const idLength of [16, 32, 33, 64]) {
      const { mint } = createTokens([KEY], idLength)
      const minted = Array.from({ length: 300 }, () => mint())
      t.ok(minted.every((token) => new RegExp(`^[0-9a-f]{${idLength * 2}}$`).test(token)))
      t.equal(new Set(minted).size, 300)
    }
  }
)

void t.test('a token can be asked for whose id begins with given digits', async (t) => {
  const token = tokens.mint('a1')
  t.match(token, /^[0-9a-f]{64}$/)
  t.match(idOfToken(token), /^a1/)
  t.not(tokens.mint('a1'), token)
})

void t.test('a cookie’s value is the token and its HMAC-SHA256, and the id is its SHA-256', async (t) => {
  const token = tokens.mint()
  t.equal(tokens.sign(token), `${token}.${createHmac('sha256', KEY).update(token).digest('base64url')}`)
  t.equal(idOfToken(token), createHash('sha256').update(token).digest('hex'))
})

void t.test('a Buffer and a key object of it sign alike', async (t) => {
  const token = tokens.mint()
  t.equal(createTokens([createSecretKey(KEY)], 32).sign(token), tokens.sign(token))
})

void t.test('what was signed is verified, with its id, for every length of a token', async (t) => {
  for (const idLength of [16, 32, 64]) {
    const { mint, sign, verify } = createTokens([KEY], idLength)
    const token = mint()
    const value = sign(token)
    t.equal(value.length, cookieValueLength(idLength))
    for (let visit = 0; visit < 3; visit++)
      t.same(verify(value), { value, token, id: idOfToken(token), stale: false })
  }
})

void t.test('a cookie that is issued is known when it comes back, and nothing is computed', async (t) => {
  const { mint, sign, issue, verify } = createTokens([KEY], 32)
  const token = mint()
  const value = sign(token)
  t.equal(issue(token, 'as issued'), value)
  t.same(verify(Buffer.from(value).toString()), { value, token, id: 'as issued', stale: false })
})

void t.test('the first secret signs, all verify, and what an older one signed is stale', async (t) => {
  const [older, both] = [createTokens([OTHER], 32), createTokens([KEY, OTHER], 32)]
  const token = both.mint()
  t.equal(both.sign(token), tokens.sign(token))
  t.match(both.verify(tokens.sign(token)), { token, stale: false })
  t.match(both.verify(older.sign(token)), { token, stale: true })
  t.equal(tokens.verify(older.sign(token)), undefined)
})

void t.test(
  'from its third time on a cookie is not computed again, however many wrong ones came between',
  async (t) => {
    const { mint, sign, verify } = createTokens([KEY], 32)
    const value = sign(mint())
    const [first, second, third] = [verify(value), verify(value), verify(value)]
    t.not(second, first)
    t.not(third, second)
    t.equal(verify(value), third, 'the same object')
    for (let n = 0; n < 20_001; n++) verify(`${String(n).padStart(64, '0')}${value.slice(64)}`)
    t.equal(verify(value), third)
  }
)

void t.test('a cookie that is remembered keeps nothing of the header that it came in', async (t) => {
  const used = (): number => {
    collectGarbage()
    return process.memoryUsage().heapUsed
  }
  const { mint, sign, verify } = createTokens([KEY], 32)
  const values = Array.from({ length: 2000 }, () => sign(mint()))
  /** Cut out of a header of 16 KB. */
  const cut = (value: string): string => `${'x'.repeat(16_000)}${value}`.slice(-value.length)
  const before = used()
  for (let visit = 0; visit < 3; visit++) for (const value of values) verify(cut(value))
  t.ok(used() - before < 4_000_000, `${used() - before} bytes for 2,000 cookies`)
  t.equal(verify(values[0] as string), verify(values[0] as string), 'remembered')
})

void t.test('no other text verifies, however close it is', async (t) => {
  const value = tokens.sign(tokens.mint())
  const places = fc.nat({ max: value.length - 1 })
  fc.assert(
    fc.property(places, fc.string({ unit: 'binary', maxLength: 3 }), (at, text) => {
      const changed = value.slice(0, at) + text + value.slice(at + 1)
      return changed === value || tokens.verify(changed) === undefined
    }),
    { seed: 1 }
  )
  fc.assert(
    fc.property(fc.string(), (text) => tokens.verify(text) === undefined),
    { seed: 1 }
  )
  t.ok(tokens.verify(value))
})

void t.test('what is signed as ours is, but is none of our tokens, does not verify', async (t) => {
  const token = tokens.mint()
  const value = tokens.sign(token)
  t.equal(tokens.verify(`${token}:${value.slice(65)}`), undefined, 'another sign between the two')
  for (const text of [token.toUpperCase(), `g${token.slice(1)}`, `/${token.slice(1)}`, `\0${token.slice(1)}`])
    t.equal(tokens.verify(tokens.sign(text)), undefined, text)
  const alias = (at: number): string =>
    value.slice(0, at) + String.fromCharCode(value.charCodeAt(at) + 256) + value.slice(at + 1)
  for (const at of [0, 63, 65, 107])
    t.equal(tokens.verify(alias(at)), undefined, `the same byte in latin1 at ${at}`)
})
