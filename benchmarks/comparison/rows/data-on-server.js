// A session has 10 KB of data. Is it in the cookie? Browsers refuse a cookie of more than 4 KB.
export const title = 'a session with 10 KB of data'

export async function measure({ start }) {
  const server = await start()
  const browser = await server.signIn()
  await browser.post(`/set?key=a&size=${10 * 1024}`)
  await server.close()
  return browser.cookies.length > 4096 ? 'cookie too large' : 'kept'
}
