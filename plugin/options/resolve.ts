import { createSecretKey, type KeyObject } from 'node:crypto'
import { SessionOptionError } from '../errors.js'
import { cookieValueLength } from '../cookies/tokens.js'
import type { Predecessor } from '../migrate/predecessor.js'
import { ownOptions } from '../own-options.js'
import type { SessionStore } from '../types.js'
import { ALTERNATIVES } from './alternatives.js'
import { checkOptions } from '../rules.js'
import { compileSchema, type ProblemOf } from './schema.js'
import type { CookieOptions, CsrfOptions, SessionOptions } from './session-options.js'
import { resolvePredecessors, resolveStore } from './store-option.js'
import { COOKIE_OPTIONS, CSRF_OPTIONS, OPTIONS, type Option } from './table.js'

const SECRET_BYTES = 32
/** The maximum length of a cookie's name and value together. Browsers drop longer cookies: RFC 6265bis section 5.6. */
const COOKIE_BYTES = 4096
/** The options of Fastify's own `register`, which Fastify also passes on to the plugin. A `prefix` is refused. */
const FASTIFY_OPTIONS = new Set(['logLevel', 'logSerializers'])

/** The options `T` with their defaults. Only the options in `Absent` have no default and can be absent. */
type Filled<T, Absent extends keyof T = never> = {
  readonly [K in Exclude<keyof T, Absent>]-?: Exclude<T[K], undefined>
} & { readonly [K in Absent]?: Exclude<T[K], undefined> }

type FilledOptions = Filled<
  Omit<SessionOptions, 'cookie' | 'csrf'>,
  'idleTimeout' | 'store' | 'migrateFrom' | 'maxSessionsPerUser' | 'schema'
> & { readonly cookie: Filled<CookieOptions, 'domain'>; readonly csrf: Filled<CsrfOptions> }

/** All options after the defaults have been filled in. The object is frozen. Durations are in milliseconds. */
export type ResolvedOptions = Omit<FilledOptions, 'secret' | 'idleTimeout' | 'store'> & {
  readonly store: SessionStore
  /** The session libraries whose sessions move to this one. */
  readonly predecessors: readonly Predecessor[]
  /** The secrets as key objects, which cannot be changed and do not show the secrets when they are printed. */
  readonly secrets: readonly KeyObject[]
  /** The value is `Infinity` if there is no idle timeout. */
  readonly idleTimeout: number
  /** The lifetime of a session whose login has chosen no other. */
  readonly lifetime: Lifetime
  /** Checks a value against `schema`. `withSchema` sets this function. Without a schema, it accepts every value. */
  readonly problemOf: ProblemOf
}

/**
 * Checks the options given to `register` and fills in the defaults. Calls `makeStore` only if no store was given.
 * @throws {SessionOptionError} for the first wrong option. The message contains the option's name, its value (never a
 * secret) and the values that the option accepts.
 */
export function resolveOptions(given: SessionOptions, makeStore: () => SessionStore): ResolvedOptions {
  const options = checkAndFill(given)
  checkCookie(options)
  checkTimes(options)
  const { secret, cleanupInterval, cookie, csrf, ...rest } = options
  const maxAge = milliseconds(options.maxAge)
  const idleTimeout = milliseconds(options.idleTimeout ?? Infinity)
  return Object.freeze({
    ...rest,
    secrets: resolveSecrets(secret),
    maxAge,
    idleTimeout,
    lifetime: Object.freeze({ maxAge, idleTimeout, persistent: cookie.persistent }),
    cleanupInterval: cleanupInterval * 1000,
    cookie: Object.freeze(cookie),
    csrf: resolveCsrf(csrf),
    problemOf: () => undefined,
    predecessors: resolvePredecessors(options),
    store: resolveStore(options, makeStore)
  })
}

/** Returns a copy of the options with a compiled schema, or the same options if they have no schema. */
export async function withSchema(options: ResolvedOptions): Promise<ResolvedOptions> {
  if (options.schema === undefined) return options
  return Object.freeze({ ...options, problemOf: await compileSchema(options.schema) })
}

/** How long a session lives, in milliseconds. `idleTimeout` is `Infinity` if there is no idle timeout. */
export interface Lifetime {
  readonly maxAge: number
  readonly idleTimeout: number
  /** True if the cookie survives when the browser closes. */
  readonly persistent: boolean
}

/** Converts seconds to whole milliseconds, because a store may keep times as integers. */
export function milliseconds(seconds: number): number {
  return Math.max(1, Math.round(seconds * 1000))
}

/** Checks the options and fills in the defaults. Returns new objects and does not change the caller's objects. */
function checkAndFill(given: SessionOptions): FilledOptions {
  const own = Object.entries(given).filter(([name]) => !FASTIFY_OPTIONS.has(name))
  const options = fill(Object.fromEntries(own), OPTIONS, '') as FilledOptions
  const cookie = fill(options.cookie, COOKIE_OPTIONS, 'cookie.') as FilledOptions['cookie']
  const csrf = fill(options.csrf, CSRF_OPTIONS, 'csrf.') as FilledOptions['csrf']
  return { ...options, cookie, csrf }
}

/**
 * Returns an object on which every option of the table is an own property, even if its value is `undefined`. So an
 * option that was not given is not looked up on `Object.prototype`, which other code may have polluted.
 */
