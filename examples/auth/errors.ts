import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CsrfError } from 'fastify-sesame'
import { errorPage } from './page.js'

interface ErrorText {
  readonly title: string
  /** The visitor sees this text, so it must not contain internal details. */
  readonly text: string
}

const NOT_FOUND: ErrorText = { title: 'Page not found', text: 'This page does not exist.' }
const NO_ACCESS: ErrorText = { title: 'No access', text: 'Your account may not open this page.' }
const LIMITED: ErrorText = { title: 'Too many attempts', text: 'Please wait a minute, then try again.' }
const FAILED: ErrorText = {
  title: 'Something went wrong',
  text: 'This was not your fault. Please try again later.'
}
const FOREIGN_FORM: ErrorText = {
  title: 'The form was not sent',
  text: 'The form came from another website. Nothing was changed.'
}
const STALE_FORM: ErrorText = {
  title: 'The form was out of date',
  text: 'Nothing was changed. You may have signed in or out in another tab. Open the form again and resubmit it.'
}

/** Answers each error with a page if the request accepts HTML, and with JSON otherwise. */
export function addErrorPages(app: FastifyInstance): void {
  app.setNotFoundHandler((request, reply) => sendError(request, reply.code(404), NOT_FOUND))
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    const { statusCode = 500 } = error
    // The message of such an error may reveal internal details, so it is written only to the log.
    if (statusCode >= 500) request.log.error(error)
    return sendError(request, reply.code(statusCode), textOf(error, statusCode))
  })
}

function textOf(error: FastifyError, statusCode: number): ErrorText {
  if (error instanceof CsrfError) return error.code === 'SESSION_CSRF_TOKEN' ? STALE_FORM : FOREIGN_FORM
  if (statusCode >= 500) return FAILED
  if (statusCode === 403) return NO_ACCESS
  return statusCode === 429 ? LIMITED : { title: 'The request was refused', text: error.message }
}

function sendError(request: FastifyRequest, reply: FastifyReply, { title, text }: ErrorText) {
  const { statusCode } = reply
  if (request.headers.accept?.includes('text/html') === true) {
    return errorPage(request, reply, { title, text, form: formBefore(request) })
  }
  return reply.send({ statusCode, error: STATUS_CODES[statusCode], message: text })
}

/** Returns the page with the form that the browser has sent, but never a page of another site. */
function formBefore({ method, headers, protocol, host }: FastifyRequest): string | undefined {
  const { referer = '' } = headers
  return method === 'POST' && referer.startsWith(`${protocol}://${host}/`) ? referer : undefined
}
