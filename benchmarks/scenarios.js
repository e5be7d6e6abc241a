import { LARGE } from './payload.js'

const read = { method: 'GET', path: '/read', sessions: 1 }
const change = { method: 'POST', path: '/change', sessions: 1 }

/**
 * What is asked of the contenders. `sessions`: how many are there beforehand; 0 sends no session cookie. A request's
 * session is drawn at random from all of them, or from `sample` that are spread evenly. `bytes`: how large each is.
 * `follow`: as createLoad takes it; `'each'` needs a session for each of the `connections`. `csrf`: with a token and the
 * headers of a browser. `counts`: each request adds one.
 */
export const SCENARIOS = [
  { name: 'anonymous', title: 'an anonymous visitor', method: 'GET', path: '/hello', sessions: 0 },
  { ...read, name: 'anonymous-read', title: 'an anonymous visitor, whose session is looked at', sessions: 0 },
  { ...read, name: 'read-hot', title: 'reading one key, one hot session' },
  { ...read, name: 'read-10k', title: 'reading one key, 10,000 sessions at random', sessions: 10_000 },
  {
    ...read,
    name: 'read-1m',
    title: 'reading one key, 1,000,000 sessions at random',
    sessions: 1_000_000,
    sample: 100_000
  },
  { ...read, name: 'read-64k', title: 'reading one key of a 64 KB session', bytes: LARGE },
  { ...change, name: 'change', title: 'changing one key' },
  { ...change, name: 'change-64k', title: 'changing one key of a 64 KB session', bytes: LARGE },
  {
    name: 'login',
    title: 'login, with a new id',
    method: 'POST',
    path: '/login',
    sessions: 64,
    connections: 64,
    follow: 'each'
  },
  {
    name: 'csrf',
    title: 'a POST through CSRF protection',
    method: 'POST',
    path: '/csrf',
    sessions: 1,
    csrf: true
  },
  {
    name: 'writers',
    title: 'eight writers that count in one session',
    method: 'POST',
    path: '/add',
    sessions: 1,
    connections: 8,
    follow: 'shared',
    counts: true
  }
]
