import { anything, flag, number, objectOf, oneOf, text, type Rule } from '../rules.js'
import { isObjectSchema } from './schema.js'
import type { CookieOptions, CsrfOptions, SessionOptions } from './session-options.js'

/** One row of the options table. An option without a default is absent if the application does not set it. */
export interface Option<T = unknown> extends Rule {
  readonly default?: NonNullable<T>
  /** A description of the option. The table in docs/options.md and the option's doc comment show this text. */
  readonly description: string
}

export type Table<T> = { readonly [K in keyof T]-?: Option<T[K]> }

/** 400 days in seconds, the longest time that a browser keeps a cookie (RFC 6265bis section 5.5). */
const MAX_AGE_LIMIT = 34_560_000
const lifetime = number(
  `a number of seconds above 0, at most ${MAX_AGE_LIMIT}`,
  (value) => value > 0 && value <= MAX_AGE_LIMIT
)
/** The longest delay that a timer in Node accepts, in milliseconds. */
const TIMER_LIMIT = 2_147_483_647
/** The syntax of a token in HTTP, such as a header name (RFC 9110 section 5.6.2). */
const HTTP_TOKEN = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/
/** A host name (RFC 1123 section 2.1), optionally with a leading dot. */
const HOST_NAME =
  /^\.?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/

/** Returns true if a value is a host name of at most 253 characters, optionally with a leading dot. */
export function isHostName(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 253 && HOST_NAME.test(value)
}

export const COOKIE_OPTIONS = {
  path: {
    ...text(
      /^\/[\x20-\x3a\x3d-\x7e]*$/,
      'a path of at most 1024 characters that begins with "/" and has no ";" or "<"',
      1024
    ),
    default: '/',
    description: 'The browser sends the cookie to this path and to the paths below it.'
  },
  domain: {
    want: 'a host name, such as "example.com", or a function that returns one',
    accepts: (value) => typeof value === 'function' || isHostName(value),
    description:
      "Sends the cookie to this host and its subdomains. A function can choose the host from a request's `hostname` and `headers`. By default, the cookie goes only to the host that set it."
  },
  secure: {
    ...oneOf(true, false, 'auto'),
    default: true,
    description: "Sends the cookie only over HTTPS. `'auto'` turns this on for HTTPS requests."
  },
  httpOnly: { ...flag, default: true, description: 'Hides the cookie from scripts.' },
  sameSite: {
    ...oneOf('strict', 'lax', 'none'),
    default: 'lax',
    description:
      "Which requests from other sites carry the cookie: none (`'strict'`), followed links (`'lax'`) or all (`'none'`)."
  },
  partitioned: {
    ...flag,
    default: false,
    description: 'Keeps a separate cookie for each top-level site (CHIPS).'
  },
  persistent: {
    ...flag,
    default: true,
    description: '`false` omits `Max-Age`, so that the cookie is deleted when the browser closes.'
  }
} as const satisfies Table<CookieOptions>

export const CSRF_OPTIONS = {
  protect: {
    ...oneOf('origin', 'all', 'routes'),
    default: 'origin',
    description:
      "`'origin'` checks the origin on every route, and the CSRF token on routes with the preHandler `csrfProtection`. `'all'` checks both on every route. `'routes'` checks both on routes with `csrfProtection` only."
  },
  header: {
    ...text(HTTP_TOKEN, 'a header name'),
    default: 'x-csrf-token',
    description:
      'The request header that carries the CSRF token. If it is absent, `csrf-token`, `xsrf-token` and `x-xsrf-token` are read too.'
  },
  field: {
    ...text(/./s, 'the name of a body field'),
    default: '_csrf',
    description: 'The body field that carries the CSRF token if no header does.'
  },
  trustedOrigins: {
    want: 'a list of origins, such as "https://app.example.com"',
    accepts: (value) => Array.isArray(value) && value.every((origin) => typeof origin === 'string'),
    default: [],
    description:
      'Other origins (exact scheme, host and port) whose pages may send requests that change something. Also the origins of native shells and browser extensions, such as `capacitor://localhost` or `chrome-extension://<id>`.'
  },
  token: {
    ...flag,
    default: true,
    description: 'With `false`, only the origin of a request is checked, and no CSRF token is needed.'
  },
  decorate: {
    ...flag,
    default: true,
    description:
      '`false` leaves the names `reply.generateCsrf` and `app.csrfProtection` to another package, such as @fastify/csrf-protection, which then makes and checks the tokens. This plugin still checks origins.'
  }
} as const satisfies Table<CsrfOptions>

