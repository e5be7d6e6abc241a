import t from 'tap'
import { loadExample } from '../docs/fixtures/examples.js'
import { blocksOf } from '../docs/fixtures/pages.js'
import { useChromium, withoutChromium } from './fixtures/chromium.js'

const browser = useChromium(t)

void t.test(
  'the script of docs/csrf.md sends a token that the route accepts',
  { skip: withoutChromium },
  async (t) => {
    const { app } = await loadExample(t, 'docs/csrf.md', 'CSRF protection')
    const [block] = blocksOf('docs/csrf.md').filter(({ language }) => language === 'js')
    app.get('/page', async (_request, reply) =>
      reply.type('text/html').send(`<meta name="csrf-token" content="${reply.generateCsrf()}">
      <script>${block?.code}</script>`)
    )
    const address = await app.listen({ port: 0, host: '127.0.0.1' })
    // Chromium keeps connections open that have not sent a request. They would delay the end of the app.
    t.teardown(() => app.server.closeAllConnections())
    const page = await browser.window()
    await page.goto(`${address.replace('127.0.0.1', 'localhost')}/page`)
    t.equal(await page.evaluate("send('/form', { name: 'Ada' })"), 'sent')
    await page.evaluate("document.querySelector('meta').content = 'wrong'")
    await t.rejects(page.evaluate("send('/form', { name: 'Ada' })"), /\/form was answered with 403/)
  }
)
