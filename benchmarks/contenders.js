const IN_THE_COOKIE = 'the session is in the cookie, and a browser keeps none over 4 KB'
const NO_CSRF = { csrf: 'has no CSRF protection of its own' }
const NO_MILLION = { 'read-1m': 'a million sessions are put into our memory store only' }
const NO_REGENERATE = { login: 'has no regenerate()' }
const NO_STORE = {
  'read-1m': 'the session is in the cookie',
  'read-64k': IN_THE_COOKIE,
  'change-64k': IN_THE_COOKIE
}

/** With a store, but none of our own in memory. */
const stored = { ...NO_MILLION }
const peer = { ...NO_MILLION, ...NO_CSRF }
const cookiePeer = { ...NO_STORE, ...NO_CSRF }

/**
 * Who is measured, the reference first. `module`: its file in contenders/, which is given `settings`.
 * `kind`: `none` has no session, `server` keeps it in a store, `cookie` in the client's cookie.
 * `engine`: what must run beside it. `skip`: the scenarios that it is left out of, and why.
 */
export const CONTENDERS = [
  { name: 'bare', title: 'bare Fastify', kind: 'none', skip: {} },
  { name: 'cookie', title: '@fastify/cookie', kind: 'none', skip: {} },
  { name: 'map', title: 'a Map by cookie, unsigned', kind: 'server', skip: { ...NO_CSRF, ...NO_REGENERATE } },
  { name: 'sesame-memory', title: 'fastify-sesame, memory', kind: 'server', skip: {} },
  { name: 'sesame-sqlite', title: 'fastify-sesame, SQLite', kind: 'server', skip: stored },
  { name: 'sesame-redis', title: 'fastify-sesame, Redis', kind: 'server', engine: 'redis', skip: stored },
  {
    name: 'sesame-postgres',
    title: 'fastify-sesame, PostgreSQL',
    kind: 'server',
    engine: 'postgres',
    skip: stored
  },
  { name: 'fastify-session', title: '@fastify/session, defaults', kind: 'server', skip: peer },
  {
    name: 'fastify-session-lean',
    title: '@fastify/session, lean',
    kind: 'server',
    module: 'fastify-session',
    settings: { lean: true },
    skip: peer
  },
  {
    name: 'fastify-session-redis',
    title: '@fastify/session, lean, connect-redis',
    kind: 'server',
    module: 'fastify-session',
    settings: { lean: true, useRedis: true },
    engine: 'redis',
    skip: peer
  },
  { name: 'secure-session', title: '@fastify/secure-session', kind: 'cookie', skip: cookiePeer },
  { name: 'mgcrea', title: '@mgcrea/fastify-session', kind: 'server', skip: { ...peer, ...NO_REGENERATE } },
  { name: 'express-session', title: 'express-session, Express 5', kind: 'server', skip: peer },
  {
    name: 'express-session-redis',
    title: 'express-session, Express 5, connect-redis',
    kind: 'server',
    module: 'express-session',
    settings: { useRedis: true },
    engine: 'redis',
    skip: peer
  },
  {
    name: 'iron-session',
    title: 'iron-session on Fastify',
    kind: 'cookie',
    skip: { ...cookiePeer, ...NO_REGENERATE }
  }
]
