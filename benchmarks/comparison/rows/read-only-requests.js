// A browser sends ten requests that only read the session. What do they write to the store, and how many cookies do
// they set? A touch writes only the time at which the session ends. fastify-sesame touches a session only after a tenth of
// the idle timeout.
export const title = 'ten requests that only read; with an idle timeout'

export async function measure({ start }) {
  return `${await countWrites(start, {})}; ${await countWrites(start, { idle: true })}`
}

async function countWrites(start, options) {
  const server = await start(options)
  const browser = await server.signIn()
  const calls = server.control?.calls ?? []
  calls.length = 0
  let cookies = 0
  for (let request = 0; request < 10; request++) cookies += (await browser.get('/data')).setCookies
  const touches = calls.filter(({ method }) => method === 'touch').length
  const writes = calls.filter(({ method }) => method !== 'get').length - touches
  await server.close()
  const counts = Object.entries({ writes, touches, cookies }).filter(([, count]) => count > 0)
  return counts.map(([what, count]) => `${count} ${what}`).join(', ') || 'nothing'
}
