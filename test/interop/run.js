// Runs all checks and writes results.md. With --check, writes nothing, and fails if the results differ from results.md.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runStores } from './stores/suite.js'

const FILE = join(import.meta.dirname, 'results.md')

const log = (line) => console.log(`${Math.round(process.uptime())} s: ${line}`)
const sections = [await runStores(log)]
const text = ['# Results', 'The [README](README.md) explains the checks.', ...sections].join('\n\n')
console.log(`\n${text}`)
if (!process.argv.includes('--check')) writeFileSync(FILE, text)
else if (text !== readFileSync(FILE, 'utf8')) {
  console.error(
    'The results differ from test/interop/results.md. If that is right, run `npm --prefix test/interop test`.'
  )
  process.exitCode = 1
}
