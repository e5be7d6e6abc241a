import { request } from 'node:http'
import { URL } from 'node:url'
import { COOKIE } from './payload.js'

/**
 * Sends one request on a new connection.
 * In the result, `cookie` is the new value of the session cookie. It is `''` if the reply cleared the cookie, and
 * `undefined` if the reply did not set it.
 */
export async function sendRequest(url, method, path, { cookie, headers = {} } = {}) {
  const sent = { ...headers, ...(cookie ? { cookie: `${COOKIE.name}=${cookie}` } : {}) }
  const response = await new Promise((resolve, reject) => {
    request(new URL(path, url), { method, headers: sent, agent: false, timeout: 10_000 }, resolve)
      .on('timeout', () => reject(new Error(`${method} ${path} was not answered`)))
      .on('error', reject)
      .end()
  })
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk
  const setCookie = response.headers['set-cookie']?.find((line) => line.startsWith(`${COOKIE.name}=`))
  const value = setCookie?.slice(COOKIE.name.length + 1).split(';', 1)[0]
  return { status: response.statusCode, body: bodyOf(text), cookie: value, setCookie }
}

function bodyOf(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
