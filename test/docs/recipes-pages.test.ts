import { writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Browser } from '../fixtures/app.js'
import { listen } from '../fixtures/diagnostics.js'
import { post, recipe, signedIn } from './fixtures/recipes.js'

const HTML = { accept: 'text/html' }

recipe('Flash messages in every template', async (t, load) => {
  const { app } = await load()
  app.get('/json', async () => ({ ok: true }))
  const browser = new Browser(app)
  await post(browser, '/save')
  await browser.get('/json')
  const page = await browser.get('/')
  t.equal(page.body, '<p>Saved</p>')
  t.equal((await browser.get('/')).body, '<p>undefined</p>', 'the message is shown once')
  t.equal((await new Browser(app).get('/')).headers['set-cookie'], undefined, 'no token is printed')
})

recipe('CSRF errors as a page', async (t, load) => {
  const { app } = await load()
  app.post('/form', { preHandler: app.csrfProtection }, async () => 'sent')
  app.get('/broken', async () => {
    throw Object.assign(new Error('teapot'), { statusCode: 418 })
  })
  const browser = new Browser(app)
  const page = await post(browser, '/form', {}, HTML)
  t.match(page, { statusCode: 403, headers: { 'content-type': /^text\/html/ } })
  t.match(page.body, '<a href="">')
  const foreign = await post(browser, '/form', {}, { ...HTML, 'sec-fetch-site': 'cross-site' })
  t.match(foreign, { statusCode: 403, body: /<a href="">/ })
  const json = await post(browser, '/form', {}, { accept: 'application/json' })
  t.match(json.json(), { statusCode: 403, code: 'SESSION_CSRF_TOKEN' })
  t.match((await browser.get('/broken', HTML)).json(), { statusCode: 418, message: 'teapot' })
})

recipe('Upload a file as a stream', async (t, load) => {
  const { app } = await load()
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const { browser, headers } = await signedIn(app, { userId: 'ada' })
  const upload = async (extra: object, chunks: readonly string[]) => {
    const sent = request({
      port,
      method: 'PUT',
      path: '/file',
      agent: false,
      headers: { 'content-type': 'application/octet-stream', cookie: browser.cookie, ...extra }
    })
    for (const chunk of chunks) sent.write(chunk)
    return sent
  }
  const refused = await upload({}, ['the first byte'])
  const [refusal] = (await once(refused, 'response')) as [{ statusCode: number }]
  t.equal(refusal.statusCode, 403, 'without a token, before the file has ended')
  refused.destroy()

  const accepted = await upload(headers, ['some ', 'bytes'])
  accepted.end(' more')
  const [answer] = (await once(accepted, 'response')) as [AsyncIterable<Buffer> & { statusCode: number }]
  let body = ''
  for await (const chunk of answer) body += chunk.toString()
  t.same([answer.statusCode, JSON.parse(body)], [200, { size: 15 }])
  const [session] = await app.sessionManager.list('ada', { data: true })
  t.match(session, { data: { lastUpload: 15 } })
})

recipe('Static files and 404s without a store read', async (t, load) => {
  const folder = t.testdir({ 'logo.svg': '<svg/>' })
  writeFileSync(join(folder, 'app.css'), 'p {}')
  const { app } = await load({ replace: { "join(import.meta.dirname, 'public')": JSON.stringify(folder) } })
  app.get('/page', async ({ session }) => session.get('userId'))
  const { browser } = await signedIn(app, { userId: 'ada' })
  const loads = listen(t, 'loaded')
  t.equal((await browser.get('/public/app.css')).body, 'p {}')
  t.equal((await browser.get('/public/logo.svg')).body, '<svg/>')
  t.equal((await browser.get('/public/missing.js')).body, 'This page does not exist.')
  t.match(await browser.get('/missing'), { statusCode: 404, body: 'This page does not exist.' })
  t.same(loads, [], 'no session was loaded')
  t.equal((await browser.get('/page')).body, 'ada')
  t.equal(loads.length, 1)
})

recipe('A Cache-Control header of your own', async (t, load) => {
  const { app } = await load()
  app.get('/page', async () => 'a page')
  app.get('/own', async (_request, reply) => reply.header('cache-control', 'public').send('for everybody'))
  app.get('/form', async (_request, reply) => reply.generateCsrf())
  app.get('/theme', async ({ session }) => session.set('theme', 'dark'))
  const cacheControl = async (url: string) => (await app.inject(url)).headers['cache-control']
  t.equal(await cacheControl('/page'), 'private, no-cache')
  t.equal(await cacheControl('/own'), 'public')
  t.equal(await cacheControl('/form'), 'no-store')
  t.equal(await cacheControl('/theme'), 'no-store')
})

// test/browser/recipes.test.ts shows in Chromium that the form passes.
recipe('Forms fail because the origin is null', async (t, load) => {
  const { app } = await load()
  app.get('/page', async () => 'a page')
  const { headers } = await app.inject('/page')
  t.equal(headers['referrer-policy'], 'same-origin')
  t.notMatch(headers['content-security-policy'], 'upgrade-insecure-requests')
})

recipe('The login fails in Safari on localhost', async (t, load) => {
  const { NODE_ENV } = process.env
  t.teardown(() => {
    if (NODE_ENV === undefined) delete process.env['NODE_ENV']
    else process.env['NODE_ENV'] = NODE_ENV
  })
  for (const [environment, secure] of [
    ['development', undefined],
    ['production', true]
  ] as const) {
    process.env['NODE_ENV'] = environment
    const { app } = await load()
    app.post('/login', async ({ session }) => session.login('ada'))
    const [cookie] = (await post(new Browser(app), '/login')).cookies
    t.equal(cookie?.secure, secure, environment)
  }
})
