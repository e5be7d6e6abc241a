import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path/posix'
import t from 'tap'

/** Each folder of plugin/, with the folders from which it is allowed to import. `''` is the top level of plugin/. */
const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  '': [''],
  cookies: [''],
  stores: [''],
  migrate: ['stores', ''],
  options: ['cookies', 'stores', 'migrate', ''],
  session: ['options', 'cookies', 'stores', 'migrate', ''],
  http: ['session', 'options', 'cookies', 'stores', 'migrate', ''],
  testing: ['http', 'session', 'options', 'cookies', 'stores', 'migrate', '']
}

/** The stores are not allowed to import each other. They can import the other files in stores/. */
const STORES = ['memory', 'sqlite', 'postgres', 'redis', 'express']

/** The only dynamic import in plugin/. TypeBox is slow to load, and only the option `schema` needs it. */
const LAZY_IMPORT = { file: 'options/schema.ts', code: "await import('typebox/compile')" }

interface Import {
  readonly from: string
  readonly as: 'type' | 'value'
}

/** Matches an import or export statement as Prettier writes it. */
const STATEMENT = /^(?:import|export)( type)? (?:[\w\s{},*$]*? from )?'([^']+)'/gm

const root = new URL('../plugin/', import.meta.url)
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.ts'))
const sources = new Map(files.map((file) => [file, readFileSync(new URL(file, root), 'utf8')]))
const imports = new Map([...sources].map(([file, source]) => [file, importsOf(file, source)]))

function importsOf(file: string, source: string): Import[] {
  return [...source.matchAll(STATEMENT)].map(([, type, from = '']) => ({
    from: from.startsWith('.') ? join(dirname(file), from).replace(/\.js$/, '.ts') : from,
    as: type === undefined ? 'value' : 'type'
  }))
}

const isSource = (from: string): boolean => sources.has(from)

function folderOf(file: string): string {
  return file.includes('/') ? (file.split('/', 1)[0] as string) : ''
}

/** Returns the files and packages that are loaded when `file` is imported, including type imports if `all` is true. */
function loadedBy(file: string, all = false, loaded = new Set<string>()): Set<string> {
  for (const { from, as } of imports.get(file) ?? []) {
    if ((as === 'type' && !all) || loaded.has(from)) continue
    loaded.add(from)
    loadedBy(from, all, loaded)
  }
  return loaded
}

void t.test('the import pattern of these tests matches every import statement in plugin/', async (t) => {
  t.same(imports.get('http/require-auth.ts')?.slice(0, 3), [
    { from: 'fastify', as: 'type' },
    { from: 'errors.ts', as: 'value' },
    { from: 'rules.ts', as: 'value' }
  ])
  for (const [file, source] of sources) {
    const lines = source.split('\n').filter((line) => / from '[^']+'$/.test(line))
    t.ok((imports.get(file) ?? []).length >= lines.length, file)
  }
})

void t.test('every file is in a known folder, and every relative import points to a file', async (t) => {
  for (const file of files) t.ok(folderOf(file) in FOLDERS, `${file} is missing from FOLDERS`)
  for (const [file, list] of imports) {
    for (const { from } of list) if (/^\.|\.ts$/.test(from)) t.ok(isSource(from), `${file} imports ${from}`)
  }
})

for (const [folder, allowed] of Object.entries(FOLDERS)) {
  void t.test(`the files in plugin/${folder} import only from allowed folders`, async (t) => {
    const inside = files.filter((file) => folderOf(file) === folder && file !== 'index.ts')
    t.not(inside.length, 0)
    for (const file of inside) {
      for (const { from } of (imports.get(file) ?? []).filter((entry) => isSource(entry.from))) {
        const isAllowed = folderOf(from) === folder || allowed.includes(folderOf(from))
        t.ok(isAllowed && from !== 'index.ts', `${file} imports ${from}`)
      }
    }
  })
}

void t.test('there are no circular imports, apart from imports of types', async (t) => {
  for (const file of files) t.notOk(loadedBy(file).has(file), file)
})

void t.test('only files in http/ and testing/ import Fastify', async (t) => {
  const importers = files.filter((file) => imports.get(file)?.some(({ from }) => /^@?fastify/.test(from)))
  t.ok(importers.includes('http/plugin.ts'))
  t.same(
    importers.filter((file) => !['http', 'testing'].includes(folderOf(file))),
    []
  )
})

void t.test('stores do not import each other', async (t) => {
  for (const own of STORES) {
    const inside = files.filter((file) => new RegExp(`^stores/${own}\\b`).test(file))
    t.not(inside.length, 0, own)
    const others = STORES.filter((store) => store !== own)
    for (const file of inside) {
      const foreign = [...loadedBy(file, true)].filter((from) =>
        others.some((store) => new RegExp(`^stores/${store}\\b`).test(from))
      )
      t.same(foreign, [], file)
    }
  }
})

void t.test('importing the plugin loads the memory store and no database code', async (t) => {
  const loaded = [...loadedBy('index.ts')]
  const packages = loaded.filter((from) => !isSource(from) && !from.startsWith('node:'))
  t.same(new Set(packages), new Set(['@fastify/cookie', 'fastify-plugin']))
  const stores = STORES.filter((store) => loaded.some((from) => new RegExp(`^stores/${store}\\b`).test(from)))
  t.same(stores, ['memory'])
  t.notOk(loaded.includes('node:sqlite'))
  t.notOk(loaded.some((from) => from.startsWith('testing/')))
  for (const file of ['index.ts', ...loaded.filter(isSource)]) {
    const allowed = file === LAZY_IMPORT.file ? LAZY_IMPORT.code : ''
    const rest = (sources.get(file) ?? '').replace(allowed, '')
    t.notMatch(rest, /\bimport\(|\brequire\(|createRequire/, `${file} has no other dynamic import`)
  }
})

void t.test('index.ts contains nothing but re-exports', async (t) => {
  const code = (sources.get('index.ts') ?? '').replace(
    /^export (?:type )?(?:\*|\{[^}]*\}) from '[^']+'$/gm,
    ''
  )
  t.equal(code.trim(), '')
})
