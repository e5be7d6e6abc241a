import { spawnSync } from 'node:child_process'
import { availableParallelism, cpus } from 'node:os'

/**
 * Pins this process (the load generator) to the second core and returns the number of the core for the servers. On
 * separate cores, the load generator and a server do not evict each other's caches. Returns `undefined` if pinning is
 * not possible or not wanted.
 */
export function bindCores(wanted) {
  if (!wanted || availableParallelism() < 2) return undefined
  const { status } = spawnSync('taskset', ['-a', '-c', '-p', '1', String(process.pid)], { stdio: 'ignore' })
  return status === 0 ? 0 : undefined
}

/**
 * Lets a child process run on all cores. On a single core, the threads of its garbage collector would compete with its
 * main thread.
 */
export function releaseCores({ pid }) {
  spawnSync('taskset', ['-a', '-c', '-p', `0-${cpus().length - 1}`, String(pid)], { stdio: 'ignore' })
}
