import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { accountFor, findOnPath, freePort, startEngines, waitForPort } from '../../../benchmarks/engines.js'

/**
 * Starts a database server: `'redis'`, `'postgres'` or `'mariadb'`. With `undefined`, only makes the folder.
 * Returns the server's URL, a new temporary folder, and `stop`, which stops the server and removes the folder.
 */
export async function startEngine(name) {
  const isShared = name === 'redis' || name === 'postgres'
  const { settings, missing, stop } = await startEngines(isShared ? [name] : [])
  if (name in missing) throw new Error(`${name} did not start: ${missing[name]}`)
  const { folder } = settings
  if (name !== 'mariadb') return { folder, url: settings[name], stop }
  const server = await startMariadb(folder)
  return { folder, url: server.url, stop: () => server.stop().then(stop) }
}

/** Starts MariaDB. MariaDB refuses to run as root, so root starts it as the user `nobody`. */
async function startMariadb(folder) {
  const [install, program] = [findOnPath('mariadb-install-db'), findOnPath('mariadbd')]
  if (install === undefined || program === undefined) throw new Error('mariadb-server is not installed')
  const options = { ...(await accountFor(folder)), cwd: folder, stdio: 'ignore' }
  const data = join(folder, 'mariadb')
  const files = ['--no-defaults', `--datadir=${data}`]
  const { status } = spawnSync(install, [...files, '--auth-root-authentication-method=normal'], options)
  if (status !== 0) throw new Error('mariadb-install-db failed')
  const port = await freePort()
  const network = [`--port=${port}`, '--bind-address=127.0.0.1', `--socket=${join(data, 'socket')}`]
  const child = spawn(program, [...files, ...network, `--pid-file=${join(data, 'pid')}`], options)
  const kill = () => child.kill('SIGTERM')
  process.once('exit', kill)
  await waitForPort(child, port)
  const stop = async () => {
    if (child.exitCode !== null) return
    const exited = once(child, 'exit')
    kill()
    await exited
  }
  return { url: `mysql://root@127.0.0.1:${port}/test`, stop }
}
