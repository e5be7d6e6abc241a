import { AsyncLocalStorage } from 'node:async_hooks'
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import {
  context,
  ROOT_CONTEXT,
  trace,
  type Context,
  type ContextManager,
  type Span
} from '@opentelemetry/api'
import { channels } from 'fastify-sesame'
import { Browser } from '../fixtures/app.js'
import { compile, makeExampleFolder } from './fixtures/examples.js'
import { addProbes, codeOf, post, probe, recipe, signedIn } from './fixtures/recipes.js'

recipe('Metrics with Prometheus', async (t, load) => {
  const { app } = await load()
  app.post('/login', async ({ session }) => session.login('ada'))
  app.post('/theme', async ({ session }) => session.set('theme', 'dark'))
  app.post('/logout', async ({ session }) => session.invalidate())
  const browser = new Browser(app)
  await post(browser, '/theme')
  await post(browser, '/login')
  await post(browser, '/logout')
  await post(browser, '/login')
  await app.sessionManager.revokeAll('ada')
  await post(browser, '/login', {}, { 'sec-fetch-site': 'cross-site' })
  channels.storeFailure.publish({ operation: 'get', error: new Error('down') })
  const { headers, body } = await app.inject('/metrics')
  t.match(headers['content-type'], 'text/plain; version=0.0.4')
  const samples = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  t.same(samples, [
    'sessions_created_total{user="no"} 1',
    'sessions_created_total{user="yes"} 1',
    'sessions_rotated_total 1',
    'sessions_ended_total{reason="invalidated"} 1',
    'sessions_ended_total{reason="revoked"} 1',
    'session_store_failures_total{operation="get"} 1',
    'session_csrf_refused_total{reason="sec-fetch-site"} 1'
  ])
})

/** Keeps the active span across asynchronous calls, as the SDK of OpenTelemetry does. */
class Contexts implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>()
  active = () => this.#storage.getStore() ?? ROOT_CONTEXT
  with: ContextManager['with'] = (active, run, self, ...args) =>
    this.#storage.run(active, () => run.call(self as never, ...args))
  bind: ContextManager['bind'] = (_active, target) => target
  enable = () => this
  disable = () => this
}

recipe('Traces with OpenTelemetry', async (t, load) => {
  context.setGlobalContextManager(new Contexts())
  t.teardown(() => context.disable())
  // Another test of this process can have run the recipe too. Its subscribers record the same again.
  const seen = new Set<string>()
  const record = (...values: unknown[]) => void seen.add(JSON.stringify(values))
  const span = {
    setAttributes: record,
    setAttribute: record,
    addEvent: record,
    recordException: ({ message }: Error) => record(message)
  } as unknown as Span
  const inSpan = <Result>(run: () => Result) => context.with(trace.setSpan(ROOT_CONTEXT, span), run)
  const { app } = await load()
  addProbes(app)
  const { browser } = await signedIn(app, { userId: 'ada' })
  await probe(browser)
  t.equal(seen.size, 0, 'without a span, nothing happens')
  await inSpan(() => probe(browser))
  const [session] = await app.sessionManager.list('ada')
  t.same([...seen], [JSON.stringify([{ 'session.id': session?.id, 'user.id': 'ada' }])])
  seen.clear()
  inSpan(() => {
    channels.conflict.publish({ id: 'a', attempt: 2, requestId: '1' })
    channels.storeFailure.publish({ operation: 'get', error: new Error('down') })
  })
  t.same([...seen], ['["session conflict",{"attempt":2}]', '["session.failed","get"]', '["down"]'])
})

