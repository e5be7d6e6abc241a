import type { SerializeOptions } from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ResolvedOptions } from '../options/resolve.js'
import { visitorCookieName } from '../session/visitor.js'
import { createDomain } from './cookie-domain.js'
import { createPathWarning, createPlainHttpWarning } from './cookie-warnings.js'
import { addClearSiteData, keepRawCookies } from './reply-headers.js'

/** Returns the value of a Set-Cookie header. */
export type CookieWriter = (name: string, value: string, attributes?: SerializeOptions) => string

/** Reads, sets and clears one of the plugin's two cookies. */
export interface Cookie {
  readonly name: string
  /**
   * Returns the values of the cookie in the order sent, because other subdomains can set cookies with the same name. Of
   * the visitor cookie, it returns at most four.
   */
  read(header: string): string[]
  /** Returns true if a request's `Cookie` header contains the cookie, with any value. */
  isIn(header: string): boolean
  /**
   * Sets the cookie. `persistent` adds Max-Age, which never exceeds the time until `expiresAt` in ms since the epoch.
   * Otherwise, the browser deletes the cookie when it closes.
   */
  write(reply: FastifyReply, value: string, expiresAt: number, persistent: boolean): void
  /** Deletes the cookie. All attributes are repeated, because the browser would otherwise keep the old cookie. */
  clear(reply: FastifyReply): void
}

/**
 * The cookies of the plugin. Both have the attributes in `options.cookie`. But with `sameSite: 'strict'`, the visitor
 * cookie is Lax: a link from another site to a guarded page would otherwise lose the prompt and the return path.
 */
export interface Cookies {
  readonly session: Cookie
  readonly visitor: Cookie
  /** Sends `Clear-Site-Data: "cache"` if the option `clearSiteData` is on. Call this function if a session has ended. */
  clearSiteData(reply: FastifyReply): void
  /** Sets `Cache-Control: no-store` and Clear-Site-Data again, if the reply needs them and the handler changed them. */
  keepPrivate(reply: FastifyReply): void
}

/** All attributes of a cookie. The serializer would look up a missing attribute in a polluted `Object.prototype`. */
export type Attributes = { readonly [K in keyof SerializeOptions]-?: SerializeOptions[K] | undefined }

/** The properties in which the session cookie and the visitor cookie differ. */
interface Kind {
  readonly name: string
  readonly sameSite: ResolvedOptions['cookie']['sameSite']
  /** How many values to read. */
  readonly most: number
}

type Send = (reply: FastifyReply, kind: Kind, value: string, maxAge: number | undefined) => void

/** How many visitor cookies to read. Subdomains can set many, and decrypting one takes much longer than a signature. */
const VISITORS = 4
/** The attributes that no cookie of the plugin has. */
export const UNUSED = { encode: undefined, expires: undefined, priority: undefined }
const NO_STORE = ['cache-control', 'no-store'] as const

export function createCookies(options: ResolvedOptions, serialize: CookieWriter): Cookies {
  const { sameSite, path } = options.cookie
  const send = createSend(options, serialize)
  const warn = createPathWarning(path)
  const ofVisitors = sameSite === 'strict' ? 'lax' : sameSite
  const session = createCookie({ name: options.cookieName, sameSite, most: Infinity }, send, warn)
  const visitor = createCookie(
    { name: visitorCookieName(options.cookieName), sameSite: ofVisitors, most: VISITORS },
    send,
    warn
  )
  const isOurs = (text: string): boolean =>
    text.startsWith(`${session.name}=`) || text.startsWith(`${visitor.name}=`)
  /** The replies to requests in which a session has ended. */
  const ended = new WeakSet<FastifyReply>()
  function clearSiteData(reply: FastifyReply): void {
    if (!options.clearSiteData) return
    ended.add(reply)
    addClearSiteData(reply)
  }
  return {
    session,
    visitor,
    clearSiteData,
    keepPrivate(reply) {
      if (ended.has(reply)) addClearSiteData(reply)
      const cookies = [reply.getHeader('set-cookie') ?? []].flat()
      if (cookies.some((text) => isOurs(String(text)))) reply.header(...NO_STORE)
    }
  }
}

function createSend({ cookie }: ResolvedOptions, serialize: CookieWriter): Send {
  const { path, secure, httpOnly, partitioned } = cookie
  const fixed = { path, httpOnly, partitioned, ...UNUSED }
  const domainOf = createDomain(cookie.domain)
  const isSecure = (request: FastifyRequest): boolean =>
    secure === 'auto' ? request.protocol === 'https' : secure
  const warn = secure === true ? createPlainHttpWarning() : undefined
  return function send(reply, { name, sameSite }, value, maxAge) {
    const { request } = reply
    warn?.(request)
    const [domain, secure] = [domainOf(request), isSecure(request)]
    const attributes: Attributes = { ...fixed, sameSite, domain, secure, maxAge }
    keepRawCookies(reply)
    // Set the header on Fastify's reply, so that a handler that hijacks the reply can read it with getHeaders().
    reply.header('set-cookie', serialize(name, value, attributes as SerializeOptions))
    reply.header(...NO_STORE)
  }
}

function createCookie(kind: Kind, send: Send, warn: (request: FastifyRequest) => void): Cookie {
  const start = `${kind.name}=`
  return {
    name: kind.name,
    read: (header) => cookieValues(header, start, kind.most),
    isIn: (header) => cookieValues(header, start, 1).length > 0,
    write(reply, value, expiresAt, persistent) {
      warn(reply.request)
      send(reply, kind, value, persistent ? secondsUntil(expiresAt) : undefined)
    },
    clear: (reply) => send(reply, kind, '', 0)
  }
}

function secondsUntil(time: number): number {
  return Math.max(0, Math.floor((time - Date.now()) / 1000))
}

/** Finds cookies only at the start of the header or after a ";", where browsers put them: RFC 6265bis section 5.8.3. */
export function cookieValues(header: string, start: string, most: number): string[] {
  const values: string[] = []
  for (let at = header.indexOf(start); at !== -1;) {
    const before = skipSpaceBack(header, at)
    const next = header.indexOf(';', at)
    if (before === 0 || header[before - 1] === ';') {
      const end = skipSpaceBack(header, next === -1 ? header.length : next)
      values.push(header.slice(at + start.length, end))
    }
    if (next === -1 || values.length === most) break
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
