import { createRequire } from 'node:module'
import { location } from '#location'
import { SessionOptionError } from '../errors.js'
import { ownOptions } from '../own-options.js'
import { anything, checkOptions, number, text } from '../rules.js'
import {
  COOKIE_NAME,
  decoded,
  PREDECESSOR_RULES,
  requireOption,
  sharedOf,
  type OldSession,
  type Predecessor,
  type PredecessorOptions
} from './predecessor.js'

export interface SecureSessionOptions extends PredecessorOptions {
  /** The option `key` of @fastify/secure-session: a key of 32 bytes, its base64, or a list of keys. */
  readonly key?: string | Buffer | readonly (string | Buffer)[]
  /** The option `secret` of @fastify/secure-session, if it has no `key`. */
  readonly secret?: string
  /** The option `salt` of @fastify/secure-session, if it has one. */
  readonly salt?: string | Buffer
  /** The name of the cookie: the option `cookieName` or `sessionName` of @fastify/secure-session. Default: `'session'`. */
  readonly cookieName?: string
  /** The option `expiry` of @fastify/secure-session, in seconds. Default: 86,401. */
  readonly expiry?: number
  /** The time from which on old cookies are refused. Until then, a copy of an old cookie works, also after a logout. */
  readonly until: Date
}

/** The functions of libsodium that open a cookie. sodium-native has them. */
interface Sodium {
  crypto_secretbox_open_easy(message: Buffer, cipher: Buffer, nonce: Buffer, key: Buffer): boolean
  crypto_pwhash(
    key: Buffer,
    password: Buffer,
    salt: Buffer,
    ops: number,
    memory: number,
    algorithm: number
  ): void
  readonly crypto_secretbox_MACBYTES: number
  readonly crypto_secretbox_NONCEBYTES: number
  readonly crypto_secretbox_KEYBYTES: number
  readonly crypto_pwhash_SALTBYTES: number
  readonly crypto_pwhash_OPSLIMIT_MODERATE: number
  readonly crypto_pwhash_MEMLIMIT_MODERATE: number
  readonly crypto_pwhash_ALG_DEFAULT: number
}

const RULES = {
  key: anything,
  secret: text(/^/, 'a string'),
  salt: anything,
  cookieName: COOKIE_NAME,
  expiry: number('a number of seconds above 0', (value) => value > 0),
  ...PREDECESSOR_RULES
}
/** The salt that @fastify/secure-session uses if it is given none. It is public. */
const DEFAULT_SALT = 'mq9hDxBVDbspDR6nLfFT1g=='

/**
 * Describes the sessions of @fastify/secure-session, for the option `migrateFrom`. Needs the package sodium-native,
 * which @fastify/secure-session has installed.
 * @throws {SessionOptionError} if an option is unknown or wrong. A wrong key is found at registration.
 */
export function secureSession(given: SecureSessionOptions): Predecessor {
  checkOptions(given, RULES)
  const options = ownOptions(given)
  const { cookieName = 'session', expiry = 86_401 } = options
  requireOption('until', options.until, 'a Date, from which on old cookies are refused')
  if (options.key === undefined && options.secret === undefined)
    throw new SessionOptionError(
      'key',
      'is missing; give `key`, or `secret` and `salt`, as in the old application'
    )
  let openBox: Opener | undefined
  return {
    ...sharedOf(cookieName, options),
    ready() {
      const sodium = loadSodium()
      openBox = createOpener(sodium, keysOf(sodium, options))
    },
    open(value) {
      const box = openBox?.(decoded(value))
      const session = box && sessionOf(box.text, expiry)
      return session && { identity: box.identity, read: () => live(session), destroy: () => undefined }
    }
  }
}

/** Loads sodium-native only if it is needed, because it is a native module. */
function loadSodium(): Sodium {
  try {
    return createRequire(location)('sodium-native') as Sodium
  } catch (error) {
    const { message } = error as Error
    throw new SessionOptionError(
      'migrateFrom',
      `cannot load sodium-native, which opens the cookies of @fastify/secure-session; run npm install sodium-native (${message.split('\n', 1)[0]})`
    )
  }
}

function keysOf(sodium: Sodium, { key, secret, salt }: SecureSessionOptions): Buffer[] {
  if (key === undefined) return [derivedKey(sodium, secret as string, salt)]
  const given: readonly (string | Buffer)[] = Array.isArray(key) ? key : [key]
  const keys = given.map((each) => (typeof each === 'string' ? Buffer.from(each, 'base64') : each))
  const length = sodium.crypto_secretbox_KEYBYTES
  if (keys.length === 0 || keys.some((each) => !Buffer.isBuffer(each) || each.length !== length))
    throw new SessionOptionError('key', `must be a key of ${length} bytes, its base64, or a list of keys`)
  return keys
}

function derivedKey(sodium: Sodium, secret: string, given: string | Buffer | undefined): Buffer {
  const salt =
    given === undefined ? Buffer.from(DEFAULT_SALT, 'base64') : Buffer.from(given as string, 'ascii')
  if (salt.length !== sodium.crypto_pwhash_SALTBYTES)
    throw new SessionOptionError(
      'salt',
      `has ${salt.length} bytes, but must have ${sodium.crypto_pwhash_SALTBYTES}`
    )
  const key = Buffer.alloc(sodium.crypto_secretbox_KEYBYTES)
  sodium.crypto_pwhash(
    key,
    Buffer.from(secret),
    salt,
    sodium.crypto_pwhash_OPSLIMIT_MODERATE,
    sodium.crypto_pwhash_MEMLIMIT_MODERATE,
    sodium.crypto_pwhash_ALG_DEFAULT
  )
  return key
}

type Opener = (value: string) => { readonly identity: string; readonly text: string } | undefined

/** The cookie is the encrypted session and its nonce, both as base64, with a semicolon in between. */
function createOpener(sodium: Sodium, keys: readonly Buffer[]): Opener {
  return function open(value) {
    const [box = '', after] = value.split(';')
    if (after === undefined) return undefined
    const [cipher, nonce] = [Buffer.from(box, 'base64'), Buffer.from(after, 'base64')]
    if (cipher.length < sodium.crypto_secretbox_MACBYTES) return undefined
    if (nonce.length !== sodium.crypto_secretbox_NONCEBYTES) return undefined
    const message = Buffer.alloc(cipher.length - sodium.crypto_secretbox_MACBYTES)
    const isOpen = keys.some((key) => sodium.crypto_secretbox_open_easy(message, cipher, nonce, key))
    // Different base64 texts stand for the same bytes, so the text of the cookie does not identify the session.
    return isOpen
      ? { identity: Buffer.concat([nonce, cipher]).toString('base64'), text: message.toString() }
      : undefined
  }
}

function sessionOf(text: string, expiry: number): (OldSession & { expiresAt: number }) | undefined {
  try {
    const { __ts: createdAt, ...data } = JSON.parse(text) as Record<string, unknown>
    return typeof createdAt === 'number' ? { data, expiresAt: (createdAt + expiry) * 1000 } : undefined
  } catch {
    return undefined
  }
}

function live<S extends { readonly expiresAt: number }>(session: S): S | undefined {
  return Date.now() < session.expiresAt ? session : undefined
}
