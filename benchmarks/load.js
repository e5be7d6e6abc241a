import { Buffer } from 'node:buffer'
import { performance } from 'node:perf_hooks'
import { URL } from 'node:url'
import autocannon from 'autocannon'
import { COOKIE } from './payload.js'
import { percentile } from './statistics.js'

/**
 * Builds the bytes of the requests in advance, so that sending them costs little CPU time compared with serving them.
 * `cookies` holds values of the session cookie. Each request sends one of them, chosen at random, or no cookie if the
 * list is empty. With `follow`, a request sends the newest cookie from a reply on the same connection
 * (`'each'`) or on any connection (`'shared'`).
 */
export function createLoad({ url, method, path, headers = {}, cookies = [], follow, connections }) {
  const start = startOf({ url, method, path, headers })
  const bytesFor = (cookie) =>
    Buffer.from(`${start}${cookie === undefined ? '' : `Cookie: ${COOKIE.name}=${cookie}\r\n`}\r\n`)
  const requests = cookies.length === 0 ? [bytesFor()] : cookies.map((cookie) => bytesFor(cookie))
  return { url, connections, cookies, follow, requests, bytesFor }
}

/**
 * Sends `amount` requests and waits for all replies. Rejects if `died` rejects, which means that the server process has
 * exited. Calls `onCookie` with each session cookie that a reply sets.
 */
export async function sendLoad(load, amount, { died, onCookie }) {
  const options = { url: load.url, amount, connections: load.connections, sampleInt: 20, timeout: 30 }
  const tally = { done: 0, failed: 0, ended: 0, latencies: new Float64Array(amount) }
  const started = performance.now()
  let instance
  const closed = new Promise((resolve) => {
    instance = autocannon({ ...options, setupClient: clientSetup(load, onCookie) }, resolve)
  })
  try {
    await Promise.race([repliesOf(instance, amount, tally), died])
  } finally {
    instance.stop()
    await closed
  }
  const { done, failed, ended, latencies } = tally
  const [p50, p99] = [percentile(latencies, 50), percentile(latencies, 99)]
  return { requests: done, failed, seconds: (ended - started) / 1000, p50, p99 }
}

function clientSetup({ requests, cookies, follow, bytesFor }, onCookie) {
  let opened = 0
  return function setupClient(client) {
    const slot = follow === 'each' ? opened++ : 0
    // autocannon can vary requests itself, but that costs more CPU time, because it builds every request from scratch.
    client.getRequestBuffer =
      follow === undefined ? () => requests[(Math.random() * requests.length) | 0] : () => requests[slot]
    if (follow === undefined && onCookie === undefined) return
    client.on('headers', ({ headers }) => {
      const cookie = cookieIn(headers)
      if (cookie === undefined) return
      onCookie?.(cookie)
      if (follow === undefined) return
      cookies[slot] = cookie
      requests[slot] = bytesFor(cookie)
    })
  }
}

/**
 * Resolves when the last reply arrives. autocannon reports the end of the run some time later, and this delay must not
 * be part of the measured time.
 */
function repliesOf(instance, amount, tally) {
  return new Promise((resolve) => {
    instance.on('reqError', () => tally.failed++)
    instance.on('response', (_client, status, _bytes, milliseconds) => {
      if (status < 200 || status > 299) tally.failed++
      tally.latencies[tally.done++] = milliseconds
      if (tally.done < amount) return
      tally.ended = performance.now()
      resolve()
    })
  })
}

function startOf({ url, method, path, headers }) {
  const length = method === 'POST' ? { 'Content-Length': 0 } : {}
  const all = { Host: new URL(url).host, Connection: 'keep-alive', ...length, ...headers }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}`
}

/**
 * Returns the value of the session cookie that the raw headers set. Returns `undefined` if they set none or clear it.
 */
function cookieIn(rawHeaders) {
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = [rawHeaders[at], rawHeaders[at + 1]]
    if (name.toLowerCase() !== 'set-cookie' || !value.startsWith(`${COOKIE.name}=`)) continue
    const cookie = value.slice(COOKIE.name.length + 1).split(';', 1)[0]
    if (cookie !== '') return cookie
  }
}
