import { inspect } from 'node:util'

/** The base class of this library's errors. Each has a stable `code`, and a `statusCode` for Fastify's reply. */
export class SessionError extends Error {
  readonly code: string
  readonly statusCode: number

  constructor(code: string, statusCode: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
    this.statusCode = statusCode
  }

  /** The same as `statusCode`. With `expose`, it lets NestJS and Express recognize an HTTP error, as of http-errors. */
  get status(): number {
    return this.statusCode
  }

  /** True if a client may read the message: if the error is a 4xx. */
  get expose(): boolean {
    return this.statusCode < 500
  }
}

/** `SESSION_OPTION_INVALID`: an option given during setup is wrong. The message names it and says what it accepts. */
export class SessionOptionError extends SessionError {
  /** The option's path, such as `cookie.sameSite`. */
  readonly option: string

  constructor(option: string, problem: string) {
    super('SESSION_OPTION_INVALID', 500, `fastify-sesame: option "${option}" ${problem}`)
    this.option = option
  }

  /** Returns an error whose message shows the wrong value and says which values the option accepts. */
  static wrong(this: void, option: string, got: unknown, want: string): SessionOptionError {
    return new SessionOptionError(option, `is ${inspect(got, { depth: 0 })}, but must be ${want}`)
  }
}

/** `SESSION_VALUE_INVALID`: a session cannot hold this key or value. The message never contains the value. */
export class SessionValueError extends SessionError {
  /** The key, or `undefined` if it is not a string. */
  readonly key: string | undefined

  constructor(key: unknown, problem: string) {
    const isText = typeof key === 'string'
    super(
      'SESSION_VALUE_INVALID',
      500,
      `Session key ${isText ? JSON.stringify(key) : typeOf(key)} ${problem}`
    )
    this.key = isText ? key : undefined
  }
}

function typeOf(key: unknown): string {
  return key === null ? 'null' : `of type ${typeof key}`
}

/** `SESSION_TOO_LARGE`, 413: the session would be larger than `maxSize`. Nothing was saved. */
export class SessionSizeError extends SessionError {
  constructor(size: number, maxSize: number) {
    super('SESSION_TOO_LARGE', 413, `The session would have ${size} bytes, but maxSize is ${maxSize}`)
  }
}

/** A mistake in the application, such as using the session on a route with `session: false`. */
export class SessionUsageError extends SessionError {
  constructor(code: UsageCode, message: string) {
    super(code, 500, message)
  }
}

export type UsageCode =
  | 'SESSION_COMMITTED'
  | 'SESSION_GUARD_NOT_CALLED'
  | 'SESSION_HEADERS_SENT'
  | 'SESSION_NOT_LOADED'
  | 'SESSION_OFF'
  | 'SESSION_PLUGIN_DUPLICATE'
  | 'SESSION_PLUGIN_MISSING'
  | 'SESSION_PROPERTY_UNKNOWN'
  | 'SESSION_READONLY'
  | 'SESSION_STORE_UNSUPPORTED'

/**
 * `SESSION_STORE_UNAVAILABLE`, 503: the store failed or exceeded `storeTimeout`. `cause` is a copy of the driver's error
 * without the values of the session.
 */
export class SessionStoreError extends SessionError {
  constructor(cause: unknown) {
    super('SESSION_STORE_UNAVAILABLE', 503, 'Session store unavailable', { cause })
  }
}

/** `SESSION_GONE`, 409: the session ended while the request was running, so the changes could not be saved. */
export class SessionGoneError extends SessionError {
  constructor() {
    super('SESSION_GONE', 409, 'The session ended while the request was running')
  }
}

/** `SESSION_CONFLICT`, 409: other requests kept changing the session, so this request could not save its changes. */
export class SessionConflictError extends SessionError {
  constructor() {
    super('SESSION_CONFLICT', 409, 'The session was changed by too many requests at once')
  }
}

/** `SESSION_LIMIT`, 403: the user already has `maxSessionsPerUser` sessions, and `onLimit` is `'reject'`. */
export class SessionLimitError extends SessionError {
  constructor() {
    super('SESSION_LIMIT', 403, 'Too many sessions: end another session first')
  }
}

/** `SESSION_CSRF_ORIGIN` or `SESSION_CSRF_TOKEN`, 403: the request did not come from a page of this site. */
export class CsrfError extends SessionError {
  constructor(code: CsrfCode) {
    super(code, 403, code === 'SESSION_CSRF_TOKEN' ? 'Invalid CSRF token' : 'Cross-site request refused')
  }
}

export type CsrfCode = 'SESSION_CSRF_ORIGIN' | 'SESSION_CSRF_TOKEN'

/** Thrown by `requireAuth` when it does not redirect. The status is 403 if `check` returned `false`, otherwise 401. */
export class SessionAuthError extends SessionError {
  constructor(
    code: 'SESSION_UNAUTHENTICATED' | 'SESSION_EXPIRED' | 'SESSION_NOT_FRESH' | 'SESSION_FORBIDDEN',
    message: string
  ) {
    super(code, code === 'SESSION_FORBIDDEN' ? 403 : 401, message)
  }
}
