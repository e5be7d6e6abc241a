import t from 'tap'
import ts from 'typescript'
import {
  channels,
  CsrfError,
  SessionAuthError,
  SessionConflictError,
  SessionGoneError,
  SessionLimitError,
  SessionSizeError,
  SessionStoreError,
  SessionUsageError,
  SessionValueError,
  type SessionError
} from '../../plugin/index.js'
import { optionsTable } from '../options/fixtures/docs.js'
import { cellsOf, sectionOf, textOf } from './fixtures/pages.js'

// Compares each table that repeats something of the code with the code.

void t.test('the table of options is up to date (npm run docs:options)', async (t) => {
  t.same(cellsOf(sectionOf('docs/options.md', 'options')), cellsOf(optionsTable()))
})

void t.test('the table of channels describes the message of every channel', async (t) => {
  const source = textOf('plugin/diagnostics.ts')
  const rows = cellsOf(sectionOf('docs/diagnostics.md', 'channels')).slice(2)
  const expected = Object.values(channels).map(({ name }) => {
    const [, message] = new RegExp(String.raw`/\*\* (.*) \*/\n[^*]*'${String(name)}'`).exec(source) ?? []
    return [`\`${String(name).split(':')[1]}\``, message]
  })
  t.same(rows, expected)
})

void t.test('the table of errors lists every error code of the library and no others', async (t) => {
  const codesOf = (text: string) => [...new Set(text.match(/\bSESSION_[A-Z_]+/g))].sort()
  t.same(codesOf(sectionOf('docs/errors.md', 'errors')), codesOf(textOf('plugin/errors.ts')))
})

void t.test('the table of the benchmarks has the numbers of the last run', async (t) => {
  const numbersOf = (rows: string[][]) => rows.slice(2).map(([, ...numbers]) => numbers)
  const [, summary = ''] = /^## Summary\n([\s\S]*?)^## /m.exec(textOf('benchmarks/results/results.md')) ?? []
  const table = cellsOf(sectionOf('docs/benchmarks.md', 'summary'))
  t.ok(table.length > 8)
  t.same(numbersOf(table), numbersOf(cellsOf(summary)))
})

/**
 * Returns the names of the public members that a class or an interface in a source file declares. Leaves out static
 * members, and members whose name is private or a symbol.
 */
function membersOf(file: string, name: string): string[] {
  const source = ts.createSourceFile(file, textOf(file), ts.ScriptTarget.Latest)
  const declaration = source.statements.find(
    (node): node is ts.InterfaceDeclaration | ts.ClassDeclaration =>
      (ts.isInterfaceDeclaration(node) || ts.isClassDeclaration(node)) && node.name?.text === name
  )
  if (declaration === undefined) throw new Error(`${file} declares no ${name}`)
  const members: readonly (ts.TypeElement | ts.ClassElement)[] = [...declaration.members]
  const names = members.flatMap((member) => {
    const isStatic = (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Static) !== 0
    return !isStatic && member.name !== undefined && ts.isIdentifier(member.name) ? member.name.text : []
  })
  return [...new Set(names)].sort()
}

