import type { FastifyReply } from 'fastify'

/**
 * Returns true if the headers of the reply have been sent. Does not ask the raw response itself, because
 * @fastify/express gives it a `headersSent` that is true before the onSend hooks run.
 */
export function areHeadersSent({ raw }: FastifyReply): boolean {
  return Reflect.get(Object.getPrototypeOf(raw) as object, 'headersSent', raw) === true
}

/** Adds `Cookie` to the reply's Vary header. */
export function varyByCookie(reply: FastifyReply): void {
  const vary = reply.getHeader('vary')
  if (vary === undefined) {
    reply.header('vary', 'Cookie')
    return
  }
  const fields = listOf(vary)
  if (!fields.some((field) => field === '*' || field.toLowerCase() === 'cookie')) {
    reply.header('vary', [...fields, 'Cookie'].join(', '))
  }
}

/** Adds `"cache"` to the reply's Clear-Site-Data header. */
export function addClearSiteData(reply: FastifyReply): void {
  const directives = listOf(reply.getHeader('clear-site-data') ?? [])
  if (directives.includes('"cache"') || directives.includes('"*"')) return
  reply.header('clear-site-data', [...directives, '"cache"'].join(', '))
}

/**
 * Moves the cookies that others set on the raw response to Fastify's reply. When Fastify sends the reply, its own
 * `Set-Cookie` replaces the one of the raw response.
 */
export function keepRawCookies(reply: FastifyReply): void {
  const { raw } = reply
  if (areHeadersSent(reply) || !raw.hasHeader('set-cookie')) return
  const cookies = [raw.getHeader('set-cookie'), reply.getHeader('set-cookie')].flat().map(String)
  reply.removeHeader('set-cookie')
  // If a stream failed before its first byte, the raw response already has copies of the reply's cookies.
  reply.header('set-cookie', [...new Set(cookies)])
}

/** Returns the elements of a header's comma-separated list (RFC 9110 section 5.6.1). */
function listOf(header: number | string | string[]): string[] {
  const elements = String(header).split(',')
  return elements.map((element) => element.trim()).filter((element) => element !== '')
}
