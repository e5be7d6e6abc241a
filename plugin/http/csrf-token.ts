import { randomBytes, timingSafeEqual } from 'node:crypto'

const SECRET_BYTES = 32
/** The format of a CSRF token: a random pad and the masked secret, 64 bytes in total, encoded as base64url. */
const TOKEN_SHAPE = /^[A-Za-z0-9_-]{86}$/

/** Returns a random CSRF secret as a session keeps it: base64url of 43 characters. */
export function makeSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64url')
}

/** Returns a new CSRF token. A random pad masks the secret, so that BREACH cannot guess it from the size of a page. */
export function tokenOf(secret: string): string {
  const pad = randomBytes(SECRET_BYTES)
  return Buffer.concat([pad, xor(pad, Buffer.from(secret, 'base64url'))]).toString('base64url')
}

/** Returns true if `token` is one of the tokens of `secret`. Takes the same time for every token of the right format. */
export function isTokenOf(secret: string, token: unknown): boolean {
  if (typeof token !== 'string' || !TOKEN_SHAPE.test(token)) return false
  const bytes = Buffer.from(token, 'base64url')
  const found = xor(bytes.subarray(0, SECRET_BYTES), bytes.subarray(SECRET_BYTES))
  return timingSafeEqual(found, Buffer.from(secret, 'base64url'))
}

/** Returns `value` if it is a CSRF secret. The store may have returned anything. */
export function toSecret(value: unknown): string | undefined {
  return typeof value === 'string' && Buffer.from(value, 'base64url').length === SECRET_BYTES
    ? value
    : undefined
}

function xor(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, index) => byte ^ (b[index] as number)))
}
