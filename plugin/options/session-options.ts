import type { SessionStore } from '../types.js'
import type { ObjectSchema } from './schema.js'

// `npm run docs:options` writes the comments of the options. Edit their text in table.ts.

/** The options of the plugin. Only `secret` is required. An option that is `undefined` counts as not given. */
export interface SessionOptions {
  /**
   * Required. A string or Buffer of at least 32 bytes, or a list of them. The first secret signs and all
   * verify. A cookie signed with an older secret is signed again with the first.
   */
  secret: string | Uint8Array | readonly (string | Uint8Array)[]
  /**
   * The name of the session cookie. A `__Host-` or `__Secure-` name requires matching attributes. Default:
   * `'session_id'`.
   */
  cookieName?: string | undefined
  /**
   * Seconds from creation or the last `regenerate()` until a session ends, even if it is active. Default:
   * `86400`.
   */
  maxAge?: number | undefined
  /**
   * Seconds without a request until a session ends. It may end earlier, by at most a tenth of this time, but
   * never later. Absent: no idle timeout.
   */
  idleTimeout?: number | undefined
  /** The attributes of the session cookie. */
  cookie?: CookieOptions | undefined
  /** The number of random bytes in a session token. Default: `32`. */
  idLength?: number | undefined
  /** Seconds between sweeps that remove expired sessions. 0 turns sweeps off. Default: `3600`. */
  cleanupInterval?: number | undefined
  /** The `SessionStore` to use. Absent: a new `MemoryStore`. */
  store?: SessionStore | undefined
  /**
   * The store that was used before. A session moves to `store` when its browser returns. Absent: no
   * migration.
   */
  migrateFrom?: SessionStore | undefined
  /** The data key that holds the id of the user. Default: `'userId'`. */
  userKey?: string | undefined
  /** The number of sessions that a user may have. Absent: no limit. */
  maxSessionsPerUser?: number | undefined
  /**
   * If a login exceeds `maxSessionsPerUser`, `'end-oldest'` ends the least recently written session, and
   * `'reject'` refuses the login with 403. Default: `'end-oldest'`.
   */
  onLimit?: 'end-oldest' | 'reject' | undefined
  /** How forged requests from other sites are refused. */
  csrf?: CsrfOptions | undefined
  /**
   * If a session cannot be loaded, `'fail'` answers 503. `'anonymous'` gives the request an empty session,
   * saves nothing and leaves the cookie alone; a logout is still a 503. Default: `'fail'`.
   */
  onStoreError?: 'fail' | 'anonymous' | undefined
  /** Milliseconds after which a call of the store counts as failed. Default: `2000`. */
  storeTimeout?: number | undefined
  /** A TypeBox object that checks values when they are set and when they are loaded. Absent: no check. */
  schema?: ObjectSchema | undefined
}

/** The attributes of the session cookie. */
export interface CookieOptions {
  /** The browser sends the cookie to this path and to the paths below it. Default: `'/'`. */
  path?: string | undefined
  /** The host that gets the cookie, with its subdomains. Absent: only the host that set it. */
  domain?: string | undefined
  /** Sends the cookie over HTTPS only. `'auto'` follows the protocol of the request. Default: `true`. */
  secure?: boolean | 'auto' | undefined
  /** Hides the cookie from scripts. Default: `true`. */
  httpOnly?: boolean | undefined
  /**
   * Which requests from other sites carry the cookie: none (`'strict'`), followed links (`'lax'`) or all
   * (`'none'`). Default: `'lax'`.
   */
  sameSite?: 'strict' | 'lax' | 'none' | undefined
  /** Keeps a separate cookie for each top-level site (CHIPS). Default: `false`. */
  partitioned?: boolean | undefined
  /** `false` sends no `Max-Age`, so that the cookie ends when the browser closes. Default: `true`. */
  persistent?: boolean | undefined
}

/** The options of the CSRF protection. */
export interface CsrfOptions {
  /**
   * `'all'` protects every route, `'routes'` only routes with the preHandler `fastify.csrfProtection`.
   * Default: `'routes'`.
   */
  protect?: 'routes' | 'all' | undefined
  /** The request header that carries the CSRF token. Default: `'x-csrf-token'`. */
  header?: string | undefined
  /** The body field that carries the CSRF token if the header is absent. Default: `'_csrf'`. */
  field?: string | undefined
  /**
   * Other origins whose pages may send requests that change something. Each is exact: scheme, host and port.
   * Default: `[]`.
   */
  trustedOrigins?: readonly string[] | undefined
  /** `false` checks only where a request comes from, not its CSRF token. Default: `true`. */
  token?: boolean | undefined
}
