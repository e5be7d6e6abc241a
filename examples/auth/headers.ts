import type { FastifyHelmetOptions } from '@fastify/helmet'

/** The security headers of every reply. Scripts and styles come only from files of this server, never from the page. */
export const HEADERS: FastifyHelmetOptions = {
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'"],
      formAction: ["'self'"],
      frameAncestors: ["'none'"],
      baseUri: ["'none'"]
    }
  },
  referrerPolicy: { policy: 'same-origin' },
  xFrameOptions: { action: 'deny' },
  // This example runs on http://127.0.0.1, where a browser would ignore the header. Turn it on behind HTTPS.
  strictTransportSecurity: false
}
