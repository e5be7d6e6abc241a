import { randomBytes } from 'node:crypto'
import { ask } from './ask.js'
import { createLoad, sendLoad } from './load.js'

/** So many that the server always has work: one that waits for the load pays, in CPU time, for being woken. */
const CONNECTIONS = 64
/** A server is warm after so many requests or so much work (µs of CPU), at the latest after so many windows. */
const WARM = { requests: 20_000, cpu: 3e6, windows: 8 }
const SETTLED = 0.93
/** What a contender without sessions is sent, so that the request is as long. */
const NO_TOKEN = 'a'.repeat(86)
/** From here on, sessions are put into the store directly where the contender can do that. */
const MANY = 100_000

/** Makes the sessions of a scenario, and the load that `measure` sends. */
export async function prepare(server, contender, scenario) {
  const { method, path, follow, connections = CONNECTIONS } = scenario
  const cookies = await cookiesOf(server, contender, scenario)
  const headers = scenario.csrf ? await csrfHeaders(server, contender, cookies[0]) : {}
  return createLoad({ url: server.url, method, path, headers, cookies, follow, connections })
}

/**
 * Runs a server until its code is compiled: until a window costs no longer clearly less than the one before, and enough
 * requests were sent. How many requests a window of `seconds` of the server's CPU time has: counted so, because a busy
 * machine would make wall time's windows shorter.
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

/** Every connection sends equally many, so that none is idle at the end. */
function amountFor(seconds, { cpu }, { connections }) {
  return connections * Math.max(1, Math.round((seconds * 1e6) / cpu / connections))
}

/** One timed window. `cpu`: µs of the server's CPU time a request, user and system. `rss`: bytes. */
export async function measure(server, load, amount) {
  const before = await server.ask('usage')
  const { requests, failed, seconds, p50, p99 } = await sendLoad(load, amount, server)
  const after = await server.ask('usage')
  const cpu = (after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system) / requests
  return { requests, failed, rps: requests / seconds, p50, p99, cpu, rss: after.rss }
}

/** The same, of requests that each add one: how many of them were lost, too. */
export async function measureLosses(server, load, amount) {
  const count = async () =>
    (await ask(server.url, 'GET', '/all', { cookie: load.cookies[0] })).body.count ?? 0
  const before = await count()
  const sample = await measure(server, load, amount)
  return { ...sample, lost: sample.requests - ((await count()) - before) }
}

async function cookiesOf(server, { kind }, { sessions, sample = sessions, bytes }) {
  if (kind === 'none') return Array.from({ length: sample }, fakeCookie)
  if (sessions === 0) return []
  if (sessions >= MANY && (await server.ask('canFill'))) {
    return server.ask('fill', { count: sessions, sample })
  }
  return seed(server, sessions, bytes)
}

/** Makes `count` sessions as visitors would; their cookies. `bytes`: how large each is. */
export async function seed({ url, died }, count, bytes = 0) {
  const cookies = []
  const path = `/seed?bytes=${bytes}`
  const load = createLoad({ url, method: 'POST', path, connections: Math.min(count, CONNECTIONS) })
  await sendLoad(load, count, { died, onCookie: (cookie) => cookies.push(cookie) })
  if (cookies.length !== count) throw new Error(`set ${cookies.length} cookies for ${count} new sessions`)
  return cookies
}

function fakeCookie() {
  return `${randomBytes(32).toString('hex')}.${randomBytes(32).toString('base64url')}`
}

/** What a browser sends with a script's request to its own site. */
async function csrfHeaders({ url }, { kind }, cookie) {
  const token = kind === 'none' ? NO_TOKEN : (await ask(url, 'GET', '/token', { cookie })).body.token
  return { Origin: url, 'Sec-Fetch-Site': 'same-origin', 'X-CSRF-Token': token }
}
