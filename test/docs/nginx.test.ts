import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import sessions from '../../plugin/index.js'
import { SECRET } from '../fixtures/app.js'
import { freePort } from '../fixtures/port.js'
import { eventually } from '../fixtures/redis.js'
import { blocksOf } from './fixtures/pages.js'

// Runs a real nginx with the configuration of docs/deploying.md in front of an application.

const isInstalled = ['nginx', 'openssl'].every((name) => spawnSync(name, ['-v']).error === undefined)
const skip = isInstalled ? false : 'nginx is not installed: apt-get install nginx-light'
if (skip !== false && process.env['CI'] !== undefined) throw new Error(skip)

/** Starts nginx with the configuration of the page. Only the port, the address of the application and files differ. */
async function startNginx(t: Test, appPort: number): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'sesame-nginx-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [key, certificate] = ['example.com.key', 'example.com.crt'].map((name) => join(folder, name))
  const name = ['-subj', '/CN=example.com']
  spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', ...name],
    ...['-keyout', key as string, '-out', certificate as string]
  ])
  const port = await freePort()
  const [block] = blocksOf('docs/deploying.md').filter(({ language }) => language === 'nginx')
  const server = (block as { code: string }).code
    .replaceAll('/etc/ssl', folder)
    .replace('listen 443', `listen 127.0.0.1:${port}`)
    .replace('127.0.0.1:3000', `127.0.0.1:${appPort}`)
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  await writeFile(
    join(folder, 'nginx.conf'),
    `pid ${folder}/nginx.pid; error_log stderr; events {}
    http { access_log off; ${temporary.map((name) => `${name}_temp_path ${folder};`).join(' ')}
    ${server} }`
  )
  const child = spawn('nginx', ['-c', join(folder, 'nginx.conf'), '-p', folder, '-g', 'daemon off;'])
  t.teardown(async () => {
    if (child.kill('SIGTERM')) await once(child, 'exit')
  })
  await eventually('nginx answers', () => send(port, {}).catch(() => false))
  return port
}

/**
 * Sends a request through nginx, as a browser without Fetch Metadata does. Returns the body, or the status of an error.
 */
async function send(port: number, { method = 'GET', origin = '' }): Promise<string> {
  const headers = { host: `example.com:${port}`, ...(origin !== '' && { origin }) }
  const request = httpsRequest({
    port,
    host: '127.0.0.1',
    method,
    path: '/',
    headers,
    rejectUnauthorized: false
  })
  request.end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const text = ((await response.toArray()) as Buffer[]).join('')
  return response.statusCode === 200 ? text : `${response.statusCode}`
}

void t.test('behind nginx, forms pass the origin check and other sites do not', { skip }, async (t) => {
  const app = Fastify({ trustProxy: 'loopback' })
  await app.register(sessions, { secret: SECRET })
  app.route({
    method: ['GET', 'POST'],
    url: '/',
    handler: async ({ method, ip, protocol }) => `${method} ${ip} ${protocol}`
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => app.close())
  const port = await startNginx(t, (app.server.address() as AddressInfo).port)
  t.equal(await send(port, { method: 'POST', origin: `https://example.com:${port}` }), 'POST 127.0.0.1 https')
  t.equal(await send(port, { method: 'POST', origin: 'https://evil.example' }), '403')
  t.equal(await send(port, { method: 'POST', origin: `http://example.com:${port}` }), '403')
})
