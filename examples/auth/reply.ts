import { STATUS_CODES } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Html } from './html.js'
import { errorPage, type Frame } from './pages.js'

export function sendPage(reply: FastifyReply, page: Html): FastifyReply {
  return reply.type('text/html; charset=utf-8').send(page.text)
}

/**
 * Sends an error as a page if the request accepts HTML, and as JSON otherwise. This function does not use the session,
 * because a refused cross-site request must not create a session.
 */
export function sendError(
  { headers }: FastifyRequest,
  reply: FastifyReply,
  statusCode: number,
  message: string
): FastifyReply {
  reply.code(statusCode)
  if (headers.accept?.includes('text/html') === true) return sendPage(reply, errorPage(statusCode, message))
  return reply.send({ statusCode, error: STATUS_CODES[statusCode], message })
}

/** Returns true if the client accepts JSON but not HTML. A browser accepts HTML when it opens a page. */
export function asksForJson({ headers: { accept = '' } }: FastifyRequest): boolean {
  return accept.includes('application/json') && !accept.includes('text/html')
}

/** Returns the values that every page needs. Reading a flash message removes it, so each message is shown only once. */
export function frameOf({ session }: FastifyRequest, reply: FastifyReply): Frame {
  const [success, error] = ['success', 'error'].map((key) => session.getFlash(key) as string | undefined)
  return { isSignedIn: session.has('userId'), success, error, csrf: reply.generateCsrf() }
}

/**
 * Returns the string in a field of a form or JSON body. Returns an empty string if the field is missing or is not a
 * string.
 */
export function fieldOf({ body }: FastifyRequest, name: string): string {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, name)) return ''
  const value = (body as Record<string, unknown>)[name]
  return typeof value === 'string' ? value : ''
}