export const OPTIONS = {
  secret: {
    ...anything,
    description:
      'A string or Buffer of at least 32 bytes, or a list of them. The first secret signs cookies, and all secrets verify them. A cookie signed with an older secret is signed again with the first. `undefined`, such as an environment variable that is not set, throws an error.'
  },
  cookieName: {
    ...text(HTTP_TOKEN, 'a cookie name without spaces, ";" or "="'),
    default: 'session_id',
    description:
      'The name of the session cookie. A name with the prefix `__Host-` or `__Secure-` requires matching attributes.'
  },
  maxAge: {
    ...lifetime,
    default: 86400,
    description:
      'Even an active session ends this many seconds after the login, or after its creation if nobody has logged in.'
  },
  idleTimeout: {
    ...lifetime,
    description:
      'A session ends this many seconds after its last request, or up to a tenth of this time earlier. By default, there is no idle timeout.'
  },
  cookie: {
    ...objectOf('cookie attributes'),
    default: {},
    description: 'The attributes of the session cookie.'
  },
  clearSiteData: {
    ...flag,
    default: false,
    description:
      '`true` sends `Clear-Site-Data: "cache"` at a logout, so that the browser deletes its cached pages of this origin.'
  },
  idLength: {
    ...number('a whole number from 16 to 64', (n) => Number.isInteger(n) && n >= 16 && n <= 64),
    default: 32,
    description: 'The number of random bytes in a session token.'
  },
  cleanupInterval: {
    ...number('a number of seconds from 0 to 2147483', (value) => value >= 0 && value <= 2_147_483),
    default: 3600,
    description: 'Seconds between sweeps that remove expired sessions. 0 turns sweeps off.'
  },
  store: { ...anything, description: 'The `SessionStore` to use. By default, this is a new `MemoryStore`.' },
  migrateFrom: {
    ...anything,
    description:
      'The previous store, or another session library (see `fastify-sesame/migrate`), or a list of these. Each session is moved to `store` on its next request.'
  },
  userKey: {
    ...text(/^(?!\$)/, 'a key that does not begin with "$"'),
    default: 'userId',
    description: 'The key in the session data that holds the id of the user.'
  },
  properties: {
    ...flag,
    default: false,
    description:
      '`true` makes the other properties of `request.session` its data, so that `request.session.user = user` works as in @fastify/session and express-session.'
  },
  maxSessionsPerUser: {
    ...number('a whole number above 0', (n) => Number.isInteger(n) && n > 0),
    description: 'The maximum number of sessions that a user can have at once. By default, there is no limit.'
  },
  onLimit: {
    ...oneOf('end-oldest', 'reject'),
    default: 'end-oldest',
    description:
      "If a login exceeds `maxSessionsPerUser`, `'end-oldest'` ends the oldest login, and `'reject'` refuses the login with 403."
  },
  maxSize: {
    ...number('a whole number of bytes above 0', (n) => Number.isInteger(n) && n > 0),
    default: 1_048_576,
    description:
      'The maximum size of a session in bytes: the keys and values as JSON text. A request that would exceed it gets 413.'
  },
  csrf: {
    ...objectOf('CSRF options'),
    default: {},
    description: 'The options that protect against forged requests from other sites (CSRF).'
  },
  onStoreError: {
    ...oneOf('fail', 'anonymous'),
    default: 'fail',
    description:
      "If a session cannot be loaded, `'fail'` replies with 503. `'anonymous'` gives the request an empty session, saves nothing and keeps the cookie, but a logout still fails with 503."
  },
  storeTimeout: {
    ...number(
      `a number of milliseconds above 0, at most ${TIMER_LIMIT}`,
      (value) => value > 0 && value <= TIMER_LIMIT
    ),
    default: 2000,
    description: 'A call to the store fails if it takes longer than this many milliseconds.'
  },
  schema: {
    want: 'a TypeBox object: Type.Object({ … })',
    accepts: isObjectSchema,
    description:
      'An optional TypeBox object. Values are checked against it when they are set and when they are loaded.'
  }
} as const satisfies Table<SessionOptions>