/** Returns the names in the first column of the table under a heading, such as `get` for `get(key)`. */
function rowsOf(page: string, heading: string): string[] {
  const [, section = ''] =
    new RegExp(`^#+ ${heading}\\n([\\s\\S]*?)(?=^#|$(?![\\s\\S]))`, 'm').exec(textOf(page)) ?? []
  const [, , ...rows] = cellsOf(section)
  return rows.flatMap(([cell = '']) => [...cell.matchAll(/`(\w+)/g)].map(([, name = '']) => name)).sort()
}

for (const [page, heading, file, name] of [
  ['docs/session.md', 'Methods and properties', 'plugin/session/session.ts', 'Session'],
  ['docs/session.md', 'Manager', 'plugin/http/session-manager.ts', 'SessionManager'],
  ['docs/login.md', 'What a login does', 'plugin/session/login.ts', 'LoginOptions'],
  ['docs/require-auth.md', 'requireAuth', 'plugin/http/require-auth.ts', 'RequireAuthOptions'],
  ['docs/stores.md', 'SQLite', 'plugin/stores/sqlite/store.ts', 'SqliteStoreOptions'],
  ['docs/testing.md', 'Testing your own store', 'plugin/testing/store.ts', 'StoreUnderTest']
] as const)
  void t.test(`the table “${heading}” of ${page} lists every member of ${name}`, async (t) => {
    const documented = rowsOf(page, heading)
    t.ok(documented.length > 3)
    const elsewhere = rowsOf('docs/session.md', 'Properties of other libraries')
    const isHere = (member: string): boolean => documented.includes(member) || !elsewhere.includes(member)
    t.same(documented, membersOf(file, name).filter(isHere))
  })

void t.test('the table of CSRF reasons lists every reason', async (t) => {
  const [, type = ''] = /type CsrfReason =([\s\S]*?)\n\n/.exec(textOf('plugin/diagnostics.ts')) ?? []
  const reasons = [...type.matchAll(/'([\w-]+)'/g)].map(([, reason]) => reason)
  t.ok(reasons.length > 4)
  const [, section = ''] = textOf('docs/csrf.md').split('## When a request is refused')
  const rows = cellsOf(section)
    .slice(2)
    .map(([reason = '']) => reason.replaceAll('`', ''))
  t.same(rows.sort(), reasons.sort())
})

void t.test('the table of errors has the status of every error', async (t) => {
  const rows = cellsOf(sectionOf('docs/errors.md', 'errors')).slice(2)
  const statuses = new Map(
    rows.flatMap(([, codes = '', status = '']) => (codes.match(/\w+/g) ?? []).map((code) => [code, status]))
  )
  const made: SessionError[] = [
    new SessionStoreError(undefined),
    new SessionGoneError(),
    new SessionConflictError(),
    new SessionLimitError(),
    new SessionSizeError(2, 1),
    new SessionValueError('key', ''),
    new SessionUsageError('SESSION_OFF', ''),
    ...(['SESSION_CSRF_ORIGIN', 'SESSION_CSRF_TOKEN'] as const).map((code) => new CsrfError(code)),
    ...(
      ['SESSION_UNAUTHENTICATED', 'SESSION_EXPIRED', 'SESSION_NOT_FRESH', 'SESSION_FORBIDDEN'] as const
    ).map((code) => new SessionAuthError(code, ''))
  ]
  for (const { code, statusCode } of made) t.equal(statuses.get(code), `${statusCode}`, code)
})

void t.test('the README has the numbers of the benchmarks', async (t) => {
  const benchmarks = cellsOf(sectionOf('docs/benchmarks.md', 'summary'))
  const rows = cellsOf(sectionOf('README.md', 'speed'))
  t.ok(rows.length > 7)
  for (const [name = '', ...numbers] of rows.slice(2)) {
    const all = benchmarks.find(([first]) => first === name) ?? []
    t.same(numbers, [all[1], all[2], all[4], all[6]], name)
  }
})

void t.test('deploying.md has the numbers of the benchmarks', async (t) => {
  const benchmarks = cellsOf(sectionOf('docs/benchmarks.md', 'summary'))
  const [, section = ''] = textOf('docs/deploying.md').split('## What each store costs')
  for (const [name = '', read, change] of cellsOf(section).slice(2)) {
    const store = name.replaceAll(/`|Store/g, '')
    const all = benchmarks.find(
      ([first = '']) => first.toLowerCase() === `**fastify-sesame**, ${store.toLowerCase()}`
    )
    const postgres = benchmarks.find(([first = '']) => first.endsWith('PostgreSQL'))
    const row = store === 'Postgres' ? postgres : all
    t.same([read, change], [row?.[2], row?.[4]], name)
  }
})
