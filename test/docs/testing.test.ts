import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { compile, makeExampleFolder } from './fixtures/examples.js'
import { blocksOf } from './fixtures/pages.js'

const run = promisify(execFile)

for (const { heading, code, language } of blocksOf('docs/testing.md')) {
  if (language !== 'ts') continue
  void t.test(`the test file in “${heading}” passes with node --test`, async (t) => {
    const file = join(makeExampleFolder(t), 'example.mjs')
    writeFileSync(file, compile(code))
    // Without these variables, the child would load tap's hooks, or report to a test runner above it.
    const env = { ...process.env, NODE_OPTIONS: undefined, NODE_TEST_CONTEXT: undefined }
    const { stdout } = await run(process.execPath, ['--test', '--test-reporter=tap', file], { env })
    t.match(stdout, /^# pass [1-9]\d*$/m)
    t.match(stdout, /^# fail 0$/m)
  })
}

void t.test('the settings and the code for Jest are those that .ci/check-runners runs', async (t) => {
  const runners = new URL('../../.ci/runners/', import.meta.url)
  const [config, code] = ['json', 'js'].map((wanted) =>
    blocksOf('docs/testing.md').find(
      ({ heading, language }) => heading === 'Jest and Vitest' && language === wanted
    )
  )
  t.equal(config?.code, readFileSync(new URL('jest.config.json', runners), 'utf8'))
  const test = readFileSync(new URL('jest.test.cjs', runners), 'utf8')
  for (const line of (code?.code ?? '-').split('\n')) t.ok(test.includes(line.replace(/ \/\/.*$/, '')), line)
})
