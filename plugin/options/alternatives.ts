import type { Alternatives } from '../own-options.js'

const NAME = 'is unknown; use `cookieName`'
const SECONDS = 'is unknown; use the option `maxAge` beside `cookie`, which is in seconds'
const ATTRIBUTE = 'is an attribute of the cookie; write it into the option `cookie`'

/** The errors for options of @fastify/session, express-session, @fastify/secure-session and iron-session. */
export const ALTERNATIVES: Alternatives = {
  prefix:
    'has no effect, because this plugin has no routes; a prefix of the keys in a database is an option of the store, such as `new RedisStore({ client, prefix })`',
  name: NAME,
  key: `${NAME} for the name of the cookie, and \`secret\` for the key that signs it`,
  sessionName: `${NAME}; the session is always \`request.session\``,
  password: 'is unknown; use `secret`',
  secrets: 'is unknown; use `secret`, which can be a list',
  salt: 'is unknown; omit it, because `secret` alone signs the cookie',
  algorithm: 'is unknown; omit it, because cookies are always signed with HMAC-SHA256',
  genid: 'is unknown; ids are always random, and `idLength` sets their length',
  idGenerator: 'is unknown; ids are always random, and `idLength` sets their length',
  ttl: 'is unknown; use `maxAge`, which is in seconds',
  expiry: 'is unknown; use `maxAge`, which is in seconds',
  rolling: 'is unknown; use `idleTimeout`, which each request extends',
  saveUninitialized: 'is unknown; omit it, because a new session is stored only if something is set in it',
  resave: 'is unknown; omit it, because a session is written only if it has changed',
  unset: 'is unknown; omit it, and end a session with `session.invalidate()`',
  proxy: "is unknown; use Fastify's own option `trustProxy`",
  cookiePrefix: 'is unknown; omit it, because the cookie has no prefix',
  cookieOptions: 'is unknown; use `cookie`',
  path: ATTRIBUTE,
  domain: ATTRIBUTE,
  secure: ATTRIBUTE,
  httpOnly: ATTRIBUTE,
  sameSite: ATTRIBUTE,
  'cookie.maxAge': SECONDS,
  'cookie.originalMaxAge': SECONDS,
  'cookie.expires': SECONDS,
  'cookie.signed': 'is unknown; omit it, because the cookie is always signed',
  'cookie.name': NAME
}
