import { createHmac, createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { createHmacSha256 } from '../../plugin/cookies/hmac.js'

void t.test(
  'createHmacSha256() gives the same result as Node’s createHmac(), even for keys longer than a hash block',
  (t) => {
    const keys = fc.uint8Array({ maxLength: 200 })
    const texts = fc
      .nat({ max: 200 })
      .chain((length) => fc.array(asciiOf(length), { minLength: 1, maxLength: 3 }))
    fc.assert(
      fc.property(keys, texts, (bytes, [first = '', ...others]) => {
        const key = Buffer.from(bytes)
        const hmac = createHmacSha256(key, first.length)
        return [first, ...others].every((text) => hmac(text) === hmacOf(key, text))
      }),
      { seed: 1, numRuns: 1000 }
    )
    for (const length of [0, 63, 64, 65]) {
      const key = Buffer.alloc(length, 7)
      t.equal(createHmacSha256(key, 4)('text'), hmacOf(key, 'text'), `a key of ${length} bytes`)
    }
    t.end()
  }
)

void t.test(
  'a KeyObject and its raw bytes give the same HMAC, and signing does not modify the bytes',
  (t) => {
    const key = Buffer.alloc(32, 'key')
    t.equal(createHmacSha256(createSecretKey(key), 4)('text'), hmacOf(key, 'text'))
    t.equal(createHmacSha256(key, 4)('text'), hmacOf(key, 'text'))
    t.same(key, Buffer.alloc(32, 'key'))
    t.end()
  }
)

void t.test('a string of the wrong length is refused, and the next string is still signed correctly', (t) => {
  const key = Buffer.alloc(32, 'key')
  const hmac = createHmacSha256(key, 4)
  hmac('text')
  for (const text of ['', 'tex', 'texts']) t.throws(() => hmac(text), RangeError)
  t.equal(hmac('more'), hmacOf(key, 'more'))
  t.end()
})

function hmacOf(key: Buffer, text: string): string {
  return createHmac('sha256', key).update(text).digest('base64url')
}

function asciiOf(length: number): fc.Arbitrary<string> {
  return fc.string({ unit: 'binary-ascii', minLength: length, maxLength: length })
}
