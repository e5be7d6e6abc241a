import type { FastifyRequest } from 'fastify'
import { channels, type CsrfReason } from '../diagnostics.js'
import { CsrfError } from '../errors.js'

/** Each text explains a refusal, and how to let the request pass if it is intended. The reply does not contain it. */
const EXPLANATIONS: Readonly<Record<CsrfReason, string>> = {
  'token-missing':
    'it has no CSRF token. Send the result of reply.generateCsrf() in the header or the body field that csrf.header ' +
    'and csrf.field name. If the schema of the route removes unknown properties, list the token there',
  'token-wrong':
    'its CSRF token is not valid in its session. The form may be older than the last login or logout, or the browser ' +
    'did not send the session cookie. Load the form again',
  'body-not-parsed':
    'it has no CSRF token in a header, and its body was not parsed into an object with fields. Register a parser for ' +
    "its content type (@fastify/multipart with attachFieldsToBody), or set config: { csrf: 'origin' } on the route " +
    'and call request.verifyCsrf(token)',
  'sec-fetch-site':
    'the browser says that a page of another origin sent it. If this is intended, such as a sign-in with Apple, a ' +
    'SAML response or the return from a payment page, set config: { csrf: false } on the route or add the origin to ' +
    'csrf.trustedOrigins',
  origin:
    "its Origin is not the application's own. Behind a proxy that terminates TLS, set Fastify's trustProxy. If the " +
    'request is meant to come from another site, such as a sign-in with Apple, a SAML response or the return from a ' +
    'payment page, set config: { csrf: false } on the route or add the origin to csrf.trustedOrigins',
  'origin-null':
    'its Origin is null. Over plain HTTP, a page with Referrer-Policy: no-referrer causes this: use HTTPS or the ' +
    'policy same-origin. Sandboxed frames and redirects from other sites cause it too'
}

/**
 * Refuses a request. The reply says only which check failed, while the log and the channel tell the reasons apart.
 * `details` are for the log and must not contain a token.
 */
export function refuse(request: FastifyRequest, reason: CsrfReason, details: object = {}): never {
  const { method, url, log } = request
  const message = { reason, method, url: url.split('?', 1)[0] as string }
  // An application's error handler may not log the error, so log it here.
  log.info({ ...message, ...details }, `fastify-sesame: a request was refused: ${EXPLANATIONS[reason]}`)
  if (channels.csrfRefused.hasSubscribers) channels.csrfRefused.publish(message)
  throw new CsrfError(ORIGIN_REASONS.has(reason) ? 'SESSION_CSRF_ORIGIN' : 'SESSION_CSRF_TOKEN')
}

const ORIGIN_REASONS: ReadonlySet<CsrfReason> = new Set(['sec-fetch-site', 'origin', 'origin-null'])
