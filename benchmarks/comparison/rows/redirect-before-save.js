// A login redirects to a page, and the store needs a second to save the session. A browser follows a redirect as soon
// as the headers have arrived. Is the user signed in on that page?
import { clearTimeout, setTimeout } from 'node:timers'
import { Browser } from '../browser.js'
import { SAVES } from '../control.js'

export const title = 'the page after a login, if the store is slow'

export const remedies = {
  'express-session': { text: 'With `session.save()` before the redirect', path: '/login-and-redirect?save' }
}

export async function measure({ start }, { path = '/login-and-redirect' } = {}) {
  const server = await start()
  const browser = new Browser(server.url)
  const delay = slowDown(server.control)
  const redirect = await browser.open('POST', path)
  const page = await browser.open('GET', redirect.headers.get('location'))
  const { userId } = await page.json()
  delay.end()
  await server.close()
  return userId === 'ada' ? 'signed in' : 'not signed in'
}

function slowDown(control) {
  let end
  const saved = new Promise((resolve) => (end = resolve))
  const timer = setTimeout(end, 1000)
  if (control !== undefined) control.before = (method) => (SAVES.has(method) ? saved : undefined)
  return { end: () => (clearTimeout(timer), end()) }
}
