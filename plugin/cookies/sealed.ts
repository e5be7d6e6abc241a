import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, type KeyObject } from 'node:crypto'

/** Encrypts texts so that nobody can read or change them without the secret. */
export interface Sealer {
  /** Encrypts a text with the newest secret. Returns base64url. */
  seal(text: string): string
  /** Returns the text in a sealed value, or `undefined` if the value was not made with one of the secrets. */
  open(value: string): string | undefined
}

const CIPHER = 'aes-256-gcm'
const SALT_BYTES = 16
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** Returns how many characters `seal` makes from a text of `bytes` bytes of UTF-8. */
export function sealedLength(bytes: number): number {
  return Math.ceil(((SALT_BYTES + bytes + TAG_BYTES) * 4) / 3)
}

/**
 * Returns a sealer for the cookie `name`: AES-256-GCM (NIST SP 800-38D). HKDF-SHA256 (RFC 5869) makes a new key and nonce
 * from the secret and a random salt for each value, so that no nonce is ever used twice with a key. The name is
 * authenticated too, so that a value cannot be moved to another cookie.
 */
export function createSealer(secrets: readonly KeyObject[], name: string): Sealer {
  const info = 'fastify-sesame visitor cookie'
  const newest = secrets[0] as KeyObject
  const context = Buffer.from(name)

  function keysOf(secret: KeyObject, salt: Buffer): [key: Buffer, nonce: Buffer] {
    const bytes = Buffer.from(hkdfSync('sha256', secret, salt, info, KEY_BYTES + NONCE_BYTES))
    return [bytes.subarray(0, KEY_BYTES), bytes.subarray(KEY_BYTES)]
  }

  function decrypt(secret: KeyObject, bytes: Buffer): string | undefined {
    const end = bytes.length - TAG_BYTES
    const decipher = createDecipheriv(CIPHER, ...keysOf(secret, bytes.subarray(0, SALT_BYTES)))
    decipher.setAAD(context).setAuthTag(bytes.subarray(end))
    try {
      return decipher.update(bytes.subarray(SALT_BYTES, end), undefined, 'utf8') + decipher.final('utf8')
    } catch {
      return undefined
    }
  }

  return {
    seal(text) {
      const salt = randomBytes(SALT_BYTES)
      const cipher = createCipheriv(CIPHER, ...keysOf(newest, salt)).setAAD(context)
      const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
      return Buffer.concat([salt, body, cipher.getAuthTag()]).toString('base64url')
    },
    open(value) {
      const bytes = Buffer.from(value, 'base64url')
      // Different texts can decode to the same bytes.
      if (bytes.length < SALT_BYTES + TAG_BYTES || bytes.toString('base64url') !== value) return undefined
      for (const secret of secrets) {
        const text = decrypt(secret, bytes)
        if (text !== undefined) return text
      }
      return undefined
    }
  }
}