recipe('Audit log', async (t, load) => {
  const { app, trail } = await load({ exported: ['trail'] })
  const entries = trail as { event: string; requestId?: string; session: string }[]
  const take = () => entries.splice(0)
  const [browser, other] = [new Browser(app), new Browser(app)]
  await post(browser, '/login')
  const [login, created] = take()
  t.match(login, { event: 'login', userId: 'ada', ip: '127.0.0.1', at: Date })
  t.match(created, { event: 'created', session: login?.session, userId: 'ada', requestId: login?.requestId })
  await post(browser, '/login')
  const [again, rotated] = take()
  t.match(rotated, {
    event: 'rotated',
    session: again?.session,
    previousId: login?.session,
    requestId: again?.requestId
  })
  await post(other, '/login')
  const [{ session: id } = { session: '' }] = take()
  await post(browser, `/devices/${id}/end`)
  t.match(take(), [
    { event: 'ended', session: id, reason: 'revoked' },
    { event: 'revoke', session: id, userId: 'ada', ended: true, ip: '127.0.0.1' }
  ])
  const token = browser.cookie
  await post(browser, '/logout')
  t.match(take(), [{ event: 'ended', session: again?.session, reason: 'invalidated', requestId: String }])
  t.notMatch(JSON.stringify(entries), token.slice('session_id='.length, 40))
})

recipe('The user id on every log line', async (t, load) => {
  const lines: object[] = []
  Object.assign(globalThis, {
    recipeLog: { write: (line: string) => lines.push(JSON.parse(line) as object) }
  })
  t.teardown(() => Reflect.deleteProperty(globalThis, 'recipeLog'))
  const { app } = await load({ replace: { 'logger: true': 'logger: { stream: globalThis.recipeLog }' } })
  app.get('/page', async ({ log }) => log.info('in the handler'))
  app.get('/health', { config: { session: false } }, async () => 'ok')
  const { browser } = await signedIn(app, { userId: 'ada' })
  await browser.get('/page')
  t.match(lines.splice(0), [
    { msg: 'incoming request' },
    { msg: 'in the handler', userId: 'ada' },
    { msg: 'request completed', userId: 'ada' }
  ])
  await app.inject('/page')
  t.notMatch(JSON.stringify(lines.splice(0)), 'userId')
  t.equal((await browser.get('/health')).body, 'ok')
})

recipe('Export and erase the data of a user', async (t, load) => {
  const { app } = await load()
  addProbes(app)
  const { browser, headers } = await signedIn(app, { userId: 'ada', theme: 'dark' })
  await signedIn(app, { userId: 'ada', cart: ['tea'] })
  const { browser: grace } = await signedIn(app, { userId: 'grace' })
  const exported = (await browser.get('/privacy/export')).json<{ data: object }[]>()
  t.same(
    new Set(exported.map(({ data }) => data)),
    new Set([
      { userId: 'ada', theme: 'dark' },
      { userId: 'ada', cart: ['tea'] }
    ])
  )
  t.equal((await post(browser, '/privacy/erase')).statusCode, 403, 'without a CSRF token')
  t.equal((await post(browser, '/privacy/erase', {}, headers)).headers.location, '/')
  t.same([browser.cookies.size, await app.sessionManager.list('ada')], [0, []])
  t.same(await probe(grace), { userId: 'grace' })
})

recipe('Tests with Jest, Vitest, tap or node:test', async (t) => {
  const compiled = compile(codeOf('Tests with Jest, Vitest, tap or node:test'))
  // tap's `test` differs from that of node:test only in its import.
  for (const [runner, code, flags] of [
    ['node:test', compiled, ['--test', '--test-reporter=tap']],
    ['tap', compiled.replace("'node:test'", "'tap'"), []]
  ] as const) {
    const file = join(makeExampleFolder(t), 'example.mjs')
    writeFileSync(file, code)
    // Without these variables, the child would load tap's hooks, or report to a test runner above it.
    const env: NodeJS.ProcessEnv = { ...process.env, TAP: '1' }
    for (const name of ['NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'TAP_CHILD_ID'])
      Reflect.deleteProperty(env, name)
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, file], { env })
    t.match(stdout, /^ok 1 - a signed-in user sees the account/m, runner)
  }
})
