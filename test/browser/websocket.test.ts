import websocket from '@fastify/websocket'
import type { FastifyRequest } from 'fastify'
import type { Page } from 'playwright-core'
import t from 'tap'
import { makeAttacker } from './fixtures/attacker.js'
import { useChromium, withoutChromium as skip } from './fixtures/chromium.js'
import { makeBareApp } from './fixtures/bare-app.js'
import { serve } from './fixtures/server.js'

// A page from any origin can open a WebSocket to the application. The handshake is a GET request that carries the
// application's cookies, and CORS does not prevent the page from reading the messages.

const chromium = useChromium(t)

/** Opens a WebSocket from the page. Returns its first message, or `nothing` if the server refuses the handshake. */
function firstMessage(page: Page, url: string): Promise<string> {
  return page.evaluate(
    `new Promise((done) => {
      const socket = new WebSocket('${url.replace('http', 'ws')}/chat')
      socket.onmessage = ({ data }) => socket.close() ?? done(data)
      socket.onerror = () => done('nothing')
    })`
  )
}

for (const [name, acceptsOrBlocks, csrf, expected] of [
  ['CSRF protection', 'blocks', {}, 'nothing'],
  ['an application without protection', 'accepts', { protect: 'routes' }, 'ada']
] as const) {
  void t.test(`${name} ${acceptsOrBlocks} a WebSocket from a page on another port`, { skip }, async (t) => {
    const app = await makeBareApp(t, { csrf })
    await app.register(websocket)
    const seen: object[] = []
    app.server.prependListener('upgrade', ({ headers }, socket) => {
      const { origin, cookie, 'sec-fetch-site': site } = headers
      seen.push({ origin, site, hasSession: cookie?.startsWith('session_id=') })
      // The browser keeps a refused connection open, and app.close() would wait for it.
      t.teardown(() => socket.destroy())
    })
    const answer = (socket: { send(text: string): void }, { session }: FastifyRequest) =>
      socket.send(String(session.get('userId')))
    app.get('/chat', { websocket: true }, answer as never)
    const server = await serve(t, app)
    const [url, evil] = [server.at('127.0.0.1'), (await makeAttacker(t)).at('127.0.0.1')]
    const page = await chromium.window()
    await page.goto(`${url}/enter`)
    t.equal(await firstMessage(page, url), 'ada', 'a page of the application')
    await page.goto(evil)
    t.equal(await firstMessage(page, url), expected)
    // In a WebSocket handshake, Chromium sends Origin but not Sec-Fetch-Site.
    t.same(seen, [
      { origin: url, site: undefined, hasSession: true },
      { origin: evil, site: undefined, hasSession: true }
    ])
  })
}
