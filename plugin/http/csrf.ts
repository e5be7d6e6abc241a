import type { FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import type { CsrfReason } from '../diagnostics.js'
import { SessionOptionError, SessionUsageError } from '../errors.js'
import { CSRF_KEY } from '../session/record.js'
import { Session } from '../session/session.js'
import type { AnyReply, AnyRequest } from './any-server.js'
import { refuse } from './csrf-refusal.js'
import { isTokenOf, makeSecret, tokenOf, toSecret } from './csrf-token.js'
import type { RequestSessions } from './request-sessions.js'
import { csrfConfigOf, sessionConfigOf } from './request-state.js'

/** Checks the origin and the CSRF token of a request. Only pages of this site know a valid token. */
export interface CsrfProtection {
  /** Returns a new CSRF token of 86 characters. Creates the session's CSRF secret on the first call. */
  generate(session: Session): string
  /** Checks the origin of a request before its body is read, if `csrf.protect` or the route's `config` asks for it. */
  checkFirst(request: FastifyRequest): void
  /** Checks the origin of a request. @throws {CsrfError} `SESSION_CSRF_ORIGIN` if the origin is refused. */
  checkOrigin(request: FastifyRequest): void
  /**
   * Checks the CSRF token of a request with a parsed body.
   * @throws {CsrfError} `SESSION_CSRF_TOKEN` if it is wrong.
   * @throws {SessionOptionError} if `csrf.decorate` is `false`, because there are no tokens.
   */
  checkToken(request: FastifyRequest): void
  /** Checks a CSRF token that the handler has read. @throws {CsrfError} `SESSION_CSRF_TOKEN` if it is wrong. */
  verify(request: FastifyRequest, token: unknown): void
}

/** The key of the plugin's `CsrfProtection` on the Fastify instance. */
export const kCsrf = Symbol('fastify-sesame.csrf')

declare module 'fastify' {
  interface FastifyInstance {
    /** @internal This property is absent if the plugin is not registered. */
    [kCsrf]?: CsrfProtection
  }
}

/** The HTTP methods that do not change anything: RFC 9110 section 9.2.1. */
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS'])
/** Headers in which other libraries send a token: @fastify/csrf-protection, csurf, axios and Angular. */
const COMMON_HEADERS = ['csrf-token', 'xsrf-token', 'x-xsrf-token']
const HTTP_HOST = /^https?:\/\/[^\s/\\?#@]+$/i

/**
 * A preHandler that refuses requests that were not made by a page of this site: it checks the origin and the CSRF
 * token. It lets GET, HEAD and OPTIONS requests pass, except for the handshake of a WebSocket from another origin.
 * @throws {CsrfError} `SESSION_CSRF_ORIGIN` or `SESSION_CSRF_TOKEN`, if the request is refused.
 * @throws {SessionUsageError} `SESSION_PLUGIN_MISSING` at the first request, if the session plugin is not registered.
 * @throws {SessionOptionError} if it would check a token, but the plugin's option `csrf.decorate` is `false`.
 */
export function csrfProtection(request: AnyRequest, _reply: AnyReply, done: HookHandlerDoneFunction): void {
  const csrf = request.server[kCsrf]
  if (csrf === undefined)
    throw new SessionUsageError(
      'SESSION_PLUGIN_MISSING',
      'csrfProtection needs fastify-sesame: register it in the scope of the route or in a parent scope'
    )
  csrf.checkOrigin(request as FastifyRequest)
  csrf.checkToken(request as FastifyRequest)
  done()
}

export function createCsrf(sessions: RequestSessions): CsrfProtection {
  const { csrf } = sessions.options
  const tokenHeaders = [csrf.header, ...COMMON_HEADERS]
  return {
    generate(session) {
      Session.stateOf(session).refreshVisitor()
      return tokenOf(secretOf(session) ?? newSecret(session))
    },
    checkFirst(request) {
      if (!isChecked(request)) return
      if (csrf.protect !== 'routes' || csrfConfigOf(request) === 'origin') this.checkOrigin(request)
    },
    checkOrigin(request) {
      if (!isChecked(request) || csrfConfigOf(request) === false) return
      const origin = headerOf(request.raw, 'origin')
      const site = headerOf(request.raw, 'sec-fetch-site')
      if (origin !== undefined && csrf.trustedOrigins.includes(origin)) return
      const reason = foreignReason(request, origin, site)
      if (reason === undefined) return
      refuse(request, reason, { origin, site, own: ownOrigin(request) })
    },
    checkToken(request) {
      if (!csrf.token || SAFE_METHODS.has(request.method)) return
      const config = csrfConfigOf(request)
      if (config === false || config === 'origin') return
      if (!csrf.decorate) throw withoutTokens()
      const token = headerToken(request, tokenHeaders) ?? bodyField(request, csrf.field)
      if (token === undefined) refuse(request, isBodyUnparsed(request) ? 'body-not-parsed' : 'token-missing')
      // A route with `session: false` has no session that could hold a secret. Accessing `request.session` would throw.
      const session = sessionConfigOf(request) === false ? undefined : request.session
      verify(request, session, token)
    },
    verify(request, token) {
      if (!csrf.decorate) throw withoutTokens()
      verify(request, request.session, token)
    }
  }
}

/** Returns the error for a check that no request could pass, because nothing makes tokens. */
function withoutTokens(): SessionOptionError {
  return SessionOptionError.wrong(
    'csrf.decorate',
    false,
    "true, because this route checks a CSRF token of fastify-sesame. To check a token of the other package, use that package's " +
      'app.csrfProtection. To check only the origin, set csrf.token to false, and do not call request.verifyCsrf()'
  )
}

/**
 * Returns true if the request can change something, or if it is the handshake of a WebSocket. CORS does not apply to
 * WebSockets, so without a check of the handshake, any site could open one and read from it.
 */
function isChecked({ method, raw }: FastifyRequest): boolean {
  return !SAFE_METHODS.has(method) || raw.headers.upgrade !== undefined
}

/** Returns why the origin is refused, or `undefined` if it is the application's own or if no header reveals it. */
function foreignReason(
  request: FastifyRequest,
  origin: string | undefined,
  site: string | undefined
): CsrfReason | undefined {
  if (site === 'same-origin' || site === 'none') return undefined
  if (site !== undefined) return 'sec-fetch-site'
  if (origin === undefined || origin === ownOrigin(request)) return undefined
  return origin === 'null' ? 'origin-null' : 'origin'
}

/** Returns a header as the client sent it. The schema of a route may have removed the header from `request.headers`. */
function headerOf({ rawHeaders }: FastifyRequest['raw'], name: string): string | undefined {
  const values = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name)
  return values.length === 0 ? undefined : values.join(', ')
}

/** Returns this site's origin without the default port. The result is never `'null'`, the origin of sandboxed pages. */
function ownOrigin({ protocol, host }: FastifyRequest): string | undefined {
  const text = `${protocol}://${host}`
  return HTTP_HOST.test(text) && URL.canParse(text) ? new URL(text).origin : undefined
}

function headerToken({ headers }: FastifyRequest, names: readonly string[]): unknown {
  const name = names.find((name) => headers[name] !== undefined)
  return name === undefined ? undefined : headers[name]
}

/** Returns a field of the body. With `attachFieldsToBody: true`, @fastify/multipart wraps each field in an object. */
function bodyField({ body, headers }: FastifyRequest, field: string): unknown {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, field)) return undefined
  const value = (body as Record<string, unknown>)[field]
  const isMultipart = headers['content-type']?.toLowerCase().startsWith('multipart/form-data') === true
  if (!isMultipart || typeof value !== 'object' || value === null) return value
  const { type, value: inner } = value as { type?: unknown; value?: unknown }
  return type === 'field' ? inner : undefined
}

