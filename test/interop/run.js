// Runs all checks and writes results.md. With --check, writes nothing, and fails if the results differ from results.md.
// With --packages, does not run the checks of the stores, and takes their results from results.md.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runPackages } from './packages/suite.js'
import { runStores } from './stores/suite.js'
import { runTypes } from './types/suite.js'

const FILE = join(import.meta.dirname, 'results.md')

const log = (line) => console.log(`${Math.round(process.uptime())} s: ${line}`)
const before = readFileSync(FILE, 'utf8')
const [, storesBefore] = before.split(/\n(?=## )/)
const stores = process.argv.includes('--packages') ? storesBefore : await runStores(log)
const sections = [stores, await runPackages(log), runTypes(log)].map((section) => section.trimEnd())
const text = ['# Results', 'The [README](README.md) explains the checks.', ...sections].join('\n\n') + '\n'
console.log(`\n${text}`)
if (!process.argv.includes('--check')) writeFileSync(FILE, text)
else if (text !== before) {
  console.error(
    'The results differ from test/interop/results.md. If that is right, run `npm --prefix test/interop test`.'
  )
  process.exitCode = 1
}
