import { existsSync, readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import ts from 'typescript'
import type { SessionOptions } from '../../plugin/index.js'
import { caseNames } from '../../plugin/testing/index.js'
import { contextOf, makeApp } from '../fixtures/app.js'

// Looks up every test that docs/security.md names, and checks that the page is complete.

/**
 * Matches a reference to a test, such as `test/a.test.ts › a name`. If a loop creates the tests, `…` stands for each
 * part of the name that varies.
 */
const REFERENCE = /^(\S+) › (.+)$/
/**
 * The folder of the test kit for stores. The kit's cases are looked up in its own list, because they are not `test`
 * calls in a test file.
 */
const KIT = 'plugin/testing'

/** Functions that declare a test, with what each adds to its name. `race` and `row` declare a test for each store. */
const DECLARERS = new Map([
  ['test', ''],
  ['race', ' (…)'],
  ['row', ' (…)']
])

/** Maps each OWASP ASVS requirement to its level. */
const ASVS: Record<string, number> = {
  ...levels('7.1', [2, 2, 2]),
  ...levels('7.2', [1, 1, 1, 1]),
  ...levels('7.3', [2, 2]),
  ...levels('7.4', [1, 1, 2, 2, 2]),
  ...levels('7.5', [2, 2, 3]),
  ...levels('7.6', [2, 2]),
  ...levels('3.3', [1, 2, 2, 2, 3]),
  ...levels('3.5', [1, 1, 1, 2]),
  '3.5.8': 3
}

const CASES = [
  ...ids('A', 7),
  ...ids('B', 8),
  ...ids('C', 14),
  ...ids('D', 12),
  ...ids('E', 14),
  ...ids('F', 14)
]
/** The cases whose tests are named after the behaviour only, and not after the case. */
const UNNAMED = ['E11', 'F13']

const ADVISORIES =
  `CVE-2011-0696 CVE-2012-2671 CVE-2013-0263 CVE-2013-10075 CVE-2015-3982 CVE-2015-5143 CVE-2015-5963
  CVE-2016-7401 CVE-2018-11406 CVE-2019-15658 CVE-2019-16782 CVE-2019-25025 CVE-2021-29624 CVE-2021-34428
  CVE-2022-24894 CVE-2022-24895 CVE-2022-25896 CVE-2023-20866 CVE-2023-27495 CVE-2023-29019 CVE-2023-29020
  CVE-2023-30861 CVE-2023-46733 CVE-2024-26144 CVE-2024-31999 CVE-2024-35220 CVE-2025-24358 CVE-2025-46336
  CVE-2025-47909 CVE-2025-47910 CVE-2026-107275 CVE-2026-27205 CVE-2026-39324 GHSA-49wp-qq6x-g2rf
  GHSA-qppm-g56g-fpvp fastify/session#240`.split(/\s+/)

/**
 * The parties that can be responsible for a requirement. The value is `true` if docs/security.md must name a test for
 * each requirement of that party.
 */
const RESPONSIBLE: Record<string, boolean> = { library: true, shared: true, application: false }

const root = new URL('../../', import.meta.url)
const textOf = (path: string) => readFileSync(new URL(path, root), 'utf8')
const page = textOf('docs/security.md')

function levels(section: string, given: number[]): Record<string, number> {
  return Object.fromEntries(given.map((level, index) => [`${section}.${index + 1}`, level]))
}

function ids(letter: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${letter}${index + 1}`)
}

/** Returns the cells of the tables under a second-level heading, without the header rows. */
function rowsOf(heading: string): string[][] {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? ''
  return section.split(/\n(?!\|)/).flatMap((block) => {
    const rows = block.split('\n').filter((line) => line.startsWith('|'))
    return rows.slice(2).map((row) =>
      row
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim())
    )
  })
}

/**
 * Returns the test references in backticks. A reference that itself contains a backtick is enclosed in double
 * backticks.
 */
function referencesIn(text: string): string[] {
  const spans = [...text.matchAll(/(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)/g)].map(([, , span = '']) =>
    span.trim()
  )
  return [...new Set(spans.filter((span) => REFERENCE.test(span)))]
}

/** Returns the names of all tests in a file, including nested tests. */
function namesIn(source: string): Set<string> {
  const names = new Set<string>()
  const visit = (node: ts.Node): void => {
    const name = ts.isCallExpression(node) ? nameOf(node) : undefined
    if (name !== undefined) names.add(name)
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile('a.ts', source, ts.ScriptTarget.Latest))
  return names
}

/** Returns the name in a `t.test('…', () => …)` call, or `undefined` for any other call. */
function nameOf({ expression, arguments: given }: ts.CallExpression): string | undefined {
  const callee = ts.isPropertyAccessExpression(expression) ? expression.name : expression
  const [name, ...rest] = given
  const suffix = ts.isIdentifier(callee) ? DECLARERS.get(callee.text) : undefined
  if (suffix === undefined || name === undefined) return
  if (!rest.some((argument) => ts.isArrowFunction(argument) || ts.isFunctionExpression(argument))) return
  const text = textOfName(name)
  return text === undefined ? undefined : text + suffix
}

/** Returns a string or a template. `…` stands for each part of a template that varies. */
function textOfName(name: ts.Expression): string | undefined {
  if (ts.isStringLiteralLike(name)) return name.text
  if (!ts.isTemplateExpression(name)) return
  return name.head.text + name.templateSpans.map(({ literal }) => `…${literal.text}`).join('')
}

/** Returns `undefined` if the test of a reference exists, otherwise a message that says what is wrong. */
function problemOf(reference: string): string | undefined {
  const [, file = '', name = ''] = REFERENCE.exec(reference) ?? []
  if (file === KIT) return caseNames().run.includes(name) ? undefined : `the kit has no case “${name}”`
  if (!/^test\/.*\.test\.(ts|js)$/.test(file)) return `${file} is not a test file`
  if (!existsSync(new URL(file, root))) return `${file} does not exist`
  return namesIn(textOf(file)).has(name) ? undefined : `${file} has no test “${name}”`
}

void t.test('every test that docs/security.md names exists under exactly that name', async (t) => {
  const references = referencesIn(page)
  t.ok(references.length > 100, `${references.length} tests`)
  t.equal(references.length, new Set(page.match(/[\w/.-]+ › [^`]+/g)).size, 'every reference was parsed')
  t.same(references.map(problemOf).filter(Boolean), [])
})

