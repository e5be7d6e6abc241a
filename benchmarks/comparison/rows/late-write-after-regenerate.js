// A slow request changes the session. While it runs, the session gets a new id. Does the old cookie still work?
export const title = 'the old cookie, if a slow request ends after `regenerate()`'

export async function measure({ start }) {
  const server = await start()
  const browser = await server.signIn()
  const old = browser.copy()
  const slow = browser.post('/slow-set?key=a')
  await server.gate.reached
  await browser.post('/regenerate')
  server.gate.open()
  await slow
  const works = await old.isSignedIn()
  await server.close()
  return works ? 'works' : 'is dead'
}
