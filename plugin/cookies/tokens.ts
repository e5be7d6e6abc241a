import { hash, randomFillSync, timingSafeEqual, type KeyObject } from 'node:crypto'
import { createHmacSha256 } from './hmac.js'
import { createRecent } from './verified-cache.js'

/** A cookie value whose signature is right. */
export interface VerifiedToken {
  /** The cookie's value: `token.signature`. */
  readonly value: string
  readonly token: string
  readonly id: string
  /** Signed by an older secret: the cookie is to be issued again. */
  readonly stale: boolean
}

/** Mints, signs and verifies tokens under one list of secrets. */
export interface Tokens {
  /** A new token: `idLength` random bytes as lower-case hex. `idPrefix`: how the id of it must begin. */
  mint(idPrefix?: string): string
  /** The cookie's value for a token, `token.signature`, under the newest secret. */
  sign(token: string): string
  /** The same for a browser that is about to bring it back: `verify` knows it already. `id`: of the token. */
  issue(token: string, id: string): string
  /** The token of a cookie's value, or `undefined` when the value is malformed or no secret signed it. */
  verify(value: string): VerifiedToken | undefined
}

/** The signature of a token. */
type Signer = (token: string) => string

const SIGNATURE_LENGTH = 43
const TOKENS_PER_REFILL = 128
/** By character code. */
const IS_HEX_DIGIT = new Uint8Array(128)
for (const digit of '0123456789abcdef') IS_HEX_DIGIT[digit.charCodeAt(0)] = 1

/** The length of a cookie's value for tokens of `idLength` bytes. */
export function cookieValueLength(idLength: number): number {
  return idLength * 2 + 1 + SIGNATURE_LENGTH
}

/** The id of a token: hex SHA-256, 64 digits. What stores, logs and device lists know a session by. */
export function idOfToken(token: string): string {
  return hash('sha256', token, 'hex')
}

/** `secrets`: the first signs, all verify. `idLength`: random bytes in a token. */
export function createTokens(secrets: readonly (Buffer | KeyObject)[], idLength: number): Tokens {
  const draw = createMint(idLength)
  const signers = secrets.map((secret) => createHmacSha256(secret, idLength * 2))
  const newest = signers[0] as Signer
  const verifyNow = createVerifier(signers, idLength)
  const length = cookieValueLength(idLength)
  const recent = createRecent<VerifiedToken>()
  const ownCopy = createCopier(length)

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
    recent.keep(ownCopy({ value, token, id, stale: false }))
    return value
  }

  /** Whoever comes often costs no HMAC and no hash. The session itself is asked of the store all the same. */
  function verify(value: string): VerifiedToken | undefined {
    if (value.length !== length) return undefined
    const known = recent.get(value)
    if (known !== undefined) return known
    const verified = verifyNow(value)
    if (verified !== undefined) recent.keepIfSeen(value, () => ownCopy(verified))
    return verified
  }

  return { mint, sign, issue, verify }
}

function createVerifier(signers: readonly Signer[], idLength: number): Tokens['verify'] {
  const tokenLength = idLength * 2
  const given = Buffer.alloc(SIGNATURE_LENGTH)
  const right = Buffer.alloc(SIGNATURE_LENGTH)
  return function verify(value) {
    const token = value.slice(0, tokenLength)
    if (value[tokenLength] !== '.' || !isHex(token)) return undefined
    const signature = value.slice(tokenLength + 1)
    given.write(signature, 'latin1')
    const signer = signers.findIndex((sign) => {
      const text = sign(token)
      right.write(text, 'latin1')
      // As text, because base64url has several spellings of the same bytes; and again, for what latin1 has no bytes for.
      return timingSafeEqual(given, right) && text === signature
    })
    return signer === -1 ? undefined : { value, token, id: idOfToken(token), stale: signer > 0 }
  }
}

/** Lower-case hex. A regular expression takes more than twice as long. */
function isHex(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (IS_HEX_DIGIT[text.charCodeAt(at)] !== 1) return false
  return true
}

/**
 * Makes copies of one text each, and none of it a part of the header that it came in, which would stay in memory with it.
 * Copied in memory of its own: the pool that Node shares among Buffers is seen through the `buffer` of any small one.
 */
function createCopier(length: number): (verified: VerifiedToken) => VerifiedToken {
  const bytes = Buffer.alloc(length)
  return function ownCopy({ value, token, id, stale }) {
    bytes.write(value, 'latin1')
    const copy = bytes.toString('latin1')
    return { value: copy, token: copy.slice(0, token.length), id, stale }
  }
}

/** Random bytes come from a pool, because one call for 4 KB costs little more than one for 32 bytes. */
function createMint(idLength: number): () => string {
  const pool = Buffer.alloc(idLength * TOKENS_PER_REFILL)
  let offset = pool.length
  return function mint() {
    if (offset === pool.length) {
      randomFillSync(pool)
      offset = 0
    }
    const token = pool.toString('hex', offset, offset + idLength)
    // A used slice must not wait in memory for somebody to read it.
    pool.fill(0, offset, offset + idLength)
    offset += idLength
    return token
  }
}
