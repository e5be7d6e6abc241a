#!/usr/bin/env node
// Measures single operations of the library. Run it with `node benchmarks/micro.js`.
import { Buffer } from 'node:buffer'
import Fastify from 'fastify'
import { bench, do_not_optimize as keep, group, run } from 'mitata'
import { createTokens } from '../dist/cookies/tokens.js'
import { kSessions } from '../dist/http/request-sessions.js'
import { kState } from '../dist/http/request-state.js'
import sessions from '../dist/index.js'
import { COOKIE, SECRET } from './payload.js'

/** The number of different cookies to verify. It exceeds the capacity of the cache of verified cookies. */
const COOKIES = 200_000

const app = Fastify()
await app.register(sessions, { secret: SECRET, cookie: { secure: false } })
const internals = app[kSessions]
const tokens = createTokens([Buffer.from(SECRET)], 32)
const held = holdRoute()
const { cookie, token } = await logIn()
const { request, reply } = await openRequest()

const values = Array.from({ length: COOKIES }, () => tokens.sign(tokens.mint()))
const hot = values[0]
let next = 0
let visits = 0

group('cookie', () => {
  bench('verify a cached cookie', () => keep(tokens.verify(hot)))
  bench('verify a cookie that is not cached', () => keep(tokens.verify(values[next++ % COOKIES])))
  bench('mint a token', () => keep(tokens.mint()))
  bench('sign a token', () => keep(tokens.sign('a'.repeat(64))))
})

group('session', () => {
  bench('load', () => keep(load()))
  bench('get', () => keep(request.session.get('name')))
  bench('load and set', () => load().set('visits', ++visits))
  bench('load and commit without a change', () => keep(internals.save(load(), reply)))
  bench('load, set and commit', () => {
    const session = load()
    session.set('visits', ++visits)
    keep(internals.save(session, reply))
  })
})

group('CSRF', () => {
  bench('generate a token', () => keep(reply.generateCsrf()))
  bench('check a request', () => app.csrfProtection(request, reply, () => {}))
})

await run({ colors: process.stdout.isTTY === true })
held.release()
await app.close()

/**
 * Loads the session as the `onRequest` hook does. A request loads its session only once, so the session state of the
 * request is reset first.
 */
function load() {
  request[kState] = null
  internals.load(request)
  return request.session
}

/** Adds a route whose reply waits for `release()`, so that the request and its session stay open. */
function holdRoute() {
  let open
  let release
  const opened = new Promise((resolve) => (open = resolve))
  const released = new Promise((resolve) => (release = resolve))
  app.post('/held', async (request, reply) => {
    open({ request, reply })
    await released
    return 'done'
  })
  app.get('/token', async ({ session }, reply) => {
    session.set('name', 'Ada')
    return reply.generateCsrf()
  })
  return { opened, release }
}

async function logIn() {
  const response = await app.inject('/token')
  const [{ value }] = response.cookies
  return { cookie: `${COOKIE.name}=${value}`, token: response.body }
}

async function openRequest() {
  const headers = { cookie, 'x-csrf-token': token, 'sec-fetch-site': 'same-origin' }
  // `inject()` returns an object that does not send the request until its method `then` is called.
  app.inject({ method: 'POST', url: '/held', headers }).then(() => {})
  return held.opened
}
