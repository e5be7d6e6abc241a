import { STATUS_CODES } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Html } from './html.js'
import { errorPage, type Frame } from './pages.js'

export function sendPage(reply: FastifyReply, page: Html): FastifyReply {
  return reply.type('text/html; charset=utf-8').send(page.text)
}

/**
 * A page where the request accepts one, JSON otherwise. It leaves the session alone: a refused request of another site
 * must not make one.
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

/** Whether the answer is to be JSON, which a browser that opens a page does not ask for. */
export function asksForJson({ headers: { accept = '' } }: FastifyRequest): boolean {
  return accept.includes('application/json') && !accept.includes('text/html')
}

/** What every page shows: a token for its forms, and the messages, each once. */
export function frameOf({ session }: FastifyRequest, reply: FastifyReply): Frame {
  const [success, error] = ['success', 'error'].map((key) => session.getFlash(key) as string | undefined)
  return { isSignedIn: session.has('userId'), success, error, csrf: reply.generateCsrf() }
}

/** A text field of a form or a JSON body; empty where there is none, or something else than text. */
export function fieldOf({ body }: FastifyRequest, name: string): string {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, name)) return ''
  const value = (body as Record<string, unknown>)[name]
  return typeof value === 'string' ? value : ''
}
