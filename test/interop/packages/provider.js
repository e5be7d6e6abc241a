import { URLSearchParams } from 'node:url'
import Fastify from 'fastify'

/** Starts a provider of OAuth 2.0 that signs in the user `ada` without asking. */
export async function startProvider() {
  const app = Fastify()
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    async (_request, text) => Object.fromEntries(new URLSearchParams(text))
  )
  app.get('/authorize', async ({ query }, reply) => {
    const url = new URL(query.redirect_uri)
    url.searchParams.set('code', 'a code')
    if (query.state !== undefined) url.searchParams.set('state', query.state)
    return reply.redirect(url.href)
  })
  app.post('/token', async ({ body }, reply) => {
    if (body.code !== 'a code') return reply.code(400).send({ error: 'invalid_grant' })
    return { access_token: 'a token', token_type: 'Bearer', user: 'ada' }
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return { url, close: () => app.close() }
}