/** Returns true if the request has a body that is not an object with fields, such as text, a Buffer or a stream. */
function isBodyUnparsed({ body, raw: { headers } }: FastifyRequest): boolean {
  const { 'content-type': type, 'content-length': length = '0', 'transfer-encoding': encoding } = headers
  if (type === undefined && length === '0' && encoding === undefined) return false
  if (typeof body !== 'object' || body === null) return true
  return Symbol.iterator in body || Symbol.asyncIterator in body
}

function verify(request: FastifyRequest, session: Session | undefined, token: unknown): void {
  if (token === undefined) refuse(request, 'token-missing')
  if (session === undefined || !isValid(request, session, token)) refuse(request, 'token-wrong')
}

/**
 * A form may have been printed while SameSite withheld the session cookie. Its token belongs to the visitor cookie. It
 * counts only if the browser says that the form is of this origin, because another subdomain can set a visitor cookie.
 */
function isValid(request: FastifyRequest, session: Session, token: unknown): boolean {
  const secret = secretOf(session)
  if (secret !== undefined && isTokenOf(secret, token)) return true
  if (headerOf(request.raw, 'sec-fetch-site') !== 'same-origin') return false
  const other = toSecret(Session.stateOf(session).secretBesideSession)
  return other !== undefined && isTokenOf(other, token)
}

function secretOf(session: Session): string | undefined {
  return toSecret(Session.stateOf(session).own(CSRF_KEY))
}

function newSecret(session: Session): string {
  const secret = makeSecret()
  Session.stateOf(session).setOwn(CSRF_KEY, secret)
  return secret
}
