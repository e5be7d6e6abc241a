import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CsrfError } from 'fastify-sesame'

interface ErrorPage {
  readonly title: string
  /** The visitor sees this text, so it must not contain internal details. */
  readonly text: string
  /** The address of the link that leads on. Default: the home page. */
  readonly link?: string
  readonly linkText?: string
}

const FAILED: ErrorPage = {
  title: 'Something went wrong',
  text: 'This was not your fault. Please try again later.'
}
const PAGES: Record<number, ErrorPage> = {
  403: { title: 'No access', text: 'Your account may not open this page.' },
  404: { title: 'Page not found', text: 'This page does not exist.' },
  429: {
    title: 'Too many attempts',
    text: 'Please wait a minute, then try again.',
    link: '/login',
    linkText: 'Back to the sign-in page'
  }
}

/** Answers each error with a page if the request accepts HTML, and with JSON otherwise. */
export function addErrorPages(app: FastifyInstance): void {
  app.setNotFoundHandler((request, reply) => sendError(request, reply, 404, PAGES[404] as ErrorPage))
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    const { statusCode = 500, message } = error
    if (error instanceof CsrfError) return sendError(request, reply, statusCode, csrfPage(error, request))
    // The message of such an error may reveal internal details, so it is written only to the log.
    if (statusCode >= 500) request.log.error(error)
    const other = statusCode >= 500 ? FAILED : { title: 'The request was refused', text: message }
    return sendError(request, reply, statusCode, PAGES[statusCode] ?? other)
  })
}

/** Says why a form was refused, and links to the page of the form. */
function csrfPage({ code }: CsrfError, request: FastifyRequest): ErrorPage {
  if (code === 'SESSION_CSRF_ORIGIN') {
    return {
      title: 'The form was not sent',
      text: 'The form came from another website. Nothing was changed.'
    }
  }
  return {
    title: 'The form was out of date',
    text: 'Nothing was changed. You may have signed in or out in another tab. Open the form again and resubmit it.',
    link: ownPageBefore(request),
    linkText: 'Back to the form'
  }
}

/** Returns the page that the browser came from if it is a page of this server, and otherwise the home page. */
function ownPageBefore({ headers: { referer = '' }, protocol, host }: FastifyRequest): string {
  return referer.startsWith(`${protocol}://${host}/`) ? referer : '/'
}

/** This function does not use the session, because a refused cross-site request must not create a session. */
function sendError(request: FastifyRequest, reply: FastifyReply, statusCode: number, error: ErrorPage) {
  reply.code(statusCode)
  if (request.headers.accept?.includes('text/html') === true) return reply.viewAsync('error', error)
  return reply.send({ statusCode, error: STATUS_CODES[statusCode], message: error.text })
}
