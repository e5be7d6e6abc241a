import { createSecretKey, type KeyObject } from 'node:crypto'
import type { TObject, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Errors } from 'typebox/value'
import type { ProblemOf } from '../session/changes.js'
import { SessionOptionError } from '../errors.js'
import { OptionsSchema, type CompleteOptions as Complete } from './schema.js'
import { migrating } from '../stores/migrating.js'
import { cookieValueLength } from '../cookies/tokens.js'
import type { SessionStore } from '../types.js'

const SECRET_BYTES = 32
/** RFC 6265bis section 5.6: a browser drops a cookie whose name and value are longer together. */
const COOKIE_BYTES = 4096

type Partially<T> = { [K in keyof T]?: T[K] | undefined }

/** What `register` takes. Only `secret` is required. */
export type SessionOptions = Partially<Omit<Complete, 'secret' | 'cookie' | 'csrf'>> &
  Pick<Complete, 'secret'> & {
    cookie?: Partially<Complete['cookie']> | undefined
    csrf?: Partially<Complete['csrf']> | undefined
  }

/** All options, complete and frozen. Durations are in milliseconds. */
export type ResolvedOptions = Readonly<
  Omit<
    Complete,
    'secret' | 'maxAge' | 'idleTimeout' | 'cleanupInterval' | 'store' | 'cookie' | 'csrf' | 'schema'
  >
> & {
  readonly store: SessionStore
  /** Opaque, so that printing the options prints no secret, and nobody can change one. */
  readonly secrets: readonly KeyObject[]
  readonly maxAge: number
  /** `Infinity` when there is no idle timeout. */
  readonly idleTimeout: number
  readonly cleanupInterval: number
  readonly cookie: Readonly<Complete['cookie']>
  /** What the schema says against a value at a key; `undefined` when that is nothing. */
  readonly problemOf: ProblemOf
  readonly csrf: Readonly<Omit<Complete['csrf'], 'trustedOrigins'>> & {
    readonly trustedOrigins: readonly string[]
  }
}

/** What Fastify itself puts among a plugin's options. */
const FASTIFY_OWN = new Set(['prefix', 'logLevel', 'logSerializers'])

/**
 * Checks what `register` was given and completes it; `makeStore` is called only when no store was given.
 * @throws {SessionOptionError} for the first wrong option, with its name, what it got and what it wants.
 */
export function resolveOptions(given: SessionOptions, makeStore: () => SessionStore): ResolvedOptions {
  const options = withDefaults(given)
  checkShape(options)
  checkCookie(options)
  checkTimes(options)
  const { secret, maxAge, idleTimeout, cleanupInterval, cookie, csrf, schema, ...rest } = options
  return Object.freeze({
    ...rest,
    secrets: resolveSecrets(secret),
    maxAge: milliseconds(maxAge),
    idleTimeout: milliseconds(idleTimeout ?? Infinity),
    cleanupInterval: cleanupInterval * 1000,
    cookie: Object.freeze(cookie),
    csrf: resolveCsrf(csrf),
    problemOf: resolveSchema(schema),
    store: resolveStore(options, makeStore)
  })
}

/** Whole, because a store may keep times as integers. */
function milliseconds(seconds: number): number {
  return Math.max(1, Math.round(seconds * 1000))
}

/** A fresh object: what the caller holds is never changed. An option that is `undefined` counts as not given. */
function withDefaults(given: SessionOptions): Complete {
  const own = Object.entries(given).filter(([key, value]) => !FASTIFY_OWN.has(key) && value !== undefined)
  const options: Record<string, unknown> = { cookie: {}, csrf: {}, ...Object.fromEntries(own) }
  options['cookie'] = fill(OptionsSchema.properties.cookie, options['cookie'])
  options['csrf'] = fill(OptionsSchema.properties.csrf, options['csrf'])
  return fill(OptionsSchema, options) as Complete
}

function fill(schema: TObject, given: unknown): unknown {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return given
  const entries = Object.entries(given).filter(([, value]) => value !== undefined)
  const defaults = Object.entries(schema.properties).filter(([, property]) => 'default' in property)
  return Object.fromEntries([
    ...defaults.map(([key, property]) => [key, (property as { default: unknown }).default]),
    ...entries
  ])
}

function checkShape(options: Complete): void {
  const error = Errors(OptionsSchema, options).find(({ instancePath }) => instancePath !== '')
  if (error === undefined) return
  let schema: TSchema = OptionsSchema
  let value: unknown = options
  const path: string[] = []
  for (const escaped of error.instancePath.slice(1).split('/')) {
    if (!('properties' in schema)) break
    const name = escaped.replaceAll('~1', '/').replaceAll('~0', '~')
    path.push(name)
    const { properties } = schema as TObject
    if (!Object.hasOwn(properties, name)) throw unknown(path, Object.keys(properties))
    schema = properties[name] as TSchema
    value = (value as Record<string, unknown>)[name]
  }
  throw wrong(path.join('.'), value, (schema as unknown as { want: string }).want)
}

function unknown(path: readonly string[], known: readonly string[]): SessionOptionError {
  return new SessionOptionError(path.join('.'), `is unknown; the options here are ${known.join(', ')}`)
}

const { wrong } = SessionOptionError