function fill(given: object, table: Readonly<Record<string, Option>>, prefix: string): object {
  checkOptions(given, table, prefix, ALTERNATIVES)
  const own = ownOptions(given as Record<string, unknown>)
  const filled = Object.entries(table).map(([name, option]): [string, unknown] => {
    const value = own[name]
    return [name, value === undefined ? ownOptions(option).default : value]
  })
  return Object.fromEntries(filled)
}

const { wrong } = SessionOptionError

/** Checks the attributes against RFC 6265bis sections 4.1.3 (prefixes) and 5.5 (SameSite), and CHIPS (Partitioned). */
function checkCookie({ cookie, cookieName, idLength }: FilledOptions): void {
  const requireSecure = (reason: string): void => {
    if (cookie.secure !== true)
      throw wrong('cookie.secure', cookie.secure, `true, because ${reason} needs it`)
  }
  const name = cookieName.toLowerCase()
  if (name.startsWith('__secure-')) requireSecure(`the name ${cookieName}`)
  if (name.startsWith('__host-')) {
    requireSecure(`the name ${cookieName}`)
    if (cookie.domain !== undefined)
      throw wrong('cookie.domain', cookie.domain, `absent with the name ${cookieName}`)
    if (cookie.path !== '/') throw wrong('cookie.path', cookie.path, `'/' with the name ${cookieName}`)
  }
  if (cookie.sameSite === 'none') requireSecure("sameSite: 'none'")
  if (cookie.partitioned) requireSecure('partitioned')
  // The visitor cookie's name then also fits, because its suffix is shorter than a session cookie's value. The length
  // of the visitor cookie's value is limited where the value is made.
  const room = COOKIE_BYTES - cookieValueLength(idLength)
  if (cookieName.length > room) {
    throw new SessionOptionError(
      'cookieName',
      `is ${cookieName.length} bytes long, but must be at most ${room}`
    )
  }
}

function checkTimes({ maxAge, idleTimeout }: FilledOptions): void {
  if (idleTimeout !== undefined && idleTimeout > maxAge) {
    throw wrong('idleTimeout', idleTimeout, `at most maxAge (${maxAge})`)
  }
}

function resolveSecrets(given: unknown): readonly KeyObject[] {
  if (!Array.isArray(given)) return Object.freeze([resolveSecret('secret', given)])
  if (given.length === 0)
    throw new SessionOptionError('secret', 'is an empty list, but must hold at least one secret')
  return Object.freeze(Array.from(given, (secret, index) => resolveSecret(`secret[${index}]`, secret)))
}

/** If a secret is wrong, the error contains its length or its type, but never the secret itself. */
function resolveSecret(option: string, secret: unknown): KeyObject {
  const fix = `${SECRET_BYTES} bytes. \`openssl rand -base64 32\` makes one`
  if (typeof secret !== 'string' && !(secret instanceof Uint8Array)) {
    const got = secret === undefined ? 'missing' : secret === null ? 'null' : `of type ${typeof secret}`
    throw new SessionOptionError(option, `is ${got}, but must be a string or Buffer of at least ${fix}`)
  }
  const bytes = Buffer.from(secret as Uint8Array)
  if (bytes.length < SECRET_BYTES)
    throw new SessionOptionError(option, `has ${bytes.length} bytes, but must have at least ${fix}`)
  // The key object has its own copy of the bytes, so it does not change if the caller erases or reuses the Buffer.
  const key = createSecretKey(bytes)
  // Erase the temporary copy of the secret, because it may be in the memory pool that Node shares among small Buffers.
  bytes.fill(0)
  return key
}

function resolveCsrf(csrf: FilledOptions['csrf']): ResolvedOptions['csrf'] {
  for (const origin of csrf.trustedOrigins) {
    if (!isOrigin(origin)) {
      throw wrong(
        'csrf.trustedOrigins',
        origin,
        'an exact origin in lower case: scheme, host and port, without a path or a trailing "/"'
      )
    }
  }
  if (!csrf.decorate && csrf.token && csrf.protect === 'all') {
    throw wrong(
      'csrf.protect',
      csrf.protect,
      "'origin' or 'routes', because with csrf.decorate: false this plugin makes no CSRF tokens. With csrf.token: " +
        "false, it can be 'all'"
    )
  }
  return Object.freeze({
    ...csrf,
    header: csrf.header.toLowerCase(),
    trustedOrigins: Object.freeze([...csrf.trustedOrigins])
  })
}

/**
 * The origin of a native shell or a browser extension, as it sends it. `URL` cannot check it: the `origin` of a URL with
 * such a scheme is always `'null'`.
 */
const SHELL_ORIGIN =
  /^(?:capacitor|ionic|tauri|chrome-extension|moz-extension):\/\/[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[1-9]\d{0,4})?$/

/** `text` is `undefined` for a hole in a sparse array, because the earlier check of the list skips holes. */
function isOrigin(text: string | undefined): boolean {
  return text !== undefined && (SHELL_ORIGIN.test(text) || isWebOrigin(text))
}

function isWebOrigin(text: string): boolean {
  return !text.includes('*') && URL.canParse(text) && /^https?:/.test(text) && new URL(text).origin === text
}
