// Brings the programs that the tests start and npm does not: a Redis server and Chromium. Debian's packages, as root;
// elsewhere a missing one is named, and the tests that need it are skipped with that reason. In CI it is an error.
import { spawnSync } from 'node:child_process'

const ENGINES = { 'redis-server': 'redis-server', chromium: 'chromium' }

const isThere = (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0
const apt = (...args) =>
  spawnSync('apt-get', args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  }).status === 0

const missing = Object.keys(ENGINES).filter((program) => !isThere(program))
if (missing.length > 0 && process.getuid?.() === 0 && isThere('apt-get')) {
  console.log(`Installing ${missing.join(' and ')} for the tests`)
  apt('update', '--quiet')
  apt('install', '--yes', '--quiet', '--no-install-recommends', ...missing.map((program) => ENGINES[program]))
}
const lacking = missing.filter((program) => !isThere(program))
if (lacking.length > 0) {
  console.log(`Missing: ${lacking.join(', ')}. The tests that need it are skipped`)
  if (process.env.CI) process.exitCode = 1
}
