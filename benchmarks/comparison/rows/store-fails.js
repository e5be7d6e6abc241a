// The store fails, first when it reads a session, then when it saves one. Does the client learn of it?
import { SAVES } from '../control.js'

export const title = 'the reply if the store fails to read; to save'

export const remedies = {
  'express-session': { text: 'With `session.save()` before the reply', path: '/set?key=a&save' }
}

export async function measure({ start }, { path = '/set?key=a' } = {}) {
  const server = await start()
  if (server.control === undefined) return server.close().then(() => 'no store')
  const browser = await server.signIn()
  const ok = server.control.before
  const replyIf = async (fails) => {
    server.control.before = async (method) => {
      if (fails(method)) throw new Error('the store is down')
    }
    const { status } = await browser.post(path)
    server.control.before = ok
    const { a } = await browser.data()
    return status === 200 && a === undefined ? '200, but lost' : status
  }
  const read = await replyIf((method) => method === 'get')
  const save = await replyIf((method) => SAVES.has(method))
  await server.close()
  return `${read}; ${save}`
}
