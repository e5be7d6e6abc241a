import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'

/**
 * Binds this process, which makes the load, to the second core, and says which core the servers get, so that neither
 * pushes the other's caches and threads around. `undefined` where that is not possible, or not wanted.
 */
export function bindCores(wanted) {
  if (!wanted || availableParallelism() < 2) return undefined
  const { status } = spawnSync('taskset', ['-a', '-c', '-p', '1', String(process.pid)], { stdio: 'ignore' })
  return status === 0 ? 0 : undefined
}
