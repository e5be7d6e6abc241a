import { mock } from 'node:test'
import t from 'tap'
import { isPromise, mapInSlices, then, withTimeout } from '../plugin/awaitable.js'

void t.test('then() calls the function immediately, unless the value is a promise', async (t) => {
  const double = (n: number) => n * 2
  t.equal(then(21, double), 42)
  const later = then(Promise.resolve(21), double)
  t.ok(later instanceof Promise)
  t.equal(await later, 42)
  t.equal(await then(21, async (n) => n * 2), 42)
  await t.rejects(Promise.resolve(then(Promise.reject(new Error('no')), double)), { message: 'no' })
})

void t.test('isPromise() accepts every object with a then() method', async (t) => {
  const thenable = { then: (resolve: (value: number) => void) => resolve(7) } as PromiseLike<number>
  for (const value of [Promise.resolve(7), thenable]) t.equal(isPromise(value), true)
  for (const value of [undefined, null, 0, '', true, {}, { then: 1 }, 'then'])
    t.equal(isPromise(value), false)
  t.equal(await then(thenable, (n) => n + 1), 8)
})

void t.test(
  'withTimeout() resolves or rejects with the result of the promise if the promise settles in time',
  async (t) => {
    t.equal(await withTimeout(Promise.resolve(7), 1000), 7)
    await t.rejects(withTimeout(Promise.reject(new Error('own')), 1000), { message: 'own' })
    t.same(
      process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout'),
      [],
      'no timer is left'
    )
  }
)

void t.test('withTimeout() rejects if the promise does not settle in time', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  let settle: (error: Error) => void = () => undefined
  const slow = withTimeout(new Promise((_resolve, reject) => (settle = reject)), 20)
  let isRejected = false
  slow.catch(() => (isRejected = true))
  mock.timers.tick(19)
  await Promise.resolve()
  t.equal(isRejected, false)
  mock.timers.tick(1)
  await t.rejects(slow, { message: 'No answer within 20 ms' })
  settle(new Error('too late'))
})

void t.test('mapInSlices() maps in order, and lets other work run in between', async (t) => {
  let turns = 0
  let isRunning = true
  const count = (): void => {
    turns++
    if (isRunning) setImmediate(count)
  }
  setImmediate(count)
  const items = Array.from({ length: 1000 }, (_, index) => index)
  const results = await mapInSlices(items, (item) => (item % 2 === 0 ? 2 * item : Promise.resolve(2 * item)))
  isRunning = false
  t.same(
    results,
    items.map((item) => 2 * item)
  )
  t.ok(turns >= 7, `${turns} turns`)
  t.same(await mapInSlices([], () => 1), [])
})
