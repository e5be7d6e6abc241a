// A user logs out. Does the browser still have the cookie? Does a copy of the cookie, such as a thief's, still work?
export const title = 'after a logout: the browser’s cookie; a copy of it'

const text = 'With `reply.clearCookie()` in the logout'
export const remedies = {
  '@fastify/session': { text, path: '/logout?clear=sessionId' },
  'express-session': { text, path: '/logout?clear=connect.sid' }
}

export async function measure({ start }, { path = '/logout' } = {}) {
  const server = await start()
  const browser = await server.signIn()
  const copy = browser.copy()
  await browser.post(path)
  const works = await copy.isSignedIn()
  await server.close()
  return `${browser.cookies === '' ? 'deleted' : 'stays'}; ${works ? 'works' : 'is dead'}`
}
