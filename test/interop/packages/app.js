import Fastify from 'fastify'
import sessions from '../../../dist/index.js'
import { makeBrowser } from '../fixtures/browser.js'

export const SECRET = 'a secret for the interop checks, 32 bytes or more'

/**
 * Returns a function that starts an application and returns a browser for it, and a function that closes all
 * applications. The package is registered before or after the session plugin, as `order` says.
 */
export function makeStarter(order) {
  const apps = []

  async function start({ register, routes, session = {}, fastify = {} }) {
    const app = Fastify(fastify)
    apps.push(app)
    if (order === 'before') await register(app)
    await app.register(sessions, { secret: SECRET, cookie: { secure: false }, ...session })
    if (order === 'after') await register(app)
    await routes(app)
    return makeBrowser(await app.listen({ host: '127.0.0.1', port: 0 }))
  }

  const close = () => Promise.all(apps.map((app) => app.close()))
  /** `closeLater` closes something else too, such as another server. */
  return { start, close, closeLater: (app) => apps.push(app) }
}
