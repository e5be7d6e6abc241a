// Somebody reads the store, for example in a backup. Does it show the id that is in the cookie?
import { createHash } from 'node:crypto'

export const title = 'the id in the store'

export async function measure({ start }) {
  const server = await start()
  const browser = await server.signIn()
  await server.close()
  if (server.control === undefined) return 'no store'
  const [id] = decodeURIComponent(browser.cookies).replace(/^s:/, '').split('.')
  const stored = JSON.stringify(server.control.calls.map(({ args }) => args))
  if (stored.includes(id)) return 'as in the cookie'
  return stored.includes(createHash('sha256').update(id).digest('hex')) ? 'a hash' : 'another'
}
