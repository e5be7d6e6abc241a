import { spawnSync } from 'node:child_process'
import { availableParallelism, cpus } from 'node:os'

/**
 * Binds this process, which makes the load, to the second core, and says which core the servers get, so that neither
 * pushes the other's caches and threads around. `undefined` where that is not possible, or not wanted.
 */
export function bindCores(wanted) {
  if (!wanted || availableParallelism() < 2) return undefined
  const { status } = spawnSync('taskset', ['-a', '-c', '-p', '1', String(process.pid)], { stdio: 'ignore' })
  return status === 0 ? 0 : undefined
}

/** Lets a process that this one started use all cores again: on one, its garbage collector is in its own way. */
export function releaseCores({ pid }) {
  spawnSync('taskset', ['-a', '-c', '-p', `0-${cpus().length - 1}`, String(pid)], { stdio: 'ignore' })
}
