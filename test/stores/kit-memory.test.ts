import t from 'tap'
import { MemoryStore } from '../../plugin/stores/memory.js'
import { testStore } from '../../plugin/testing/index.js'

const { run, skipped } = testStore('memory', () => ({ store: new MemoryStore() }), t.test, {
  unsupported: {
    'two processes': 'its sessions are in one process',
    'engine failure': 'its engine is this process'
  }
})
t.comment(`memory: ${run.length} cases, ${skipped.length} skipped`)
