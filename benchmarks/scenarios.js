import { LARGE } from './payload.js'

const read = { method: 'GET', path: '/read', sessions: 1 }
const change = { method: 'POST', path: '/change', sessions: 1 }

/**
 * The scenarios that the benchmarks measure. These properties describe the requests:
 * - `sessions`: the number of sessions that exist before the measurement. Each request uses a random one of them. With
 *   0, requests send no session cookie.
 * - `bytes`: the approximate size of each session.
 * - `follow`: which cookie a request sends, as described in `createLoad`. With `'each'`, there must be one session per
 *   connection.
 * - `csrf`: requests carry a CSRF token and the headers that a browser sends.
 * - `counts`: each request adds 1 to the same counter, so that lost updates can be counted.
 */
export const SCENARIOS = [
  { name: 'anonymous', title: 'an anonymous visitor', method: 'GET', path: '/hello', sessions: 0 },
  {
    ...read,
    name: 'anonymous-read',
    title: 'an anonymous visitor, the route reads the session',
    sessions: 0
  },
  { ...read, name: 'read-hot', title: 'reading one key, always of the same session' },
  { ...read, name: 'read-10k', title: 'reading one key of a random session among 10,000', sessions: 10_000 },
  {
    ...read,
    name: 'read-100k',
    title: 'reading one key of a random session among 100,000',
    sessions: 100_000
  },
  { ...read, name: 'read-64k', title: 'reading one key of a 64 KB session', bytes: LARGE },
  { ...change, name: 'change', title: 'changing one key' },
  { ...change, name: 'change-64k', title: 'changing one key of a 64 KB session', bytes: LARGE },
  {
    name: 'login',
    title: 'login with a new session id',
    method: 'POST',
    path: '/login',
    sessions: 64,
    connections: 64,
    follow: 'each'
  },
  {
    name: 'csrf',
    title: 'a POST with CSRF protection',
    method: 'POST',
    path: '/csrf',
    sessions: 1,
    csrf: true
  },
  {
    name: 'writers',
    title: 'eight clients add to one counter of the same session',
    method: 'POST',
    path: '/add',
    sessions: 1,
    connections: 8,
    follow: 'shared',
    counts: true
  }
]