void t.test('a reference to a renamed test, a missing file or an inexact name is detected', async (t) => {
  const file = 'test/security/pages.test.ts'
  const own = 'a reference to a renamed test, a missing file or an inexact name is detected'
  t.equal(problemOf(`${file} › ${own}`), undefined)
  t.equal(problemOf(`${KIT} › update after destroy returns gone and creates no record (E1)`), undefined)
  for (const name of [own.slice(1), own.slice(0, -1), `${own}.`, own.toUpperCase(), '…', 'a reference…'])
    t.match(problemOf(`${file} › ${name}`), /has no test/, name)
  t.match(problemOf(`test/security/none.test.ts › ${own}`), /does not exist/)
  t.match(problemOf(`${KIT} › update after destroy`), /has no case/)
  t.match(problemOf(`plugin/session.ts › ${own}`), /is not a test file/)
  const source =
    "t.test(`${a} is ${b}`, f => {}); t.test('x', { skip: false }, async () => {}); /y/.test('z'); race('w', () => {}, {})"
  t.same([...namesIn(source)], ['… is …', 'x', 'w (…)'])
  t.same(referencesIn('`test/a.test.ts › a` ``test/a.test.ts › b `c` d`` `e › f` `g`'), [
    'test/a.test.ts › a',
    'test/a.test.ts › b `c` d',
    'e › f'
  ])
})

