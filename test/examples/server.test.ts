import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { ROOT, SECRET, TIMEOUT } from './fixtures/example.js'

// Tests the example as a user starts it, in a new process.

t.setTimeout(TIMEOUT)

interface Server {
  readonly child: ChildProcess
  /** Waits until the output contains `text`, and returns all output so far. */
  printed(text: string): Promise<string>
  /** Resolves with the exit code of the process, and everything that the process wrote to stdout and stderr. */
  readonly ended: Promise<{ code: number | null; output: string; errors: string }>
}

function startServer(t: Test, env: Record<string, string>): Server {
  const options = { cwd: ROOT, env: { PATH: process.env['PATH'], ...env } }
  const child = spawn(process.execPath, ['examples/auth/dist/main.js'], options)
  t.teardown(() => child.kill('SIGKILL'))
  let [output, errors] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, output, errors }))
  return {
    child,
    ended,
    async printed(text) {
      while (!output.includes(text) || !output.endsWith('\n')) {
        const result = await Promise.race([once(child.stdout, 'data'), ended])
        if (!Array.isArray(result)) throw new Error(`The server ended: ${JSON.stringify(result)}`)
      }
      return output
    }
  }
}

for (const [signal, env, notice] of [
  ['SIGTERM', {}, 'SESSION_SECRET is not set: using a random secret. All sessions end with this process.\n'],
  ['SIGINT', { SESSION_SECRET: SECRET }, '']
] as [NodeJS.Signals, Record<string, string>, string][]) {
  void t.test(
    `the server prints its address with instructions to sign in, and exits with code 0 on ${signal}`,
    async (t) => {
      const server = startServer(t, { PORT: '0', ...env })
      const output = await server.printed('lovelace')
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0] as string
      t.equal(output, `${notice}Open ${url} and sign in as ada with the password lovelace.\n`)
      const response = await fetch(url)
      t.equal(response.url, `${url}/login`)
      t.match(await response.text(), 'name="password"')
      server.child.kill(signal)
      t.match(await server.ended, { code: 0, errors: '' })
    }
  )
}

void t.test('with STORE=sqlite:FILE, a session survives a restart of the server', async (t) => {
  const folder = t.testdir()
  const env = { PORT: '0', SESSION_SECRET: SECRET, STORE: `sqlite:${folder}/sessions.db` }
  const start = async () => {
    const server = startServer(t, env)
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(await server.printed('lovelace'))?.[0] as string
    return { server, url }
  }
  const first = await start()
  const body = new URLSearchParams({ username: 'ada', password: 'lovelace' })
  const login = await fetch(`${first.url}/login`, { method: 'POST', body, redirect: 'manual' })
  t.equal(login.headers.get('location'), '/dashboard')
  const signedIn = String(login.headers.get('set-cookie')).split(';', 1)[0] as string
  first.server.child.kill('SIGTERM')
  t.match(await first.server.ended, { code: 0, errors: '' })
  const second = await start()
  const accept = 'application/json'
  const dashboard = await fetch(`${second.url}/dashboard`, { headers: { cookie: signedIn, accept } })
  t.same(await dashboard.json(), { message: 'Welcome back!', user: 'ada' })
})

void t.test('if a setting is wrong, the server prints one line about it and exits with code 1', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1')
  t.teardown(() => blocker.close())
  await once(blocker, 'listening')
  const taken = String((blocker.address() as AddressInfo).port)
  const cases: [Record<string, string>, RegExp][] = [
    [{ PORT: '0', SESSION_SECRET: 'short' }, /^fastify-sesame: option "secret" has 5 bytes, but must .*\n$/],
    [{ PORT: taken }, new RegExp(`^Port ${taken} on 127.0.0.1 is in use: set PORT to another port.*\\n$`)],
    [{ PORT: '65536' }, /^PORT is "65536", but must be a whole number from 0 to 65535\n$/],
    [{ PORT: 'http' }, /^PORT is "http", but must be .*\n$/],
    [{ PORT: '0', STORE: 'disk' }, /^STORE is "disk", but must be memory, sqlite:FILE.*\n$/]
  ]
  const results = cases.map(async ([env, errors]) => {
    t.match(await startServer(t, env).ended, { code: 1, output: '', errors }, JSON.stringify(env))
  })
  await Promise.all(results)
})
