import t from 'tap'
import { createProcesses } from '../../plugin/testing/processes.js'
import { idOf, makeRecord } from '../../plugin/testing/records.js'

const module = new URL('../fixtures/kit-process.ts', import.meta.url)

void t.test(
  'if a child process reports an error, the call in the parent rejects and the child process keeps working',
  async (t) => {
    const processes = createProcesses()
    await t.rejects(processes.connect({ module, argument: 'throws' }), /cannot connect/)
    await t.rejects(processes.connect({ module: '/no/such/module.js' }), /no.such.module/)
    const [one] = await processes.connect({ module: module.href, argument: 'works' })
    t.same(await one([['create', idOf('a'), makeRecord()]]), [true])

    await processes.connect({ module, argument: 'has no close' })
    await processes.disconnect()
    await processes.disconnect()
    t.same(await processes.end(), [0, 0])
  }
)

void t.test('a child process that does not exit in time is killed', async (t) => {
  const processes = createProcesses(100)
  await processes.connect({ module, argument: 'lingers' })
  t.same(await processes.end(), ['SIGKILL', 'SIGKILL'])
})

void t.test('if a child process exits during a call, that call rejects', async (t) => {
  const processes = createProcesses()
  const [one, two] = await processes.connect({ module, argument: 'ends' })
  await t.rejects(one([['get', idOf('a')]]), { message: 'the child process exited: 3' })
  await t.rejects(two([['destroy', idOf('a')]]), { message: 'the child process exited: SIGKILL' })
  t.same(await processes.end(), [3, 'SIGKILL'])
})
