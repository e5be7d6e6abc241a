import { sendRequest } from './send-request.js'
import { HELLO, NAME } from './payload.js'

/**
 * Checks that a contender works correctly, before its speed is measured. The contender must set a cookie with the
 * attributes that all contenders use, return stored values, keep changes, send a new cookie at login and forget the
 * session at logout.
 * @throws {Error} if a step fails. The message names the step.
 */
export async function check(server, contender) {
  const visitor = browse(server.url)
  expect('GET /hello', (await visitor('GET', '/hello')).body, HELLO)
  if (contender.kind === 'none')
    return expect('GET /read', (await visitor('GET', '/read')).body, { name: NAME })
  expect('the name read without a session', (await visitor('GET', '/read')).body, { name: null })
  await checkCookie(await browse(server.url)('POST', '/seed'))
  await checkSession(browse(server.url), contender)
}

async function checkSession(visitor, { kind, skip }) {
  await visitor('POST', '/seed')
  expect('the value read back', (await visitor('GET', '/read')).body, { name: NAME })
  expect('the first change', (await visitor('POST', '/change')).body, { visits: 1 })
  expect('the second change', (await visitor('POST', '/change')).body, { visits: 2 })
  const old = skip.login === undefined ? [await logIn(visitor)] : []
  old.push(visitor.cookie())
  await visitor('POST', '/logout')
  expect('the name read after the logout', (await visitor('GET', '/read')).body, { name: null })
  // If the session is stored in the cookie, the server cannot end it: an old copy of the cookie still works.
  if (kind !== 'server') return
  for (const cookie of old) {
    expect(
      'the name read with a cookie from before the login or logout',
      (await visitor('GET', '/read', cookie)).body,
      {
        name: null
      }
    )
  }
}

/** Logs in and returns the cookie that the client had before the login. */
async function logIn(visitor) {
  const before = visitor.cookie()
  await visitor('POST', '/login')
  const { name, visits, user } = (await visitor('GET', '/all')).body
  expect('the data after the login', { name, visits, user }, { name: NAME, visits: 2, user: 'ada' })
  if (visitor.cookie() === before) throw new Error('the login did not set a new cookie')
  return before
}

function checkCookie({ setCookie = '' }) {
  const attributes = setCookie
    .split(';')
    .slice(1)
    .map((text) => text.trim().toLowerCase())
    .sort()
  for (const wanted of ['httponly', 'path=/', 'samesite=lax']) {
    if (!attributes.includes(wanted))
      throw new Error(`the cookie does not have ${wanted}: ${setCookie || 'no cookie was set'}`)
  }
  if (!attributes.some((text) => /^(max-age|expires)=/.test(text)))
    throw new Error(`the cookie has neither Max-Age nor Expires: ${setCookie}`)
}

/** Returns a client that keeps the session cookie. If `cookie` is passed to a request, that cookie is sent instead. */
function browse(url) {
  let jar = ''
  async function send(method, path, cookie) {
    const reply = await sendRequest(url, method, path, { cookie: cookie ?? jar })
    if (reply.status !== 200) throw new Error(`${method} ${path} returned status ${reply.status}`)
    if (cookie === undefined) jar = reply.cookie ?? jar
    return reply
  }
  return Object.assign(send, { cookie: () => jar })
}

function expect(subject, found, wanted) {
  const [is, should] = [JSON.stringify(found), JSON.stringify(wanted)]
  if (is !== should) throw new Error(`${subject} is ${is}, but should be ${should}`)
}
