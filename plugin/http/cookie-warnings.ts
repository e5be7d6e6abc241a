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
