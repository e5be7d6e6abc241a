import { inspect } from 'node:util'

/** What every error of this library is: a stable `code`, and the `statusCode` that Fastify answers with. */
export class SessionError extends Error {
  readonly code: string
  readonly statusCode: number

  constructor(code: string, statusCode: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
    this.statusCode = statusCode
  }
}

/** `SESSION_OPTION_INVALID`: thrown at registration; says which option, what it got and what it wants. */
export class SessionOptionError extends SessionError {
  /** The option's path, such as `cookie.sameSite`. */
  readonly option: string

  constructor(option: string, problem: string) {
    super('SESSION_OPTION_INVALID', 500, `fastify-sesame: option "${option}" ${problem}`)
    this.option = option
  }

  /** Says what was got and what is wanted. */
  static wrong(this: void, option: string, got: unknown, want: string): SessionOptionError {
    return new SessionOptionError(option, `is ${inspect(got, { depth: 0 })}, but must be ${want}`)
  }
}

/** `SESSION_VALUE_INVALID`: a key or a value that a session cannot hold; names the key, never the value. */
export class SessionValueError extends SessionError {
  readonly key: string

  constructor(key: string, problem: string) {
    super('SESSION_VALUE_INVALID', 500, `Session key ${JSON.stringify(key)} ${problem}`)
    this.key = key
  }
}

/** A mistake in the program: a change after the commit, a session on a route that has none, a missing plugin. */
export class SessionUsageError extends SessionError {
  constructor(code: UsageCode, message: string) {
    super(code, 500, message)
  }
}

export type UsageCode =
  | 'SESSION_COMMITTED'
  | 'SESSION_HEADERS_SENT'
  | 'SESSION_NOT_LOADED'
  | 'SESSION_OFF'
  | 'SESSION_PLUGIN_MISSING'
  | 'SESSION_READONLY'
  | 'SESSION_STORE_UNSUPPORTED'

/** `SESSION_STORE_UNAVAILABLE`, 503: the store failed or took longer than `storeTimeout`; the driver's error is `cause`. */
export class SessionStoreError extends SessionError {
  constructor(cause: unknown) {
    super('SESSION_STORE_UNAVAILABLE', 503, 'Session store unavailable', { cause })
  }
}

/** `SESSION_GONE`, 409: the session ended while the request ran, so that its change could not be kept. */
export class SessionGoneError extends SessionError {
  constructor() {
    super('SESSION_GONE', 409, 'The session ended while the request was running')
  }
}

/** `SESSION_CONFLICT`, 409: other requests kept changing the session; nothing of this one was written. */
export class SessionConflictError extends SessionError {
  constructor() {
    super('SESSION_CONFLICT', 409, 'The session was changed by too many requests at once')
  }
}

/** `SESSION_LIMIT`, 403: the user has `maxSessionsPerUser` sessions, and `onLimit` is `'reject'`. Nobody was signed in. */
export class SessionLimitError extends SessionError {
  constructor() {
    super('SESSION_LIMIT', 403, 'Too many sessions: end one of the others first')
  }
}

/** 403, `SESSION_CSRF_ORIGIN` or `SESSION_CSRF_TOKEN`: the request was not made by a page of this site. */
export class CsrfError extends SessionError {
  constructor(code: CsrfCode) {
    super(code, 403, code === 'SESSION_CSRF_TOKEN' ? 'Invalid CSRF token' : 'Cross-site request refused')
  }
}

export type CsrfCode = 'SESSION_CSRF_ORIGIN' | 'SESSION_CSRF_TOKEN'

/** What `requireAuth` answers where it does not redirect: 401, or 403 when `check` refused. */
export class SessionAuthError extends SessionError {
  constructor(
    code: 'SESSION_UNAUTHENTICATED' | 'SESSION_EXPIRED' | 'SESSION_NOT_FRESH' | 'SESSION_FORBIDDEN',
    message: string
  ) {
    super(code, code === 'SESSION_FORBIDDEN' ? 403 : 401, message)
  }
}
