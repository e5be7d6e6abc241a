import { randomBytes } from 'node:crypto'
import { sendRequest } from './send-request.js'
import { createLoad, sendLoad } from './load.js'

/**
 * The number of connections is high enough to keep the server busy. A server that waits for requests spends extra CPU
 * time on waking up.
 */
const CONNECTIONS = 64
/**
 * The length of the warm-up: at least `requests` requests or at least `cpu` µs of CPU time, but never more than
 * `windows` windows. A window is a series of requests that are measured together.
 */
const WARM = { requests: 20_000, cpu: 3e6, windows: 8 }
/**
 * The warm-up continues as long as the CPU time per request keeps falling: in each window, it is less than this
 * fraction of its value in the window before.
 */
const SETTLED = 0.93
/**
 * A placeholder for the CSRF token. It is sent to contenders without sessions, so that their requests are as long
 * as those to the other contenders.
 */
const NO_TOKEN = 'a'.repeat(86)

/** Creates the sessions of a scenario and returns a load: the requests that `measure` sends. */
export async function prepare(server, contender, scenario) {
  const { method, path, follow, connections = CONNECTIONS } = scenario
  const cookies = await cookiesOf(server, contender, scenario)
  const headers = scenario.csrf ? await csrfHeaders(server, contender, cookies[0]) : {}
  return createLoad({ url: server.url, method, path, headers, cookies, follow, connections })
}

/**
 * Sends requests to a server until V8 has probably compiled the server's code. The warm-up ends when the server has
 * handled enough requests or used enough CPU time, and its CPU time per request has stopped falling. Returns how many
 * requests take `seconds` of the server's CPU time.
 * The length of a window is given in CPU time, because a busy machine would serve fewer requests in the same wall time.
 */
export async function warmUp(server, load, seconds) {
  let last = await measure(server, load, load.connections)
  let sent = last.requests
  let spent = last.requests * last.cpu
  for (let window = 1; window <= WARM.windows; window++) {
    const next = await measure(server, load, amountFor(seconds, last, load))
    const isSettled = next.cpu > SETTLED * last.cpu
    last = next
    sent += next.requests
    spent += next.requests * next.cpu
    if (isSettled && (sent >= WARM.requests || spent >= WARM.cpu)) break
  }
  return amountFor(seconds, last, load)
}

/**
 * Returns how many requests take about `seconds` of CPU time. The number is a multiple of the number of connections, so
 * that none of them is idle at the end.
 */
function amountFor(seconds, { cpu }, { connections }) {
  return connections * Math.max(1, Math.round((seconds * 1e6) / cpu / connections))
}

/**
 * Measures one window of requests. `cpu` is the server's CPU time per request in µs (user and system). `rss` is its
 * memory in bytes.
 */
export async function measure(server, load, amount) {
  const before = await server.ask('usage')
  const { requests, failed, seconds, p50, p99 } = await sendLoad(load, amount, server)
  const after = await server.ask('usage')
  const cpu = (after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system) / requests
  return { requests, failed, rps: requests / seconds, p50, p99, cpu, rss: after.rss }
}

/** Measures one window of requests, each of which adds one to the same counter, and counts the lost updates. */
export async function measureLosses(server, load, amount) {
  const count = async () =>
    (await sendRequest(server.url, 'GET', '/all', { cookie: load.cookies[0] })).body.count ?? 0
  const before = await count()
  const sample = await measure(server, load, amount)
  return { ...sample, lost: sample.requests - ((await count()) - before) }
}

async function cookiesOf(server, { kind }, { sessions, bytes }) {
  if (kind === 'none') return Array.from({ length: sessions }, fakeCookie)
  return sessions === 0 ? [] : seed(server, sessions, bytes)
}

/**
 * Creates `count` sessions of about `bytes` bytes with real requests and returns their cookies. `app.inject()` would be
 * faster, but it would make V8 allocate parts of all later requests in its old space, which slows down garbage
 * collection.
 */
export async function seed({ url, died }, count, bytes = 0) {
  const cookies = []
  const path = `/seed?bytes=${bytes}`
  const load = createLoad({ url, method: 'POST', path, connections: Math.min(count, CONNECTIONS) })
  await sendLoad(load, count, { died, onCookie: (cookie) => cookies.push(cookie) })
  if (cookies.length !== count) throw new Error(`got ${cookies.length} cookies for ${count} new sessions`)
  return cookies
}

function fakeCookie() {
  return `${randomBytes(32).toString('hex')}.${randomBytes(32).toString('base64url')}`
}

/** Returns the headers that a browser sends with a same-origin request, including a CSRF token. */
async function csrfHeaders({ url }, { kind }, cookie) {
  const token = kind === 'none' ? NO_TOKEN : (await sendRequest(url, 'GET', '/token', { cookie })).body.token
  return { Origin: url, 'Sec-Fetch-Site': 'same-origin', 'X-CSRF-Token': token }
}
