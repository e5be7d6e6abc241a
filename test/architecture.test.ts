import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path/posix'
import t from 'tap'

/**
 * The layers, lowest first. A file imports from its own layer or a lower one. What only holds values for others, such
 * as `json` or the `draft` that the options check values for, lies below those who use it.
 */
const LAYERS: readonly (readonly string[])[] = [
  ['types', 'errors', 'diagnostics', 'awaitable'],
  ['stores/', 'cookies/'],
  ['options/'],
  ['session/', 'http/cookie'],
  ['http/'],
  ['testing/'],
  ['index']
]

/** `as` is what a reader of the file sees: a type alone is no code, but it points somewhere all the same. */
interface Import {
  readonly from: string
  readonly as: 'type' | 'value'
}

/** The only dynamic import. TypeBox is slow to load, and only applications with the option `schema` need it. */
const LAZY_IMPORT = { file: 'options/schema.ts', code: "await import('typebox/compile')" }

/** Prettier writes them alike: at the start of a line, with single quotes. */
const STATEMENT = /^(?:import|export)( type)? (?:[\w\s{},*$]*? from )?'([^']+)'/gm

const folder = new URL('../plugin/', import.meta.url)
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.ts'))
const sources = new Map(files.map((file) => [file, readFileSync(new URL(file, folder), 'utf8')]))
const imports = new Map([...sources].map(([file, source]) => [file, importsOf(file, source)]))

function importsOf(file: string, source: string): Import[] {
  return [...source.matchAll(STATEMENT)].map(([, type, from = '']) => ({
    from: from.startsWith('.') ? join(dirname(file), from).replace(/\.js$/, '.ts') : from,
    as: type === undefined ? 'value' : 'type'
  }))
}

function layerOf(file: string): number {
  const name = file.replace(/\.ts$/, '')
  return LAYERS.findIndex((layer) =>
    layer.some((place) => place === name || (place.endsWith('/') && name.startsWith(place)))
  )
}

const isOurs = (from: string) => sources.has(from)

/** What loading `file` loads: our files and the packages, by value imports alone or by all. */
function loadedBy(file: string, all = false, loaded = new Set<string>()): Set<string> {
  for (const { from, as } of imports.get(file) ?? []) {
    if ((as === 'type' && !all) || loaded.has(from)) continue
    loaded.add(from)
    loadedBy(from, all, loaded)
  }
  return loaded
}

void t.test('the import statements are read: each of a known file is found', async (t) => {
  t.same(imports.get('stores/memory.ts'), [
    { from: 'node:timers/promises', as: 'value' },
    { from: 'diagnostics.ts', as: 'value' },
    { from: 'errors.ts', as: 'value' },
    { from: 'stores/memory-table.ts', as: 'value' },
    { from: 'stores/memory-users.ts', as: 'value' },
    { from: 'types.ts', as: 'type' }
  ])
  for (const [file, source] of sources) {
    const lines = source.split('\n').filter((line) => / from '[^']+'$/.test(line))
    t.ok((imports.get(file) ?? []).length >= lines.length, file)
  }
})

void t.test('every file has a layer, and every import leads to a file', async (t) => {
  for (const file of files) t.not(layerOf(file), -1, `${file} is to be given a layer in this test`)
  for (const [file, list] of imports) {
    for (const { from } of list) if (/^\.|\.ts$/.test(from)) t.ok(isOurs(from), `${file} imports ${from}`)
  }
})

void t.test('imports point one way, those of types too', async (t) => {
  for (const [file, list] of imports) {
    for (const { from, as } of list.filter((it) => isOurs(it.from))) {
      if (layerOf(from) > layerOf(file)) t.fail(`${file} imports ${from} (${as}), which lies above it`)
    }
  }
  t.ok(files.length > 20)
})

void t.test('no file loads itself in a circle; two may know each other’s types', async (t) => {
  for (const file of files) t.notOk(loadedBy(file).has(file), file)
})

void t.test('a store knows no other store, and neither sessions nor HTTP', async (t) => {
  const stores = files.filter((file) => file.startsWith('stores/'))
  t.ok(stores.includes('stores/memory.ts'))
  for (const file of stores) {
    const [own] = file.slice('stores/'.length).split(/[-./]/, 1) as [string]
    const all = [...loadedBy(file, true)]
    const foreign = all.filter((from) => from.startsWith('stores/') && !from.startsWith(`stores/${own}`))
    t.same(foreign, [], `${file} knows no other store`)
    const above = all.filter((from) => /^(session|http|cookies|options)\/|^(@?fastify)\b/.test(from))
    t.same(above, [], `${file} knows neither sessions nor HTTP`)
  }
})

void t.test('importing the plugin loads the memory store and no database code', async (t) => {
  const loaded = [...loadedBy('index.ts')]
  const packages = loaded.filter((from) => !isOurs(from) && !from.startsWith('node:'))
  t.same(
    new Set(packages.map((name) => name.split('/', name.startsWith('@') ? 2 : 1).join('/'))),
    new Set(['@fastify/cookie', 'fastify-plugin'])
  )
  t.same(
    loaded.filter((from) => /^(stores|testing)\//.test(from)),
    [
      'stores/guarded.ts',
      'stores/migrating.ts',
      'stores/memory.ts',
      'stores/memory-table.ts',
      'stores/memory-index.ts',
      'stores/memory-users.ts'
    ]
  )
  t.notOk(loaded.includes('node:sqlite'))
  for (const file of ['index.ts', ...loaded.filter(isOurs)]) {
    const source = sources.get(file) ?? ''
    t.notMatch(
      file === LAZY_IMPORT.file ? source.replace(LAZY_IMPORT.code, '') : source,
      /\bimport\(|\brequire\(|createRequire/,
      `${file} loads nothing behind our back`
    )
  }
})

void t.test('the plugin’s public face only exports again', async (t) => {
  const code = (sources.get('index.ts') ?? '').replace(
    /^export (?:type )?(?:\*|\{[^}]*\}) from '[^']+'$/gm,
    ''
  )
  t.equal(code.trim(), '')
})
