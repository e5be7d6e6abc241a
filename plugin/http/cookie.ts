import type { SerializeOptions } from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ResolvedOptions } from '../options/resolve.js'

/** Returns the text of a Set-Cookie header. */
export type CookieWriter = (name: string, value: string, attributes?: SerializeOptions) => string

/** Reads, sets and clears the session cookie. */
export interface SessionCookie {
  /** Returns the values of the first four cookies with our name, in the order sent. A sibling host may have set some. */
  read(header: string): string[]
  /** Sets the cookie. `expiresAt`: when the session ends, in ms since the epoch. Max-Age never outlasts the session. */
  write(reply: FastifyReply, value: string, expiresAt: number): void
  /** Sends an empty cookie with Max-Age=0. Repeats every attribute, or the browser would keep the old cookie. */
  clear(reply: FastifyReply): void
  /** Sets `Cache-Control: no-store` again if our cookie is on the reply and the handler has changed the header since. */
  keepPrivate(reply: FastifyReply): void
}

/** The most cookies with our name that are read. A sibling host can set many, and each costs an HMAC for every secret. */
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
    // Set on Fastify's reply, so that code that hijacks the reply can copy the header from reply.getHeaders().
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

/** Reads pairs only at the start of the header or after ";". A browser sends no others: RFC 6265bis section 5.8.3. */
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

/** Returns `end` moved back over spaces and tabs. `trim()` would also strip characters that HTTP counts as content. */
function skipSpaceBack(header: string, end: number): number {
  let at = end
  while (at > 0 && (header[at - 1] === ' ' || header[at - 1] === '\t')) at--
  return at
}

/** Returns a function that warns once if a browser will drop a Secure cookie because it was sent over plain HTTP. */
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
