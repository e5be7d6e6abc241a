import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describePackage } from '../fixtures/packages.js'

const TSC = join(import.meta.dirname, '../../../node_modules/typescript/bin/tsc')
const PACKAGES = [
  '@fastify/passport',
  '@fastify/flash',
  '@fastify/csrf-protection',
  '@fastify/session',
  '@fastify/secure-session'
]
const PROJECTS = { 'without `paths`': 'tsconfig.unmapped.json', 'with `paths`': 'tsconfig.json' }

/** Compiles `program.ts` with and without the line that the results recommend. Returns the results as Markdown. */
export function runTypes(log) {
  const rows = Object.entries(PROJECTS).map(([title, project]) => {
    const cells = [true, false].map((skips) => signOf(compile(project, skips), log))
    return `| ${[title, ...cells].join(' | ')} |`
  })
  return [
    '## TypeScript',
    '',
    `An application uses ${PACKAGES.map(describePackage).join(', ')}. Types of the last two also declare \`request.session\`. ` +
      'They are loaded by @fastify/flash, and so by @fastify/passport, if they are installed. These lines in `tsconfig.json` replace ' +
      'them by the types of this library:',
    '',
    '```json',
    '"paths": {',
    '  "@fastify/secure-session": ["./node_modules/fastify-sesame/dist/index.d.ts"],',
    '  "@fastify/session": ["./node_modules/fastify-sesame/dist/index.d.ts"]',
    '}',
    '```',
    '',
    'Then declare all keys of your data in `SessionData`. @fastify/flash declares its key `flash` there, so that other keys are errors.',
    '',
    '| `strict` | `skipLibCheck: true` | `skipLibCheck: false` |',
    '| --- | :-: | :-: |',
    ...rows,
    ''
  ].join('\n')
}

function signOf(errors, log) {
  if (errors === '') return '✓'
  log(`types:\n${errors}`)
  return '✗'
}

/** Returns the errors of the compiler as text. */
function compile(project, skips) {
  const path = join(import.meta.dirname, project)
  try {
    return String(execFileSync(process.execPath, [TSC, '-p', path, '--skipLibCheck', String(skips)]))
  } catch (error) {
    return String(error.stdout)
  }
}
