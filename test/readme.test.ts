import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import ts from 'typescript'
import { channels } from '../plugin/index.js'
import { examples, README, sectionOf } from './fixtures/readme.js'
import { optionsTable } from './options/fixtures/docs.js'

const SECRET = 'const secret = process.env.SESSION_SECRET ?? "an example secret of 32 bytes or more"'

/** Matches the examples that need a database or a test runner. Such examples are type-checked, but they are not run. */
const NEEDS_ENGINE = /new (PostgresStore|RedisStore)|testStore\(/

void t.test('the README’s options table is up to date (npm run docs:options)', async (t) => {
  t.same(cellsOf(sectionOf('options')), cellsOf(optionsTable()))
})

void t.test('the README’s table of channels describes the message of every channel', async (t) => {
  const source = readFileSync(new URL('../plugin/diagnostics.ts', import.meta.url), 'utf8')
  const rows = cellsOf(sectionOf('channels')).slice(2)
  const expected = Object.values(channels).map(({ name }) => {
    const [, message] = new RegExp(String.raw`/\*\* (.*) \*/\n.*'${String(name)}'`).exec(source) ?? []
    return [`\`${String(name).split(':')[1]}\``, message]
  })
  t.same(rows, expected)
})

void t.test('the README’s table of errors lists every error code of the library and no others', async (t) => {
  const source = readFileSync(new URL('../plugin/errors.ts', import.meta.url), 'utf8')
  const codesOf = (text: string) => [...new Set(text.match(/\bSESSION_[A-Z_]+/g))].sort()
  const [, errors = ''] = /^## Errors\n([\s\S]*?)^## /m.exec(README) ?? []
  t.same(codesOf(errors), codesOf(source))
})

void t.test('the README’s first example has at most 25 lines', async (t) => {
  const [first] = examples()
  t.ok((first?.code ?? '').trim().split('\n').length <= 25)
})

void t.test('the README’s examples pass the type check and run', async (t) => {
  // The examples are written inside the project, because only files there can import the package by its name.
  const folder = mkdtempSync(join(process.cwd(), '.readme-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const files = examples().map(({ heading, code }, index) => {
    const file = join(folder, `${index}-${heading.toLowerCase().replaceAll(/\W+/g, '-')}.ts`)
    writeFileSync(file, complete(code))
    return file
  })
  t.ok(files.length >= 8, `${files.length} examples`)
  const declaring = files.filter((file) => readFileSync(file, 'utf8').includes('declare module'))
  // Each example that declares SessionData is compiled on its own. Otherwise its declaration would also apply to the
  // other examples.
  const programs = [files.filter((file) => !declaring.includes(file)), ...declaring.map((file) => [file])]
  t.same(programs.flatMap(problemsOf), [])
  for (const file of files) {
    const code = readFileSync(file, 'utf8')
    if (NEEDS_ENGINE.test(code)) continue
    const app = await run(file, code)
    await app.ready()
    t.teardown(() => app.close())
    if (code.includes('app.listen')) await tryLogin(t, app)
    if (code.includes('generateCsrf')) await tryForm(t, app)
    if (code.includes("'/session'"))
      t.same((await app.inject('/session')).json(), { keys: ['visits'], modified: true })
  }
})

/** Logs in to the first example's app, opens the dashboard twice and logs out. */
async function tryLogin(
  t: { equal: (a: unknown, b: unknown) => void; same: (a: unknown, b: unknown) => void },
  app: FastifyInstance
) {
  const login = await app.inject({ method: 'POST', url: '/login' })
  t.equal(login.headers.location, '/dashboard')
  const cookie = String(login.headers['set-cookie']).split(';', 1)[0]
  const dashboard = async () => (await app.inject({ url: '/dashboard', headers: { cookie } })).json<unknown>()
  t.same(await dashboard(), { userId: 'ada', message: 'Welcome back!' })
  t.same(await dashboard(), { userId: 'ada', message: 'Dashboard' })
  await app.inject({ method: 'POST', url: '/logout', headers: { cookie } })
  const after = await app.inject({ url: '/dashboard', headers: { cookie, accept: 'text/html' } })
  t.equal(after.headers.location, '/login')
}

async function tryForm(
  t: { equal: (a: unknown, b: unknown) => void; match: (a: unknown, b: unknown) => void },
  app: FastifyInstance
) {
  const { body } = await app.inject('/form')
  t.match(body, /name="_csrf" value="[\w-]{86}"/)
  t.equal((await app.inject({ method: 'POST', url: '/form' })).statusCode, 403)
  t.equal((await app.inject({ method: 'POST', url: '/webhook' })).statusCode, 200)
}

/** Completes an example so that it can run. Adds the app and the plugin if the example does not create them. */
function complete(code: string): string {
  if (code.includes('import Fastify')) return `${code.replace('port: 3000', 'port: 0')}\nexport { app }\n`
  const imported = code.match(/^import .*/gm)?.join() ?? ''
  const named = ['csrfProtection', 'guarded', 'requireAuth', 'MemoryStore']
    .filter((name) => code.includes(name) && !imported.includes(name))
    .join(', ')
  return [
    "import Fastify from 'fastify'",
    `import sessions${named === '' ? '' : `, { ${named} }`} from 'fastify-sesame'`,
    SECRET,
    'const app = Fastify()',
    code.includes('app.register(sessions') ? 'void secret' : 'await app.register(sessions, { secret })',
    code,
    'export { app }'
  ].join('\n')
}

function problemsOf(files: string[]): string[] {
  const { config } = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path)) as {
    config: { compilerOptions: object }
  }
  const { options } = ts.convertCompilerOptionsFromJson(
    { ...config.compilerOptions, noUnusedLocals: false, noUnusedParameters: false },
    process.cwd()
  )
  return ts
    .getPreEmitDiagnostics(ts.createProgram(files, options))
    .map(
      ({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
    )
}

async function run(file: string, code: string): Promise<FastifyInstance> {
  const { outputText } = ts.transpileModule(code, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023 }
  })
  const compiled = file.replace(/\.ts$/, '.mjs')
  writeFileSync(compiled, outputText)
  const { app } = (await import(pathToFileURL(compiled).href)) as { app: FastifyInstance }
  return app
}

/** Returns the cells of a Markdown table, without the padding that Prettier adds. */
function cellsOf(table: string): string[][] {
  return table
    .split('\n')
    .filter((row) => row.startsWith('|'))
    .map((row) =>
      row
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim().replace(/^-+$/, '---'))
    )
}
