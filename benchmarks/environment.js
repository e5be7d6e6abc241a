import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, release, type } from 'node:os'
import { dirname, join } from 'node:path'

const { resolve } = createRequire(import.meta.url)
const PACKAGES = [
  'fastify',
  '@fastify/cookie',
  '@fastify/session',
  '@fastify/secure-session',
  '@mgcrea/fastify-session',
  'express',
  'express-session',
  'connect-redis',
  'iron-session',
  'better-sqlite3',
  'redis',
  'pg',
  'autocannon'
]

/** Describes the machine, the package versions and the settings of a run, for the report. */
export function describeEnvironment({ rounds, cpu }) {
  const pinning =
    cpu === undefined ? 'The operating system chose the cores.' : 'The server ran on its own core.'
  return {
    date: new Date().toISOString().slice(0, 10),
    node: process.version.slice(1),
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    system: `${type()} ${release().split('-', 1)[0]}`,
    rounds,
    pinning,
    versions: {
      'fastify-sesame': manifestIn(join(import.meta.dirname, '..')).version,
      ...Object.fromEntries(PACKAGES.map((name) => [name, versionOf(name)]))
    }
  }
}

/**
 * Looks for package.json in the folders above the package's main file, because a package might not export its
 * package.json.
 */
export function versionOf(name) {
  for (let folder = dirname(resolve(name)); folder !== dirname(folder); folder = dirname(folder)) {
    const found = manifestIn(folder)
    if (found?.name === name) return found.version
  }
  return 'unknown'
}

function manifestIn(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  } catch {
    return undefined
  }
}
