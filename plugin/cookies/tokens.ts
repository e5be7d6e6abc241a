import { hash, randomFillSync, timingSafeEqual, type KeyObject } from 'node:crypto'
import { createHmacSha256 } from './hmac.js'
import { createVerifiedCache } from './verified-cache.js'

/** A cookie value with a valid signature. */
export interface VerifiedToken {
  /** The cookie value: `token.signature`. */
  readonly value: string
  readonly token: string
  readonly id: string
  /** True if the cookie was signed with an older secret. It must be signed again with the newest secret and resent. */
  readonly stale: boolean
}

/** Creates, signs and verifies session tokens with one list of secrets. */
export interface Tokens {
  /** Returns a new token: `idLength` random bytes as lower-case hex. The id of the token begins with `idPrefix`. */
  mint(idPrefix?: string): string
  /** Signs a token with the newest secret and returns the cookie value `token.signature`. */
  sign(token: string): string
  /** Signs a token like `sign`, and caches the result so that the next `verify` is cheap. `id` is the token's id. */
  issue(token: string, id: string): string
  /** Returns the token in a cookie value, or `undefined` if the value is malformed or its signature is wrong. */
  verify(value: string): VerifiedToken | undefined
}

type Signer = (token: string) => string

/** The length of a signature: 32 bytes as base64url. */
const SIGNATURE_LENGTH = 43
const TOKENS_PER_REFILL = 128
/** A lookup table that holds 1 at the character code of each lower-case hex digit, and 0 elsewhere. */
const IS_HEX_DIGIT = new Uint8Array(128)
for (const digit of '0123456789abcdef') IS_HEX_DIGIT[digit.charCodeAt(0)] = 1

/** Returns the length of a cookie value whose token has `idLength` random bytes. */
export function cookieValueLength(idLength: number): number {
  return idLength * 2 + 1 + SIGNATURE_LENGTH
}

/** Returns the session id of a token: its SHA-256 as 64 hex digits. Stores and logs contain the id, never the token. */
export function idOfToken(token: string): string {
  return hash('sha256', token, 'hex')
}

/** The first secret signs tokens, and all secrets verify them. Each token has `idLength` random bytes. */
export function createTokens(secrets: readonly (Buffer | KeyObject)[], idLength: number): Tokens {
  const draw = createMint(idLength)
  const signers = secrets.map((secret) => createHmacSha256(secret, idLength * 2))
  const newest = signers[0] as Signer
  const check = createVerifier(signers, idLength)
  const length = cookieValueLength(idLength)
  const cache = createVerifiedCache<VerifiedToken>()
  const detached = createCopier(length)

  function mint(idPrefix = ''): string {
    let token = draw()
    while (idPrefix !== '' && !idOfToken(token).startsWith(idPrefix)) token = draw()
    return token
  }

  function sign(token: string): string {
    return `${token}.${newest(token)}`
  }

  function issue(token: string, id: string): string {
    const value = sign(token)
    cache.keep(detached({ value, token, id, stale: false }))
    return value
  }

  /** A cookie in the cache is verified without computing a hash. Its session is still looked up in the store. */
  function verify(value: string): VerifiedToken | undefined {
    if (value.length !== length) return undefined
    const known = cache.get(value)
    if (known !== undefined) return known
    const checked = check(value)
    if (checked === undefined) return undefined
    const verified = detached(checked)
    cache.keep(verified)
    return verified
  }

  return { mint, sign, issue, verify }
}

function createVerifier(signers: readonly Signer[], idLength: number): Tokens['verify'] {
  const tokenLength = idLength * 2
  const given = Buffer.alloc(SIGNATURE_LENGTH)
  const expected = Buffer.alloc(SIGNATURE_LENGTH)
  return function verify(value) {
    const token = value.slice(0, tokenLength)
    if (value[tokenLength] !== '.' || !isHex(token)) return undefined
    const signature = value.slice(tokenLength + 1)
    given.write(signature, 'latin1')
    const signer = signers.findIndex((sign) => {
      const text = sign(token)
      expected.write(text, 'latin1')
      // Compare the encoded signatures, because different base64url strings can decode to the same bytes. Also
      // compare the strings, because `Buffer.write` truncates characters that latin1 cannot represent.
      return timingSafeEqual(given, expected) && text === signature
    })
    return signer === -1 ? undefined : { value, token, id: idOfToken(token), stale: signer > 0 }
  }
}

/** Returns true if the string is lower-case hex. A regular expression would take more than twice as long. */
function isHex(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (IS_HEX_DIGIT[text.charCodeAt(at)] !== 1) return false
  return true
}

/**
 * Returns a function that copies a token, because the original is a substring that keeps the whole Cookie header in
 * memory. The function uses a dedicated Buffer, because small Buffers share a memory pool that other code can read.
 */
function createCopier(length: number): (verified: VerifiedToken) => VerifiedToken {
  const bytes = Buffer.alloc(length)
  return function copy({ value, token, id, stale }) {
    bytes.write(value, 'latin1')
    const text = bytes.toString('latin1')
    return { value: text, token: text.slice(0, token.length), id, stale }
  }
}

/** Takes tokens from a pool, because generating 4096 random bytes takes only slightly longer than generating 32. */
function createMint(idLength: number): () => string {
  const pool = Buffer.alloc(idLength * TOKENS_PER_REFILL)
  let offset = pool.length
  return function mint() {
    if (offset === pool.length) {
      randomFillSync(pool)
      offset = 0
    }
    const token = pool.toString('hex', offset, offset + idLength)
    // Erase the bytes, so that a used token does not stay readable in memory.
    pool.fill(0, offset, offset + idLength)
    offset += idLength
    return token
  }
}
