import type { FastifyReply, FastifyRequest } from 'fastify'
import { countOf } from './cart.js'

/** Renders a template of the folder `views`. Each template gets `data`, and the values that the layout needs. */
export function page(
  request: FastifyRequest,
  reply: FastifyReply,
  view: string,
  data: object = {}
): Promise<string> {
  return reply.viewAsync(view, {
    ...headerOf(request),
    messages: messagesOf(request),
    // A function, because printing the first token changes the session. Pages without a form must not do that.
    csrf: () => reply.generateCsrf(),
    ...data
  })
}

/** Renders an error page. It only reads the session, because a refused or failed request must not change it. */
export function errorPage(request: FastifyRequest, reply: FastifyReply, data: object): Promise<string> {
  return reply.viewAsync('error', { ...headerOf(request), path: undefined, messages: {}, ...data })
}

function headerOf({ session, server, url }: FastifyRequest) {
  return {
    user: server.users.find(session.get('userId') ?? ''),
    cartCount: countOf(session.get('cart')),
    path: url.split('?', 1)[0]
  }
}

/**
 * Returns the flash messages. Reading them removes them, so each is shown only once. `requireAuth` sets its prompt to
 * sign in as `error`. The prompt is not the user's mistake, so this application uses `problem` for its own errors.
 */
function messagesOf({ session }: FastifyRequest) {
  return {
    success: session.getFlash('success'),
    notice: session.getFlash('error'),
    problem: session.getFlash('problem')
  }
}
