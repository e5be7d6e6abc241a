import { ask } from './ask.js'
import { HELLO, NAME } from './payload.js'

/**
 * Makes sure that a contender does the work before it is timed: it sets a cookie with the attributes that all share,
 * reads back what was kept, keeps what is changed, gives a new cookie at login, and forgets everything at logout.
 * @throws when it does not, saying what is wrong.
 */
export async function check(server, contender) {
  const visitor = browse(server.url)
  expect('GET /hello', (await visitor('GET', '/hello')).body, HELLO)
  if (contender.kind === 'none')
    return expect('GET /read', (await visitor('GET', '/read')).body, { name: NAME })
  expect('a visitor without a session', (await visitor('GET', '/read')).body, { name: null })
  await checkCookie(await browse(server.url)('POST', '/seed'))
  await checkLife(browse(server.url), contender)
}

async function checkLife(visitor, { kind, skip }) {
  await visitor('POST', '/seed')
  expect('the value read back', (await visitor('GET', '/read')).body, { name: NAME })
  expect('the first change', (await visitor('POST', '/change')).body, { visits: 1 })
  expect('the second change', (await visitor('POST', '/change')).body, { visits: 2 })
  const old = skip.login === undefined ? [await logIn(visitor)] : []
  old.push(visitor.cookie())
  await visitor('POST', '/logout')
  expect('a session after its logout', (await visitor('GET', '/read')).body, { name: null })
  // A session that only the client holds cannot be ended for good.
  if (kind !== 'server') return
  for (const cookie of old) {
    expect('a cookie of before the login or the logout', (await visitor('GET', '/read', cookie)).body, {
      name: null
    })
  }
}

/** The cookie of before. */
async function logIn(visitor) {
  const before = visitor.cookie()
  await visitor('POST', '/login')
  const { name, visits, user } = (await visitor('GET', '/all')).body
  expect('what a login leaves', { name, visits, user }, { name: NAME, visits: 2, user: 'ada' })
  if (visitor.cookie() === before) throw new Error('the login gave no new cookie')
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
      throw new Error(`the cookie has no ${wanted}: ${setCookie || 'none was set'}`)
  }
  if (!attributes.some((text) => /^(max-age|expires)=/.test(text)))
    throw new Error(`the cookie has no end: ${setCookie}`)
}

/** A client that keeps the session cookie. A cookie that is given is sent instead, and the answer's is not kept. */
function browse(url) {
  let jar = ''
  async function send(method, path, cookie) {
    const reply = await ask(url, method, path, { cookie: cookie ?? jar })
    if (reply.status !== 200) throw new Error(`${method} ${path} was answered with ${reply.status}`)
    if (cookie === undefined) jar = reply.cookie ?? jar
    return reply
  }
  return Object.assign(send, { cookie: () => jar })
}

function expect(what, found, wanted) {
  const [is, should] = [JSON.stringify(found), JSON.stringify(wanted)]
  if (is !== should) throw new Error(`${what} is ${is}, and should be ${should}`)
}
