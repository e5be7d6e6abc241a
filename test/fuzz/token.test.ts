import { createHash, createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { createTokens } from '../../plugin/cookies/tokens.js'
import { check } from './fixtures/check.js'
import { mutated } from './fixtures/mutations.js'

const secret = fc.uint8Array({ minLength: 32, maxLength: 80 }).map((bytes) => createSecretKey(bytes))
const secrets = fc.uniqueArray(secret, { minLength: 2, maxLength: 4, comparator: (a, b) => a.equals(b) })
const idLength = fc.integer({ min: 16, max: 64 })

void t.test(
  'a signed token is valid if and only if its secret is among the configured secrets',
  async (t) => {
    const property = fc.asyncProperty(secrets, idLength, async (secrets, length) => {
      const [signer, other, ...more] = secrets as [(typeof secrets)[0] & object, (typeof secrets)[0] & object]
      const tokens = createTokens([signer, ...more], length)
      const token = tokens.mint()
      const value = tokens.sign(token)
      const id = createHash('sha256').update(token).digest('hex')
      const stale = createTokens([other, signer], length)
      // The library caches verified cookies. The token is verified three times to check the cached results too.
      for (let times = 0; times < 3; times++) {
        t.strictSame(tokens.verify(value), { value, token, id, stale: false })
        t.strictSame(stale.verify(value), { value, token, id, stale: true })
        t.equal(createTokens([other, ...more], length).verify(value), undefined)
      }
    })
    await check(t, property, { runs: 100, what: 'tokens tried' })
  }
)

void t.test('a signed token is rejected after any modification', async (t) => {
  const tokens = createTokens(
    [createSecretKey(Buffer.alloc(32, 1)), createSecretKey(Buffer.alloc(32, 2))],
    32
  )
  const values = Array.from({ length: 8 }, () => tokens.sign(tokens.mint()))
  for (const value of values) t.ok(tokens.verify(value))
  const property = fc.asyncProperty(mutated(fc.constantFrom(...values)), async (value) => {
    if (tokens.verify(value) !== undefined) throw new Error(`${value} was accepted`)
  })
  await check(t, property, { runs: 5000, what: 'hostile inputs tried' })
})
