import type { SerializeOptions } from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ResolvedOptions } from '../options/resolve.js'

/** Returns the value of a Set-Cookie header. */
export type CookieWriter = (name: string, value: string, attributes?: SerializeOptions) => string

/** Reads, sets and clears the session cookie. */
export interface SessionCookie {
  /** Returns up to four session cookie values, because other subdomains can set cookies with the same name. */
  read(header: string): string[]
  /** Sets the cookie. Max-Age never exceeds the time until the session ends at `expiresAt`, in ms since the epoch. */
  write(reply: FastifyReply, value: string, expiresAt: number): void
  /** Deletes the cookie. All attributes are repeated, because the browser would otherwise keep the old cookie. */
  clear(reply: FastifyReply): void
  /** Sets `Cache-Control: no-store` again if the reply sets the session cookie and the handler changed this header. */
  keepPrivate(reply: FastifyReply): void
}

/** The maximum number of session cookies to read. Subdomains can set many, and verifying each one takes CPU time. */
const CANDIDATES = 4
const NO_STORE = ['cache-control', 'no-store'] as const

export function createCookie(options: ResolvedOptions, serialize: CookieWriter): SessionCookie {
  const { cookieName, cookie } = options
  const { persistent, secure, ...attributes } = cookie
  const isSecure = (request: FastifyRequest): boolean =>
    secure === 'auto' ? request.protocol === 'https' : secure
  const warn = secure === true ? createPlainHttpWarning() : undefined

  function send(reply: FastifyReply, value: string, maxAge: number | undefined): void {
    warn?.(reply.request)
    const all = { ...attributes, secure: isSecure(reply.request), ...(maxAge !== undefined && { maxAge }) }
    // Set the header on Fastify's reply, so that a handler that hijacks the reply can read it with getHeaders().
    reply.header('set-cookie', serialize(cookieName, value, all))
    reply.header(...NO_STORE)
  }

  return {
    read: (header) => cookieValues(header, `${cookieName}=`),
    write: (reply, value, expiresAt) => send(reply, value, persistent ? secondsUntil(expiresAt) : undefined),
    clear: (reply) => send(reply, '', 0),
    keepPrivate(reply) {
      const cookies = [reply.getHeader('set-cookie') ?? []].flat()
      if (cookies.some((text) => String(text).startsWith(`${cookieName}=`))) reply.header(...NO_STORE)
    }
  }
}

/** Adds `Cookie` to the reply's Vary header. */
export function varyByCookie(reply: FastifyReply): void {
  const vary = reply.getHeader('vary')
  if (vary === undefined) {
    reply.header('vary', 'Cookie')
    return
  }
  const fields = String(vary)
    .split(',')
    .map((field) => field.trim())
  if (!fields.some((field) => field === '*' || field.toLowerCase() === 'cookie')) {
    reply.header('vary', [...fields, 'Cookie'].join(', '))
  }
}

function secondsUntil(time: number): number {
  return Math.max(0, Math.floor((time - Date.now()) / 1000))
}

/** Finds cookies only at the start of the header or after a ";", where browsers put them: RFC 6265bis section 5.8.3. */
function cookieValues(header: string, start: string): string[] {
  const values: string[] = []
  for (let at = header.indexOf(start); at !== -1;) {
    const before = skipSpaceBack(header, at)
    const next = header.indexOf(';', at)
    if (before === 0 || header[before - 1] === ';') {
      const end = skipSpaceBack(header, next === -1 ? header.length : next)
      values.push(header.slice(at + start.length, end))
    }
    if (next === -1 || values.length === CANDIDATES) break
    at = header.indexOf(start, next)
  }
  return values
}

/** Moves `end` back over spaces and tabs. `trim()` would also remove characters that HTTP treats as content. */
function skipSpaceBack(header: string, end: number): number {
  let at = end
  while (at > 0 && (header[at - 1] === ' ' || header[at - 1] === '\t')) at--
  return at
}

function createPlainHttpWarning(): (request: FastifyRequest) => void {
  let warned = false
  return function warn(request) {
    if (warned || request.protocol === 'https' || isLoopback(request.hostname)) return
    warned = true
    request.log.warn(
      'fastify-sesame: a Secure session cookie was sent over plain HTTP, and browsers drop it. ' +
        "Behind a TLS proxy set Fastify's trustProxy; without TLS set cookie.secure to 'auto'"
    )
  }
}

/** Browsers accept a Secure cookie from a loopback address over plain HTTP. */
function isLoopback(hostname: string): boolean {
  return /^(?:.+\.)?localhost$|^127(?:\.\d+){3}$|^\[?::1\]?$/i.test(hostname)
}
