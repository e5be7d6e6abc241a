import type {} from '@fastify/cookie'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ResolvedOptions } from '../options/resolve.js'

/** What writes the text of a Set-Cookie header. */
export type CookieWriter = FastifyInstance['serializeCookie']

/** Reads, sets and clears the session cookie. */
export interface SessionCookie {
  /** The values of the first cookies of our name, in the order sent: a sibling host may have tossed one in front. */
  read(header: string): string[]
  /** `expiresAt`: when the session ends, in ms since the epoch. Max-Age is never longer than what remains. */
  write(reply: FastifyReply, value: string, expiresAt: number): void
  /** An empty cookie with Max-Age=0 and every other attribute repeated, without which a browser keeps the old one. */
  clear(reply: FastifyReply): void
  /** `Cache-Control: no-store` again, where our cookie is on the reply and the handler said something else since. */
  keepPrivate(reply: FastifyReply): void
}

/** Verifying a cookie costs an HMAC for each secret, and a sibling host can send many. */
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
    const own = { ...attributes, secure: isSecure(reply.request), ...(maxAge !== undefined && { maxAge }) }
    // Straight into the headers, so that a hijacked reply finds it in reply.getHeaders().
    reply.header('set-cookie', serialize(cookieName, value, own))
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

/** Says that the reply depends on the cookie, beside what the handler said it depends on. */
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

/** Only pairs that begin at the start or after ";": RFC 6265bis section 5.7.2 lets a browser send nothing else. */
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

/** Where the spaces and tabs that end at `end` begin. What trim() takes for space beside them is no HTTP's. */
function skipSpaceBack(header: string, end: number): number {
  let at = end
  while (at > 0 && (header[at - 1] === ' ' || header[at - 1] === '\t')) at--
  return at
}

/** Says once that a browser will drop a Secure cookie that came over plain HTTP. Loopback is exempt in browsers. */
function createPlainHttpWarning(): (request: FastifyRequest) => void {
  let said = false
  return function warn(request) {
    if (said || request.protocol === 'https' || isLoopback(request.hostname)) return
    said = true
    request.log.warn(
      'fastify-sesame: a Secure session cookie was sent over plain HTTP, and browsers drop it. ' +
        "Behind a TLS proxy set Fastify's trustProxy; without TLS set cookie.secure to 'auto'"
    )
  }
}

function isLoopback(hostname: string): boolean {
  return /^(?:.+\.)?localhost$|^127(?:\.\d+){3}$|^\[?::1\]?$/i.test(hostname)
}
