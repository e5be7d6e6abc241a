// Runs the code of the old applications in docs/moving.md with the real packages, and signs in to each.
import cookie from '@fastify/cookie'
import secureSession from '@fastify/secure-session'
import session from '@fastify/session'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Buffer } from 'node:buffer'
import { URL } from 'node:url'
import express from 'express'
import expressSession from 'express-session'
import Fastify from 'fastify'
import { Browser } from '../comparison/browser.js'

const AsyncFunction = (async () => {}).constructor
const page = readFileSync(new URL('../../docs/moving.md', import.meta.url), 'utf8')
const blocks = [...page.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code)

for (const code of blocks) {
  const isExpress = code.includes('app.use')
  const app = isExpress ? express() : Fastify()
  const store = new expressSession.MemoryStore()
  const scope = { app, cookie, secureSession, store, Buffer, session: isExpress ? expressSession : session }
  await new AsyncFunction(...Object.keys(scope), code)(...Object.values(scope))
  const server = isExpress ? app.listen(0) : await app.listen({ port: 0 }).then(() => app.server)
  if (!server.listening) await once(server, 'listening')
  const browser = new Browser(`http://127.0.0.1:${server.address().port}`)
  const { status } = await browser.post('/login')
  const works = status === 302 && browser.cookies !== ''
  console.log(
    `${works ? 'ok' : 'FAILED'}: ${code.split('\n').find((line) => line.includes('secret') || line.includes('key'))}`
  )
  if (!works) process.exitCode = 1
  server.close()
  server.closeAllConnections()
}
if (blocks.length !== 3) throw new Error(`docs/moving.md has ${blocks.length} old applications`)
