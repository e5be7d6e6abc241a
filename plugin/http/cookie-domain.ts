import { isIP } from 'node:net'
import { inspect } from 'node:util'
import type { FastifyRequest } from 'fastify'
import type { CookieOptions } from '../options/session-options.js'
import { isHostName } from '../options/table.js'
import { createWarning } from './cookie-warnings.js'

type Domain = (request: FastifyRequest) => string | undefined

/**
 * Returns a function that returns the Domain attribute for a request. If the option `cookie.domain` is a function and
 * returns a domain that browsers would refuse, the cookie gets no Domain attribute, and one warning is logged.
 */
export function createDomain(domain: CookieOptions['domain']): Domain {
  if (typeof domain !== 'function') return () => domain
  const warn = createWarning()
  return function domainOf(request) {
    const { hostname, headers } = request
    const answer = domain({ hostname, headers })
    if (answer === undefined || isDomainOf(hostname, answer)) return answer
    warn(
      request,
      `the function cookie.domain returned ${inspect(answer)} for the host ${inspect(hostname)}, so the cookie was ` +
        'sent without Domain. Browsers accept only the host itself or a parent domain with at least two labels; ' +
        'return one of these, or undefined'
    )
    return undefined
  }
}

/**
 * Follows the domain-match of RFC 6265 section 5.1.3, which accepts no IP address. Browsers ignore a leading dot and
 * refuse top-level domains. They also refuse public suffixes such as `co.uk`, which are not known here.
 */
function isDomainOf(hostname: string, answer: unknown): boolean {
  if (!isHostName(answer) || isIP(hostname) !== 0) return false
  const domain = answer.toLowerCase().replace(/^\./, '')
  return domain.includes('.') && `.${hostname.toLowerCase()}`.endsWith(`.${domain}`)
}
