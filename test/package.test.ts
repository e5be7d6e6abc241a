import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path/posix'
import { Script } from 'node:vm'
import t from 'tap'
import ts from 'typescript'

// Tests the published package, its dependencies and the lock files.

interface Manifest {
  readonly name: string
  readonly version: string
  readonly main: string
  readonly types: string
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  readonly imports: Readonly<Record<string, { readonly require: string; readonly default: string }>>
  readonly scripts: Readonly<Record<string, string>>
  readonly dependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
  readonly peerDependenciesMeta: Readonly<Record<string, { optional?: boolean }>>
  readonly publishConfig?: { readonly access?: string; readonly provenance?: boolean }
  readonly repository?: string | { readonly url: string }
}

interface Lock {
  readonly packages: Readonly<Record<string, LockedPackage>>
}

interface LockedPackage {
  readonly resolved?: string
  readonly integrity?: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly hasInstallScript?: boolean
}

/** The only direct runtime dependencies that the library is allowed to have. */
const DEPENDENCIES = ['@fastify/cookie', 'fastify-plugin', 'typebox']
const DOCUMENTS = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']

const root = new URL('../', import.meta.url)
const textOf = (path: string) => readFileSync(new URL(path, root), 'utf8')
const manifest = JSON.parse(textOf('package.json')) as Manifest
const lock = JSON.parse(textOf('package-lock.json')) as Lock
const packed = packedFiles()

/**
 * Lists the files that `npm pack` would include. Scripts are disabled, because a build must not run during the tests.
 */
function packedFiles(): string[] {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts', '--silent']
  const output = execFileSync('npm', args, { cwd: root, encoding: 'utf8' })
  const [{ files }] = JSON.parse(output) as [{ files: { path: string }[] }]
  return files.map(({ path }) => path).sort()
}

