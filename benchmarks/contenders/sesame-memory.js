import { MemoryStore } from '../../dist/index.js'
import { fillStore } from '../fill.js'
import { sesame } from './sesame.js'

export default async function sesameMemory() {
  const store = new MemoryStore({ maxSessions: 2_000_000 })
  const app = await sesame(store)
  return { app, fill: (count, sample) => fillStore(store, count, sample) }
}