/** RFC 6265bis sections 4.1.3 (prefixes), 5.5 (SameSite, Max-Age) and CHIPS (Partitioned). */
function checkCookie({ cookie, cookieName, idLength }: Complete): void {
  const insecure = (what: string): void => {
    if (cookie.secure !== true) throw wrong('cookie.secure', cookie.secure, `true, because ${what} needs it`)
  }
  const name = cookieName.toLowerCase()
  if (name.startsWith('__secure-')) insecure(`the name ${cookieName}`)
  if (name.startsWith('__host-')) {
    insecure(`the name ${cookieName}`)
    if (cookie.domain !== undefined)
      throw wrong('cookie.domain', cookie.domain, `absent with the name ${cookieName}`)
    if (cookie.path !== '/') throw wrong('cookie.path', cookie.path, `'/' with the name ${cookieName}`)
  }
  if (cookie.sameSite === 'none') insecure("sameSite: 'none'")
  if (cookie.partitioned) insecure('partitioned')
  const room = COOKIE_BYTES - cookieValueLength(idLength)
  if (cookieName.length > room) {
    throw new SessionOptionError(
      'cookieName',
      `is ${cookieName.length} bytes long, but must be at most ${room}`
    )
  }
}

function checkTimes({ maxAge, idleTimeout }: Complete): void {
  if (idleTimeout !== undefined && idleTimeout > maxAge) {
    throw wrong('idleTimeout', idleTimeout, `at most maxAge (${maxAge})`)
  }
}

/** Each property by itself, so that reading one key checks one value. */
function resolveSchema(schema: unknown): ProblemOf {
  if (schema === undefined) return () => undefined
  if (!isObjectSchema(schema)) throw wrong('schema', schema, 'a TypeBox object: Type.Object({ … })')
  const { properties, additionalProperties } = schema
  const validators = new Map(Object.entries(properties).map(([key, property]) => [key, Compile(property)]))
  return (key, value) => {
    const validator = validators.get(key)
    if (key.startsWith('$')) return undefined
    if (validator === undefined) return additionalProperties === false ? 'is not in the schema' : undefined
    if (validator.Check(value)) return undefined
    const { instancePath, message } = validator.Errors(value)[0] as { instancePath: string; message: string }
    return `${instancePath === '' ? '' : `at ${instancePath} `}${message}`
  }
}

function isObjectSchema(schema: unknown): schema is TObject & { additionalProperties?: unknown } {
  const { properties } = Object(schema) as { properties?: unknown }
  return isObject(properties) && Object.values(properties).every(isObject)
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function resolveSecrets(given: unknown): readonly KeyObject[] {
  if (!Array.isArray(given)) return Object.freeze([resolveSecret('secret', given)])
  if (given.length === 0)
    throw new SessionOptionError('secret', 'is an empty list, but must hold at least one secret')
  return Object.freeze(Array.from(given, (secret, index) => resolveSecret(`secret[${index}]`, secret)))
}

/** Says how long a wrong secret is, never what it is. */
function resolveSecret(option: string, secret: unknown): KeyObject {
  const fix = `${SECRET_BYTES} bytes. \`openssl rand -base64 32\` makes one`
  if (typeof secret !== 'string' && !(secret instanceof Uint8Array)) {
    const got = secret === undefined ? 'missing' : secret === null ? 'null' : `of type ${typeof secret}`
    throw new SessionOptionError(option, `is ${got}, but must be a string or Buffer of at least ${fix}`)
  }
  const bytes = Buffer.from(secret as Uint8Array)
  if (bytes.length < SECRET_BYTES)
    throw new SessionOptionError(option, `has ${bytes.length} bytes, but must have at least ${fix}`)
  // A copy, so that a Buffer that the caller wipes or reuses does not change the key.
  const key = createSecretKey(bytes)
  // Ours lies in the memory that Node shares among small Buffers.
  bytes.fill(0)
  return key
}

function resolveCsrf(csrf: Complete['csrf']): ResolvedOptions['csrf'] {
  for (const origin of csrf.trustedOrigins) {
    if (!isOrigin(origin)) {
      throw wrong(
        'csrf.trustedOrigins',
        origin,
        'an exact origin: scheme, host and port, without a path or a trailing "/"'
      )
    }
  }
  return Object.freeze({
    ...csrf,
    header: csrf.header.toLowerCase(),
    trustedOrigins: Object.freeze([...csrf.trustedOrigins])
  })
}

/** Not of a hole in the list, which the schema passes over. */
function isOrigin(text: string | undefined): boolean {
  return (
    text !== undefined &&
    !text.includes('*') &&
    URL.canParse(text) &&
    /^https?:/.test(text) &&
    new URL(text).origin === text
  )
}

function resolveStore(
  { store: given, migrateFrom, maxSessionsPerUser, storeTimeout }: Complete,
  makeStore: () => SessionStore
): SessionStore {
  const methods = ['get', 'create', 'update', 'destroy', ...(maxSessionsPerUser ? ['listByUser'] : [])]
  // Not of null, which is a store that could not be made: its sessions must not go elsewhere unseen.
  const store = given === undefined ? makeStore() : given
  checkStore('store', store, methods)
  if (migrateFrom === undefined) return store
  checkStore('migrateFrom', migrateFrom, methods)
  return migrating(store, migrateFrom, storeTimeout)
}

function checkStore(option: string, store: SessionStore, methods: readonly string[]): void {
  const missing = methods.filter((name) => typeof Reflect.get(Object(store) as object, name) !== 'function')
  if (missing.length > 0) {
    const hint = 'an express-session store is wrapped with fromExpressStore() first'
    throw new SessionOptionError(option, `lacks ${missing.join(', ')}; ${hint}`)
  }
  // Each digit more makes a rotation 16 times dearer: five would take a second.
  const { rotationPrefix = 0 } = store
  if (![0, 1, 2, 3, 4].includes(rotationPrefix))
    throw wrong(`${option}.rotationPrefix`, rotationPrefix, 'a whole number from 0 to 4')
}
