const TOO_LARGE = 'the session is in the cookie, and browsers reject cookies above 4 KB'
const NO_CSRF = { csrf: 'does not include CSRF protection' }
const NOT_IN_MEMORY = {
  'read-100k': 'measured with memory stores only: creating 100,000 sessions elsewhere takes too long'
}
const NO_REGENERATE = { login: 'has no regenerate()' }
const COOKIE_ONLY = {
  'read-100k': 'the session is in the cookie, so the number of sessions makes no difference',
  'read-64k': TOO_LARGE,
  'change-64k': TOO_LARGE
}

const cookiePeer = { ...COOKIE_ONLY, ...NO_CSRF }

/**
 * The contenders. All others are compared with the first one, which is the reference.
 * - `kind` is `none` (no sessions), `server` (sessions in a store) or `cookie` (sessions in the client's cookie).
 * - `module` is the name of the file in contenders/ if it differs from `name`. The function in that file receives
 *   `settings`.
 * - `engine` is the database server that the contender needs.
 * - `skip` maps each scenario that the contender skips to the reason.
 */
export const CONTENDERS = [
  { name: 'bare', title: 'bare Fastify', kind: 'none', skip: {} },
  { name: 'cookie', title: '@fastify/cookie', kind: 'none', skip: {} },
  { name: 'map', title: 'a Map, unsigned cookie', kind: 'server', skip: { ...NO_CSRF, ...NO_REGENERATE } },
  { name: 'sesame-memory', title: 'fastify-sesame, memory', kind: 'server', skip: {} },
  { name: 'sesame-sqlite', title: 'fastify-sesame, SQLite', kind: 'server', skip: NOT_IN_MEMORY },
  {
    name: 'sesame-redis',
    title: 'fastify-sesame, Redis',
    kind: 'server',
    engine: 'redis',
    skip: NOT_IN_MEMORY
  },
  {
    name: 'sesame-postgres',
    title: 'fastify-sesame, PostgreSQL',
    kind: 'server',
    engine: 'postgres',
    skip: NOT_IN_MEMORY
  },
  { name: 'fastify-session', title: '@fastify/session, defaults', kind: 'server', skip: NO_CSRF },
  {
    name: 'fastify-session-lean',
    title: '@fastify/session, lean',
    kind: 'server',
    module: 'fastify-session',
    settings: { lean: true },
    skip: NO_CSRF
  },
  {
    name: 'fastify-session-redis',
    title: '@fastify/session, lean, connect-redis',
    kind: 'server',
    module: 'fastify-session',
    settings: { lean: true, useRedis: true },
    engine: 'redis',
    skip: { ...NOT_IN_MEMORY, ...NO_CSRF }
  },
  { name: 'secure-session', title: '@fastify/secure-session', kind: 'cookie', skip: cookiePeer },
  {
    name: 'mgcrea',
    title: '@mgcrea/fastify-session',
    kind: 'server',
    skip: { ...NO_CSRF, ...NO_REGENERATE }
  },
  { name: 'express-session', title: 'express-session, Express 5', kind: 'server', skip: NO_CSRF },
  {
    name: 'express-session-redis',
    title: 'express-session, Express 5, connect-redis',
    kind: 'server',
    module: 'express-session',
    settings: { useRedis: true },
    engine: 'redis',
    skip: { ...NOT_IN_MEMORY, ...NO_CSRF }
  },
  {
    name: 'iron-session',
    title: 'iron-session on Fastify',
    kind: 'cookie',
    skip: { ...cookiePeer, ...NO_REGENERATE }
  }
]
