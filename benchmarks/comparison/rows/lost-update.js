// Two requests of one browser overlap, as when a user has two tabs. Each sets another key of the session.
export const title = 'two requests change different keys at once'

export async function measure({ start }) {
  const server = await start()
  const browser = await server.signIn()
  const slow = browser.post('/slow-set?key=a')
  await server.gate.reached
  await browser.post('/set?key=b')
  server.gate.open()
  await slow
  const { a, b } = await browser.data()
  await server.close()
  return a && b ? 'both kept' : 'one lost'
}
