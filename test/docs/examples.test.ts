import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import {
  complete,
  EXAMPLES,
  makeExampleFolder,
  NEEDS_ENGINE,
  runExample,
  TEST_FILE
} from './fixtures/examples.js'
import { blocksOf, PAGES, textOf } from './fixtures/pages.js'

// Type-checks every TypeScript example of every page, and runs it. What an example does is checked in the test of its
// page.

/** The languages of the other blocks. Each has a test of its own, or is only shown. */
const LANGUAGES = ['', 'js', 'json', 'mermaid', 'nginx', 'sh', 'sql', 'ts']

void t.test('every example passes the type check', async (t) => {
  const folder = makeExampleFolder(t)
  const files = EXAMPLES.map(({ page, heading, code }, index) => {
    const name = `${page}-${heading}`.toLowerCase().replaceAll(/\W+/g, '-')
    const file = join(folder, `${index}-${name}.ts`)
    writeFileSync(file, complete(code))
    return { file, declares: code.includes('declare module') }
  })
  t.ok(files.length >= 60, `${files.length} examples`)
  // Each example that declares SessionData is compiled on its own. Otherwise its declaration would also apply to the
  // other examples.
  const sharing = files.filter(({ declares }) => !declares).map(({ file }) => file)
  const alone = files.filter(({ declares }) => declares).map(({ file }) => [file])
  t.same(problemsOf([sharing, ...alone]), [])
})

for (const page of PAGES) {
  const own = EXAMPLES.filter(
    (example) => example.page === page && !NEEDS_ENGINE.test(example.code) && !TEST_FILE.test(example.code)
  )
  void t.test(`the examples of ${page} run`, async (t) => {
    for (const { heading, code } of own) {
      const { app } = await runExample(t, code)
      t.ok(await app.ready(), heading)
    }
  })
}

void t.test('every code block has a language that a test knows', async (t) => {
  for (const page of PAGES)
    for (const { heading, language } of blocksOf(page))
      t.ok(LANGUAGES.includes(language), `${page}, ${heading}: ${language}`)
})

void t.test('every npm script in a command exists', async (t) => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> }
  for (const page of PAGES)
    for (const [command, name = ''] of textOf(page).matchAll(/npm run ([\w:-]+)/g))
      t.ok(name in scripts, `${page}: ${command}`)
})

/** Compiles each list of files as a program of its own, and returns all errors. The programs share parsed files. */
function problemsOf(programs: string[][]): string[] {
  const { config } = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path)) as {
    config: { compilerOptions: object }
  }
  const { options } = ts.convertCompilerOptionsFromJson(
    { ...config.compilerOptions, noUnusedLocals: false, noUnusedParameters: false },
    process.cwd()
  )
  const host = ts.createCompilerHost(options)
  const parsed = new Map<string, ts.SourceFile | undefined>()
  const parse = host.getSourceFile.bind(host)
  host.getSourceFile = (name, ...rest) => {
    if (!parsed.has(name)) parsed.set(name, parse(name, ...rest))
    return parsed.get(name)
  }
  return programs
    .flatMap((files) => ts.getPreEmitDiagnostics(ts.createProgram(files, options, host)))
    .map(
      ({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
    )
}
