import { MemoryStore } from '../../dist/index.js'
import { sesame } from './sesame.js'

export default async function sesameMemory() {
  return { app: await sesame(new MemoryStore()) }
}
