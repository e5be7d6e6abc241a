// The store never replies, as when a firewall drops its packets. Does the client get a reply within 4 seconds?
export const title = 'the reply if the store hangs'

export const remedies = {
  '@fastify/session': { text: 'With Fastify’s `handlerTimeout: 2000`', app: { handlerTimeout: 2000 } }
}

export async function measure({ start }, { app } = {}) {
  const server = await start({ app })
  if (server.control === undefined) return server.close().then(() => 'no store')
  const browser = await server.signIn()
  server.control.before = () => new Promise(() => {})
  const reply = await browser.send('GET', '/data', 4000).catch((error) => {
    if (error.name !== 'TimeoutError') throw error
  })
  await server.close()
  return reply === undefined ? 'none' : `${reply.status}`
}
