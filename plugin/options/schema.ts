import { inspect } from 'node:util'
import Type, { type Static, type TObject } from 'typebox'
import type { SessionStore } from '../types.js'

/** 400 days: RFC 6265bis section 5.5, the most that a browser keeps. */
const MAX_AGE_LIMIT = 34_560_000

const seconds = (description: string, options: { default?: number } = {}) =>
  Type.Number({
    ...options,
    exclusiveMinimum: 0,
    maximum: MAX_AGE_LIMIT,
    description,
    want: `a number of seconds above 0, at most ${MAX_AGE_LIMIT}`
  })
const flag = (value: boolean, description: string) =>
  Type.Boolean({ default: value, description, want: 'true or false' })
const oneOf = <const T extends readonly (string | boolean)[]>(
  values: T,
  value: T[number],
  description: string
) =>
  Type.Unsafe<T[number]>({
    enum: values,
    default: value,
    description,
    want: `one of ${values.map((v) => inspect(v)).join(', ')}`
  })

/** RFC 1123 section 2.1. */
const HOST_LABEL = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'

const CookieOptions = Type.Object(
  {
    path: Type.String({
      default: '/',
      pattern: '^/[\\x20-\\x3a\\x3d-\\x7e]*$',
      maxLength: 1024,
      description: 'where on the host it is sent',
      want: 'a path of at most 1024 characters that begins with "/" and has no ";" or "<"'
    }),
    domain: Type.Optional(
      Type.String({
        pattern: `^\\.?${HOST_LABEL}(\\.${HOST_LABEL})*$`,
        maxLength: 253,
        description: 'absent: this host alone, without its subdomains',
        want: 'a host name, such as "example.com"'
      })
    ),
    secure: oneOf(
      [true, false, 'auto'],
      true,
      "sent over HTTPS only; `'auto'` follows the request's protocol"
    ),
    httpOnly: flag(true, 'hidden from scripts'),
    sameSite: oneOf(
      ['strict', 'lax', 'none'],
      'lax',
      "`'strict'`, `'lax'` or `'none'`: whether a request that another site caused carries it"
    ),
    partitioned: flag(false, 'one jar for each top-level site (CHIPS)'),
    persistent: flag(true, '`false` sends no Max-Age: the cookie ends with the browser')
  },
  {
    additionalProperties: false,
    description: 'attributes of the cookie',
    want: 'an object of cookie attributes'
  }
)

const CsrfOptions = Type.Object(
  {
    protect: oneOf(
      ['routes', 'all'],
      'routes',
      "`'all'` guards every route, `'routes'` those with the preHandler `fastify.csrfProtection`"
    ),
    header: Type.String({
      default: 'x-csrf-token',
      pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
      description: 'the header that carries the token',
      want: 'a header name'
    }),
    field: Type.String({
      default: '_csrf',
      minLength: 1,
      description: 'the field of the body that carries it, where the header is absent',
      want: 'the name of a body field'
    }),
    trustedOrigins: Type.Array(Type.String(), {
      default: [],
      description: 'other origins whose pages may send changes, exact: scheme, host and port',
      want: 'a list of origins, such as "https://app.example.com"'
    }),
    token: flag(true, '`false`: only where a request comes from is checked')
  },
  { additionalProperties: false, description: 'see CSRF', want: 'an object of CSRF options' }
)

/** Every option: its type, its default and what it means. */
export const OptionsSchema = Type.Object(
  {
    secret: Type.Unsafe<string | Uint8Array | readonly (string | Uint8Array)[]>({
      description:
        'string or Buffer of at least 32 bytes, or a list: the first signs, all verify; a cookie signed by an older one is re-issued'
    }),
    cookieName: Type.String({
      default: 'session_id',
      pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
      description: '`__Host-` and `__Secure-` names are checked against the attributes',
      want: 'a cookie name without spaces, ";" or "="'
    }),
    maxAge: seconds('seconds a session lives after creation or `regenerate()`, whatever its activity', {
      default: 86400
    }),
    idleTimeout: Type.Optional(
      seconds(
        'seconds without a request after which it ends; absent: none. It may end a tenth too early, never late'
      )
    ),
    cookie: CookieOptions,
    idLength: Type.Integer({
      default: 32,
      minimum: 16,
      maximum: 64,
      description: 'random bytes in a token',
      want: 'a whole number from 16 to 64'
    }),
    cleanupInterval: Type.Number({
      default: 3600,
      minimum: 0,
      maximum: 2_147_483,
      description: 'seconds between sweeps of expired sessions; 0 turns them off',
      want: 'a number of seconds from 0 to 2147483'
    }),
    store: Type.Optional(
      Type.Unsafe<SessionStore>({ description: 'any `SessionStore`; absent: `new MemoryStore()`' })
    ),
    migrateFrom: Type.Optional(
      Type.Unsafe<SessionStore>({
        description: 'the store that was used before: a session is taken over when its owner comes back'
      })
    ),
    userKey: Type.String({
      default: 'userId',
      pattern: '^(?!\\$)',
      description: 'the data key whose value says whose session it is',
      want: 'a key that does not begin with "$"'
    }),
    maxSessionsPerUser: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'how many sessions a user may have; absent: any number',
        want: 'a whole number above 0'
      })
    ),
    onLimit: oneOf(
      ['end-oldest', 'reject'],
      'end-oldest',
      "`'end-oldest'`: a sign-in above `maxSessionsPerUser` ends the session that was written to least recently; `'reject'`: it gets 403"
    ),
    csrf: CsrfOptions,
    onStoreError: oneOf(
      ['fail', 'anonymous'],
      'fail',
      "`'fail'`: 503; `'anonymous'`: a session that cannot be loaded is an empty one: nothing is saved, the cookie is left alone, a logout is 503 all the same"
    ),
    storeTimeout: Type.Number({
      default: 2000,
      exclusiveMinimum: 0,
      maximum: 2_147_483_647,
      description: 'milliseconds a store may take',
      want: 'a number of milliseconds above 0, at most 2147483647'
    }),
    schema: Type.Optional(
      Type.Unsafe<TObject>({
        description: 'a TypeBox object: checks values when they are set and when they are loaded'
      })
    )
  },
  { additionalProperties: false }
)

/** Options of which none is missing but those without a default. */
export type CompleteOptions = Static<typeof OptionsSchema>
