import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { channels } from '../diagnostics.js'
import { CsrfError, type CsrfCode } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { stateOf } from './session-manager.js'
import { internals, type Session } from '../session/session.js'

/** Whether a request was made by a page of this site: where it comes from, then a token that only the site's pages know. */
export interface CsrfProtection {
  /** A fresh mask of the session's secret: 86 characters, base64url. Makes the secret, and so the session, on first use. */
  generate(session: Session): string
  /** The first door. @throws {CsrfError} `SESSION_CSRF_ORIGIN`. */
  checkOrigin(request: FastifyRequest): void
  /** The second door, once the body is read. @throws {CsrfError} `SESSION_CSRF_TOKEN`. */
  checkToken(request: FastifyRequest): void
}

const SECRET_BYTES = 32
/** Base64url of the pad and the masked secret. */
const TOKEN_SHAPE = /^[A-Za-z0-9_-]{86}$/
/** Methods that change nothing: RFC 9110 section 9.2.1. */
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS'])
/** A scheme that pages have, and a host and port with nothing around them. */
const HTTP_HOST = /^https?:\/\/[^\s/\\?#@]+$/i

export function createCsrf({ csrf }: ResolvedOptions): CsrfProtection {
  const isGuarded = ({ routeOptions }: FastifyRequest): boolean => routeOptions.config.csrf !== false
  const isChecked = (request: FastifyRequest): boolean =>
    !SAFE_METHODS.has(request.method) && isGuarded(request)

  /** A page of any site may open a WebSocket and read its answers: its handshake is a GET that CORS does not rule. */
  const isHandshake = (request: FastifyRequest): boolean =>
    request.raw.headers.upgrade !== undefined && isGuarded(request)

  return {
    generate: (session) => mask(secretOf(session) ?? newSecret(session)),
    checkOrigin(request) {
      if (!isChecked(request) && !isHandshake(request)) return
      const reason = foreignOrigin(request, csrf.trustedOrigins)
      if (reason === undefined) return
      // Not loaded yet under global protection: an error handler gets an empty session that is never kept.
      stateOf(request).session ??= 'failed'
      refuse(request, 'SESSION_CSRF_ORIGIN', reason)
    },
    checkToken(request) {
      if (!csrf.token || !isChecked(request)) return
      const token = request.headers[csrf.header] ?? bodyField(request, csrf.field)
      if (token === undefined) refuse(request, 'SESSION_CSRF_TOKEN', 'token-missing')
      // A route without a session has nothing that a token could be of, and reading it there throws.
      const secret = request.routeOptions.config.session === false ? undefined : secretOf(request.session)
      if (secret === undefined || !isMaskOf(secret, token))
        refuse(request, 'SESSION_CSRF_TOKEN', 'token-wrong')
    }
  }
}

/** Why the request's place of origin forbids it; `undefined` when it passes, or when only the token can tell. */
function foreignOrigin(
  { raw, protocol, host }: FastifyRequest,
  trusted: readonly string[]
): string | undefined {
  const origin = headerOf(raw, 'origin')
  const site = headerOf(raw, 'sec-fetch-site')
  const isTrusted = origin !== undefined && trusted.includes(origin)
  if (isTrusted || site === 'same-origin' || site === 'none') return undefined
  if (site !== undefined) return 'sec-fetch-site'
  return origin === undefined || origin === ownOrigin(protocol, host) ? undefined : 'origin'
}

/** A header as it was sent: a route's schema may have taken it out of `request.headers`, and so opened the door. */
function headerOf({ rawHeaders }: FastifyRequest['raw'], name: string): string | undefined {
  const values = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name)
  return values.length === 0 ? undefined : values.join(', ')
}

/** As a browser writes it, without the scheme's own port. Never `null`, the origin of another scheme and of a sandbox. */
function ownOrigin(protocol: string, host: string): string | undefined {
  const text = `${protocol}://${host}`
  return HTTP_HOST.test(text) && URL.canParse(text) ? new URL(text).origin : undefined
}

/** A form field of the parsed body. @fastify/multipart's `attachFieldsToBody: true` makes each field an object. */
function bodyField({ body, headers }: FastifyRequest, field: string): unknown {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, field)) return undefined
  const value = (body as Record<string, unknown>)[field]
  const isMultipart = headers['content-type']?.toLowerCase().startsWith('multipart/form-data') === true
  if (!isMultipart || typeof value !== 'object' || value === null) return value
  const { type, value: inner } = value as { type?: unknown; value?: unknown }
  return type === 'field' ? inner : undefined
}

function secretOf(session: Session): Buffer | undefined {
  const text = internals.csrfSecret(session)
  if (typeof text !== 'string') return undefined
  const secret = Buffer.from(text, 'base64url')
  return secret.length === SECRET_BYTES ? secret : undefined
}

function newSecret(session: Session): Buffer {
  const secret = randomBytes(SECRET_BYTES)
  internals.setCsrfSecret(session, secret.toString('base64url'))
  return secret
}

/** A pad and the secret XOR the pad, so that compression of a page beside chosen text cannot guess it (BREACH). */
function mask(secret: Buffer): string {
  const pad = randomBytes(SECRET_BYTES)
  return Buffer.concat([pad, xor(pad, secret)]).toString('base64url')
}

function isMaskOf(secret: Buffer, token: unknown): boolean {
  if (typeof token !== 'string' || !TOKEN_SHAPE.test(token)) return false
  const bytes = Buffer.from(token, 'base64url')
  return timingSafeEqual(xor(bytes.subarray(0, SECRET_BYTES), bytes.subarray(SECRET_BYTES)), secret)
}

function xor(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, index) => byte ^ (b[index] as number)))
}

function refuse({ method, url }: FastifyRequest, code: CsrfCode, reason: string): never {
  if (channels.csrfRefused.hasSubscribers) {
    channels.csrfRefused.publish({ reason, method, url: url.split('?', 1)[0] as string })
  }
  throw new CsrfError(code)
}
