// Brings the one program that the tests start and npm does not: a Redis server. Debian's package, as root; elsewhere it
// is named when it is missing, and the tests that need it are skipped with that reason. In CI that is an error.
import { spawnSync } from 'node:child_process'

const ENGINE = 'redis-server'

const isThere = (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0
const apt = (...args) =>
  spawnSync('apt-get', args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  })

if (!isThere(ENGINE) && process.getuid?.() === 0 && isThere('apt-get')) {
  console.log(`Installing ${ENGINE} for the tests`)
  apt('update', '--quiet')
  apt('install', '--yes', '--quiet', '--no-install-recommends', ENGINE)
}
if (!isThere(ENGINE)) {
  console.log(`Missing: ${ENGINE}. The tests that need it are skipped`)
  if (process.env.CI) process.exitCode = 1
}
