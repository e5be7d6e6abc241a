import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Rule } from '../rules.js'

/** One secret, or a list of secrets of which the first one signs. */
export type OldSecret = string | Buffer | readonly (string | Buffer)[]

const isSecret = (value: unknown): boolean =>
  (typeof value === 'string' && value !== '') || (Buffer.isBuffer(value) && value.length > 0)

export const OLD_SECRET: Rule = {
  want: 'the secret of the other library, or the list of its secrets',
  accepts: (value) => isSecret(value) || (Array.isArray(value) && value.length > 0 && value.every(isSecret))
}

/**
 * Returns a function that returns the text that a signed value contains, or `undefined` if no secret has signed it. A
 * signed value is the text, a dot and the HMAC in base64 without padding, as cookie-signature and @fastify/cookie make
 * it.
 */
export function createUnsign(
  secret: OldSecret,
  algorithm = 'sha256'
): (signed: string) => string | undefined {
  const secrets = [secret].flat() as (string | Buffer)[]
  return function unsign(signed) {
    const dot = signed.lastIndexOf('.')
    if (dot < 1) return undefined
    const [text, given] = [signed.slice(0, dot), Buffer.from(signed.slice(dot + 1))]
    const isSigned = secrets.some((secret) => {
      const signature = createHmac(algorithm, secret).update(text).digest('base64').replace(/=+$/, '')
      const expected = Buffer.from(signature)
      return given.length === expected.length && timingSafeEqual(given, expected)
    })
    return isSigned ? text : undefined
  }
}
