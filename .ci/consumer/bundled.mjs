// The script check-package bundles this file with esbuild as CommonJS and then runs the bundle.
import Fastify from 'fastify'
import sessions from 'fastify-sesame'
import { SqliteStore } from 'fastify-sesame/stores/sqlite'

async function main() {
  const app = Fastify()
  const store = new SqliteStore(':memory:')
  await app.register(sessions, { secret: 'a secret for this check, 32 bytes or more', store })
  app.post('/name', async ({ session }) => {
    session.set('name', 'ada')
    return 'saved'
  })
  app.get('/name', async ({ session }) => session.get('name'))

  const saved = await app.inject({ method: 'POST', url: '/name' })
  const cookie = saved.headers['set-cookie'].split(';')[0]
  const read = await app.inject({ url: '/name', headers: { cookie } })
  if (read.body !== 'ada') throw new Error(`${read.statusCode} ${read.body}`)
  await app.close()
  store.close()
  console.log(`CommonJS bundle on ${process.version}: read ${read.body} from SQLite`)
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
