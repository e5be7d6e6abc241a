import type {} from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ResolvedOptions } from './options.js'

/** Reads, sets and clears the session cookie. */
export interface SessionCookie {
  /** The values of all cookies of our name, in the order sent: a sibling host may have tossed one in front. */
  read(header: string): string[]
  /** `expiresAt`: when the session ends, in ms since the epoch. Max-Age is never longer than what remains. */
  write(reply: FastifyReply, value: string, expiresAt: number): void
  /** An empty cookie with Max-Age=0 and every other attribute repeated, without which a browser keeps the old one. */
  clear(reply: FastifyReply): void
}

export function createCookie(options: ResolvedOptions): SessionCookie {
  const { cookieName, cookie } = options
  const { persistent, secure, ...attributes } = cookie
  const isSecure = (request: FastifyRequest): boolean =>
    secure === 'auto' ? request.protocol === 'https' : secure
  const warn = secure === true ? createPlainHttpWarning() : undefined

  function send(reply: FastifyReply, value: string, maxAge: number | undefined): void {
    warn?.(reply.request)
    const own = { ...attributes, secure: isSecure(reply.request), ...(maxAge !== undefined && { maxAge }) }
    // Straight into the headers, so that a hijacked reply finds it in reply.getHeaders().
    reply.header('set-cookie', reply.server.serializeCookie(cookieName, value, own))
    reply.header('cache-control', 'no-store')
  }

  return {
    read: (header) => cookieValues(header, cookieName),
    write: (reply, value, expiresAt) => send(reply, value, persistent ? secondsUntil(expiresAt) : undefined),
    clear: (reply) => send(reply, '', 0)
  }
}

/** Says that the reply depends on the cookie, beside what the handler said it depends on. */
export function varyByCookie(reply: FastifyReply): void {
  const vary = reply.getHeader('vary')
  const fields =
    vary === undefined
      ? []
      : String(vary)
          .split(',')
          .map((field) => field.trim())
  if (!fields.some((field) => field === '*' || field.toLowerCase() === 'cookie')) {
    reply.header('vary', [...fields, 'Cookie'].join(', '))
  }
}

function secondsUntil(time: number): number {
  return Math.max(0, Math.floor((time - Date.now()) / 1000))
}

/** Only pairs that begin at the start or after "; ": RFC 6265bis section 5.7.2 lets a browser send nothing else. */
function cookieValues(header: string, name: string): string[] {
  const values: string[] = []
  const start = `${name}=`
  for (let at = header.indexOf(start); at !== -1; at = header.indexOf(start, at + start.length)) {
    if (!isPairStart(header, at)) continue
    const end = header.indexOf(';', at)
    values.push(header.slice(at + start.length, end === -1 ? undefined : end).trimEnd())
  }
  return values
}

function isPairStart(header: string, at: number): boolean {
  let before = at - 1
  while (before >= 0 && header[before] === ' ') before--
  return before < 0 || header[before] === ';'
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
