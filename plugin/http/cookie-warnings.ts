import type { FastifyRequest } from 'fastify'

const PLAIN_HTTP =
  'a Secure session cookie was sent over plain HTTP, and browsers drop it. ' +
  "Behind a TLS proxy set Fastify's trustProxy; without TLS set cookie.secure to 'auto'"
const SAFARI =
  'a Secure session cookie was sent over plain HTTP, and Safari drops it even on localhost. ' +
  "Set cookie.secure to 'auto'"

/** Returns a function that logs a warning the first time that it is called, and does nothing afterwards. */
export function createWarning(): (request: FastifyRequest, message: string) => void {
  let warned = false
  return function warn(request, message) {
    if (warned) return
    warned = true
    request.log.warn(`fastify-sesame: ${message}`)
  }
}

/**
 * Returns a function that warns if a Secure cookie is set on a request over plain HTTP. It logs one warning for Safari
 * on loopback hosts and one for other hosts. Other browsers accept such a cookie from a loopback host.
 */
export function createPlainHttpWarning(): (request: FastifyRequest) => void {
  const warn = createWarning()
  const warnOnLoopback = createWarning()
  return function warnOverHttp(request) {
    if (request.protocol === 'https') return
    if (!isLoopback(request.hostname)) warn(request, PLAIN_HTTP)
    else if (isSafari(request.headers['user-agent'])) warnOnLoopback(request, SAFARI)
  }
}

/**
 * Returns a function that warns if a cookie is set on a request for a path to which browsers do not send it. This can
 * be intended, but if such a route also uses sessions, it creates another one on each request.
 */
export function createPathWarning(cookiePath: string): (request: FastifyRequest) => void {
  const warn = createWarning()
  return function warnOutsidePath(request) {
    const path = request.originalUrl.split('?', 1)[0] as string
    // A proxy can send the whole URL instead of a path.
    if (!path.startsWith('/') || pathMatches(path, cookiePath)) return
    warn(
      request,
      `a session cookie was set on a request for '${path}', but cookie.path is '${cookiePath}', so browsers do not ` +
        'send the cookie to that path, and each request there can create another session. Set a cookie.path that ' +
        'covers both. If a proxy strips a prefix from the path, this warning can be ignored'
    )
  }
}

/** The path-match of RFC 6265 section 5.1.4. */
function pathMatches(path: string, cookiePath: string): boolean {
  return path === cookiePath || path.startsWith(cookiePath.endsWith('/') ? cookiePath : `${cookiePath}/`)
}

function isLoopback(hostname: string): boolean {
  return /^(?:.+\.)?localhost$|^127(?:\.\d+){3}$|^\[?::1\]?$/i.test(hostname)
}

/** Most browsers have "Safari/" in their User-Agent. Only Safari has "Version/" too and no name of another browser. */
function isSafari(userAgent = ''): boolean {
  return (
    userAgent.includes('Version/') &&
    userAgent.includes('Safari/') &&
    !/Chrom(?:e|ium)\/|Edg|Android/.test(userAgent)
  )
}