/** Returns the paths of the library's TypeScript files. */
function sources(): string[] {
  return readdirSync(new URL('plugin/', root), { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => /\.c?ts$/.test(file))
}

/** Returns the declarations and the code that the build creates from a TypeScript file. Each has a source map. */
function builtFrom(source: string): string[] {
  return [source.replace(/(c?ts)$/, 'd.$1'), source.replace(/ts$/, 'js')].map((file) => `dist/${file}`)
}

/** Returns the files that an entry of `exports` in package.json points to. */
function targetsOf(entry: string | Readonly<Record<string, string>>): string[] {
  return (typeof entry === 'string' ? [entry] : Object.values(entry)).map((path) => path.replace(/^\.\//, ''))
}

void t.test(
  'the package contains the built files, their source maps, the sources and the documents, and nothing else',
  async (t) => {
    const built = sources().flatMap((source) => builtFrom(source).flatMap((file) => [file, `${file}.map`]))
    t.ok(built.length > 120, `${built.length} built files`)
    t.same(packed, [...DOCUMENTS, ...built, ...sources().map((source) => `plugin/${source}`)].sort())
  }
)

void t.test('every built file has a source map that points to its packed source', async (t) => {
  for (const source of sources()) {
    for (const path of builtFrom(source)) {
      const [, map = ''] = /\n\/\/# sourceMappingURL=([^\n]+)\n?$/.exec(textOf(path)) ?? []
      t.equal(map, `${basename(path)}.map`, path)
      const { sources: origins } = JSON.parse(textOf(`${path}.map`)) as { sources: string[] }
      t.same(
        origins.map((origin) => join(dirname(path), origin)),
        [`plugin/${source}`],
        `${path}.map`
      )
    }
  }
})

void t.test(
  'no packed file contains embedded sources, a path on the build machine or a secret',
  async (t) => {
    const forbidden: Record<string, RegExp> = {
      'embedded sources': /"sourcesContent"/,
      'an absolute path': /file:\/\/\/|(?<![\w.])\/(?:home|root|Users|tmp|work)\//,
      'a private key': /-----BEGIN [A-Z ]*PRIVATE KEY-----/,
      'an npm or GitHub token': /\b(?:npm_[A-Za-z0-9]{36}|gh[pousr]_[A-Za-z0-9]{36}|_authToken)\b/,
      'a cloud access key': /\bAKIA[0-9A-Z]{16}\b/,
      'an import from the tests': /from '[^']*(?:fixtures|\.test)[^']*'/
    }
    for (const path of packed) {
      const text = textOf(path)
      for (const [what, pattern] of Object.entries(forbidden)) t.notMatch(text, pattern, `${what} in ${path}`)
    }
  }
)

void t.test('every entry point of the package names a packed file and its type declarations', async (t) => {
  const entries = Object.entries(manifest.exports)
  t.ok(entries.length >= 7)
  for (const [name, entry] of entries) {
    for (const path of targetsOf(entry)) t.ok(packed.includes(path), `${name} points to ${path}`)
    if (typeof entry === 'string') continue
    t.equal(
      entry['types'],
      entry['default']?.replace(/\.js$/, '.d.ts'),
      `${name} names the types of its code`
    )
    t.equal(
      Object.keys(entry)[0],
      'types',
      `${name} lists "types" first, because TypeScript takes the first condition that matches`
    )
  }
  t.equal(manifest.main, (manifest.exports['.'] as Record<string, string>)['default'])
  t.equal(manifest.types, (manifest.exports['.'] as Record<string, string>)['types'])
})

void t.test('every file in `imports` is packed, and exports the same for both module systems', async (t) => {
  for (const [name, { require, default: main }] of Object.entries(manifest.imports)) {
    for (const path of [require, main])
      t.ok(packed.includes(path.replace('./', '')), `${name} points to ${path}`)
    const [common, own] = [await import(`../${require}`), await import(`../${main}`)] as [object, object]
    for (const exported of Object.keys(own)) t.ok(exported in common, `${require} exports ${exported}`)
  }
})

void t.test('require() and import load the same objects', async (t) => {
  const require = createRequire(import.meta.url)
  for (const entry of Object.keys(manifest.exports).filter((path) => !path.endsWith('.json'))) {
    const name = entry.replace('.', manifest.name)
    const [required, imported] = [require(name), await import(name)] as Record<string, unknown>[]
    t.ok(Object.keys(imported ?? {}).length > 0, name)
    for (const [key, value] of Object.entries(imported ?? {}))
      t.equal(required?.[key], value, `${name}: ${key}`)
  }
})

void t.test('Jest can compile the build to CommonJS', async (t) => {
  const replaced = Object.values(manifest.imports).map((entry) => entry.default.replace('./', ''))
  for (const path of packed.filter((file) => file.endsWith('.js') && !replaced.includes(file))) {
    const { outputText } = ts.transpileModule(textOf(path), {
      compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2023 }
    })
    // In a function, `import.meta` and a top-level `await` are syntax errors.
    t.doesNotThrow(() => new Script(`() => {${outputText}\n}`), path)
    t.notMatch(outputText, /^(?:function|class|const|let) (?:require|module|exports)\b/m, path)
  }
})

/** The script .ci/check-package compiles these programs too, with other versions of TypeScript and the packed package. */
for (const name of ['plain', 'declared']) {
  void t.test(`the types that .ci/consumer/${name}.ts expects are those of the built package`, async (t) => {
    const program = ts.createProgram([join('.ci/consumer', `${name}.ts`)], {
      strict: true,
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      types: ['node'],
      noEmit: true,
      skipLibCheck: true
    })
    const problems = ts.getPreEmitDiagnostics(program).map(({ file, start = 0, messageText }) => {
      const line = file === undefined ? 0 : file.getLineAndCharacterOfPosition(start).line + 1
      return `${file?.fileName}:${line} ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
    })
    t.same(problems, [])
  })
}

void t.test('built files import only each other, Node.js modules and declared dependencies', async (t) => {
  const declared = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)]
  for (const path of packed.filter((file) => file.endsWith('.js'))) {
    for (const [, from = ''] of textOf(path).matchAll(/\bfrom '([^']+)'/g)) {
      const isKnown = from.startsWith('.')
        ? existsSync(new URL(from, new URL(path, root)))
        : from in manifest.imports ||
          from.startsWith('node:') ||
          declared.some((name) => from === name || from.startsWith(`${name}/`))
      t.ok(isKnown, `${path} imports ${from}`)
    }
  }
})

void t.test('docs/security.md gives a reason for every runtime dependency', async (t) => {
  t.same(Object.keys(manifest.dependencies).sort(), DEPENDENCIES)
  const section = textOf('docs/security.md')
    .split(/^## /m)
    .find((text) => text.startsWith('Dependencies\n'))
  const rows = [...(section ?? '').matchAll(/^\| `([^`]+)` +\| [^|]+\| (.+?) *\|$/gm)]
  const named = rows.map(([, name = '']) => name).sort()
  const peers = Object.keys(manifest.peerDependencies)
  const brought = installed().map((path) => path.split('node_modules/').at(-1) as string)
  t.same(named, [...new Set([...brought, ...peers])].sort())
  for (const [, name, reason = ''] of rows) t.ok(reason.length >= 40, `${name} has a reason`)
  for (const name of peers.filter((peer) => peer !== 'fastify'))
    t.equal(manifest.peerDependenciesMeta[name]?.optional, true, `${name} is optional`)
})

/** Returns the lock-file paths of all direct and indirect runtime dependencies. */
function installed(): string[] {
  const paths = new Set<string>()
  const visit = (name: string, parent: string): void => {
    const nested = `${parent}/node_modules/${name}`
    const path = nested in lock.packages ? nested : `node_modules/${name}`
    if (paths.has(path)) return
    paths.add(path)
    for (const other of Object.keys(lock.packages[path]?.dependencies ?? {})) visit(other, path)
  }
  for (const name of DEPENDENCIES) visit(name, '')
  return [...paths]
}

void t.test('neither the package nor its dependencies run a script during installation', async (t) => {
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
    t.notOk(name in manifest.scripts, name)
  for (const path of installed()) t.match(lock.packages[path], { integrity: /^sha512-/ }, path)
  for (const path of installed()) t.notOk(lock.packages[path]?.hasInstallScript, path)
})

void t.test('the lock files have a checksum for every package and contain no registry URLs', async (t) => {
  for (const file of ['package-lock.json', 'benchmarks/package-lock.json']) {
    const { packages } = JSON.parse(textOf(file)) as Lock
    const locked = Object.entries(packages).filter(([path]) => path.startsWith('node_modules/'))
    t.ok(locked.length > 100, `${file} has ${locked.length} packages`)
    for (const [path, { resolved, integrity }] of locked) {
      if (resolved !== undefined) t.fail(`${path} in ${file} has an address: ${resolved}`)
      if (!integrity?.startsWith('sha512-')) t.fail(`${path} in ${file} has no SHA-512`)
    }
    t.notMatch(textOf(file), /https?:\/\/[^"]*\.tgz/)
  }
})

void t.test('the settings for publishing to npm are consistent', async (t) => {
  const { publishConfig, repository } = manifest
  if (publishConfig?.provenance !== undefined) {
    t.equal(publishConfig.provenance, true)
    t.equal(publishConfig.access, 'public')
  }
  // npm rejects a provenance statement that names a different repository from the one in package.json.
  if (repository !== undefined) {
    t.match(typeof repository === 'string' ? repository : repository.url, /^(?:git\+)?https:\/\/|^github:/)
  }
  t.match(manifest.version, /^\d+\.\d+\.\d+$/)
  t.match(textOf('SECURITY.md'), `| ${manifest.version.split('.').slice(0, 2).join('.')}.x `)
})
