// A slow request changes the session. While it runs, the user logs out. Is the user signed in again afterwards, with the
// browser's cookie or with a copy of the old one? Without a store, every copy works, so only the browser's cookie counts.
export const title = 'a slow request that writes ends after the logout'

export async function measure({ start }, { path = '/slow-set?key=a', idle } = {}) {
  const server = await start({ idle })
  const browser = await server.signIn()
  const copy = browser.copy()
  const slow = browser.post(path)
  await server.gate.reached
  await browser.post('/logout')
  server.gate.open()
  const { status } = await slow
  const isBack = (await browser.isSignedIn()) || (server.control && (await copy.isSignedIn()))
  await server.close()
  return isBack ? 'signed in again' : `signed out, ${status}`
}
