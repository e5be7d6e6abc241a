import type { FastifyRequest } from 'fastify'

/** Returns a function that logs a warning the first time that it is called, and does nothing afterwards. */
export function createWarning(): (request: FastifyRequest, message: string) => void {
  let warned = false
  return function warn(request, message) {
    if (warned) return
    warned = true
    request.log.warn(`fastify-sesame: ${message}`)
  }
}

/** Returns a function that warns, once, if a request on which a Secure cookie is set came over plain HTTP. */
export function createPlainHttpWarning(): (request: FastifyRequest) => void {
  const warn = createWarning()
  return function warnOverHttp(request) {
    if (request.protocol === 'https' || isLoopback(request.hostname)) return
    warn(
      request,
      'a Secure session cookie was sent over plain HTTP, and browsers drop it. ' +
        "Behind a TLS proxy set Fastify's trustProxy; without TLS set cookie.secure to 'auto'"
    )
  }
}

/** Browsers accept a Secure cookie from a loopback address over plain HTTP. */
function isLoopback(hostname: string): boolean {
  return /^(?:.+\.)?localhost$|^127(?:\.\d+){3}$|^\[?::1\]?$/i.test(hostname)
}