void t.test('the tests of every store run the test kit for stores', async (t) => {
  const stores = readdirSync(new URL('test/stores/', root)).filter((file) => file.endsWith('.test.ts'))
  const running = stores.filter((file) => /\btestStore\(/.test(textOf(`test/stores/${file}`)))
  for (const name of ['memory', 'sqlite', 'postgres', 'redis.', 'redis-cluster', 'express'])
    t.ok(
      running.some((file) => file.includes(name)),
      name
    )
})

void t.test('docs/security.md lists each ASVS requirement once, with level and responsibility', async (t) => {
  const rows = rowsOf('OWASP ASVS')
  t.same(Object.fromEntries(rows.map(([id, level]) => [id, Number(level)])), ASVS)
  t.equal(rows.length, Object.keys(ASVS).length)
  for (const [id, , , party = '', shown = ''] of rows) {
    t.ok(Object.hasOwn(RESPONSIBLE, party), `${id}: ${party}`)
    t.equal(
      referencesIn(shown).length > 0,
      RESPONSIBLE[party],
      `${id} (${party}) names a test if and only if the library is involved`
    )
    const text = shown.replaceAll(/`{1,2}[^`]+ › .+?`{1,2}(?:<br>)?/g, '')
    if (party !== 'library') t.ok(text.length >= 20, `${id} says what the application must do`)
  }
})

void t.test('docs/security.md lists every security case once, with a test that names it', async (t) => {
  const rows = rowsOf('Security cases')
  t.same(
    rows.map(([id]) => id),
    CASES
  )
  for (const [id = '', , shown = ''] of rows) {
    const own = referencesIn(shown).filter((reference) => new RegExp(`\\b${id}\\b`).test(reference))
    t.equal(own.length > 0, !UNNAMED.includes(id), id)
    t.ok(referencesIn(shown).length > 0, id)
  }
})

void t.test('docs/security.md lists every advisory once, with a test', async (t) => {
  const rows = rowsOf('Advisories')
  const named = rows.flatMap(
    ([advisory = '']) => advisory.match(/(?:CVE|GHSA)-[\w-]+|fastify\/session#\d+/g) ?? []
  )
  t.same([...named].sort(), [...ADVISORIES].sort())
  for (const [advisory = '', , shown = ''] of rows) t.ok(referencesIn(shown).length > 0, advisory)
})

void t.test('the counts in docs/security.md are correct', async (t) => {
  const asvs = rowsOf('OWASP ASVS')
  const isShown = ([, , , , shown = '']: string[]) => referencesIn(shown).length > 0
  const countOf = (party: string) => asvs.filter((row) => row[3] === party).length
  t.same(
    rowsOf('Counts').map(([, count]) => Number(count)),
    [
      asvs.length,
      asvs.filter(isShown).length,
      countOf('shared'),
      countOf('application'),
      rowsOf('Security cases').length,
      ADVISORIES.length,
      referencesIn(page).length
    ]
  )
})

void t.test('the NIST presets are valid options and do not exceed NIST’s limits', async (t) => {
  const code = /^## NIST timeouts[\s\S]*?```ts\n([\s\S]*?)```/m.exec(page)?.[1] ?? ''
  const { outputText } = ts.transpileModule(code, { compilerOptions: { module: ts.ModuleKind.ESNext } })
  const presets = (await import(`data:text/javascript,${encodeURIComponent(outputText)}`)) as Record<
    string,
    Partial<SessionOptions>
  >
  const limits: Record<string, [maxAge: number, idleTimeout: number]> = {
    aal1: [30 * 86_400, Infinity],
    aal2: [86_400, 3600],
    aal3: [43_200, 900]
  }
  t.same(Object.keys(presets).sort(), Object.keys(limits))
  for (const [name, [maxAge, idleTimeout]] of Object.entries(limits)) {
    const { options } = contextOf(await makeApp(t, presets[name]))
    t.same([options.maxAge, options.idleTimeout], [maxAge * 1000, idleTimeout * 1000], name)
    t.match(options, {
      cookieName: /^__Host-/,
      cookie: { persistent: false, secure: true, httpOnly: true, sameSite: 'lax' },
      csrf: { protect: 'all', token: true }
    })
  }
})
