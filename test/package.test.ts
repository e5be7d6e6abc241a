import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import t from 'tap'

// What goes to npm, and what comes with it.

interface Manifest {
  readonly name: string
  readonly version: string
  readonly main: string
  readonly types: string
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
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

/** The dependencies of an application that uses this package, and no others. */
const DEPENDENCIES = ['@fastify/cookie', 'fastify-plugin', 'typebox']
const BESIDE_DIST = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']

const root = new URL('../', import.meta.url)
const textOf = (path: string) => readFileSync(new URL(path, root), 'utf8')
const manifest = JSON.parse(textOf('package.json')) as Manifest
const lock = JSON.parse(textOf('package-lock.json')) as Lock
const packed = packedFiles()

/** Without its scripts: the build has run before the tests, and is not to run beside them. */
function packedFiles(): string[] {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts', '--silent']
  const output = execFileSync('npm', args, { cwd: root, encoding: 'utf8' })
  const [{ files }] = JSON.parse(output) as [{ files: { path: string }[] }]
  return files.map(({ path }) => path).sort()
}

/** The TypeScript files of the library, without their ending. */
function sources(): string[] {
  return readdirSync(new URL('plugin/', root), { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -'.ts'.length))
}

/** All files that an entry of `exports` leads to. */
function targetsOf(entry: string | Readonly<Record<string, string>>): string[] {
  return (typeof entry === 'string' ? [entry] : Object.values(entry)).map((path) => path.replace(/^\.\//, ''))
}

void t.test('the package is the built library and its papers, and nothing else', async (t) => {
  const built = sources().flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`])
  t.ok(built.length > 60, `${built.length} built files`)
  t.same(packed, [...BESIDE_DIST, ...built].sort())
})

void t.test('no packed file has a source map, a path of a machine or the look of a secret', async (t) => {
  const forbidden: Record<string, RegExp> = {
    'a source map': /\/\/# sourceMappingURL|"sourcesContent"/,
    'a path of a machine': /file:\/\/\/|(?<![\w.])\/(?:home|root|Users|tmp|work)\//,
    'a private key': /-----BEGIN [A-Z ]*PRIVATE KEY-----/,
    'a token of npm or GitHub': /\b(?:npm_[A-Za-z0-9]{36}|gh[pousr]_[A-Za-z0-9]{36}|_authToken)\b/,
    'a key of a cloud': /\bAKIA[0-9A-Z]{16}\b/,
    'an import of a test': /from '[^']*(?:fixtures|\.test)[^']*'/
  }
  for (const path of packed) {
    const text = textOf(path)
    for (const [what, pattern] of Object.entries(forbidden)) t.notMatch(text, pattern, `${what} in ${path}`)
  }
})

void t.test('every entry point leads to a packed file, and to the types beside it', async (t) => {
  const entries = Object.entries(manifest.exports)
  t.ok(entries.length >= 7)
  for (const [name, entry] of entries) {
    for (const path of targetsOf(entry)) t.ok(packed.includes(path), `${name} leads to ${path}`)
    if (typeof entry === 'string') continue
    t.equal(entry['types'], entry['default']?.replace(/\.js$/, '.d.ts'), `${name} has the types of its code`)
    t.equal(Object.keys(entry)[0], 'types', `${name} names the types first, or TypeScript misses them`)
  }
  t.equal(manifest.main, (manifest.exports['.'] as Record<string, string>)['default'])
  t.equal(manifest.types, (manifest.exports['.'] as Record<string, string>)['types'])
})

void t.test('what the built files import is built too, or a declared package', async (t) => {
  const declared = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)]
  for (const path of packed.filter((file) => file.endsWith('.js'))) {
    for (const [, from = ''] of textOf(path).matchAll(/\bfrom '([^']+)'/g)) {
      const isKnown = from.startsWith('.')
        ? existsSync(new URL(from, new URL(path, root)))
        : from.startsWith('node:') || declared.some((name) => from === name || from.startsWith(`${name}/`))
      t.ok(isKnown, `${path} imports ${from}`)
    }
  }
})

void t.test('the runtime dependencies are three, each with its reason on the security page', async (t) => {
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

/** Where the lock file puts the three, and what they bring along: beneath the one that asked, or else at the top. */
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

void t.test('no script runs where the package is installed, ours or that of a dependency', async (t) => {
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
    t.notOk(name in manifest.scripts, name)
  for (const path of installed()) t.match(lock.packages[path], { integrity: /^sha512-/ }, path)
  for (const path of installed()) t.notOk(lock.packages[path]?.hasInstallScript, path)
})

void t.test('the lock file names no address, and has a checksum for every package', async (t) => {
  const locked = Object.entries(lock.packages).filter(([path]) => path.startsWith('node_modules/'))
  t.ok(locked.length > 100)
  for (const [path, { resolved, integrity }] of locked) {
    if (resolved !== undefined) t.fail(`${path} has an address: ${resolved}`)
    if (!integrity?.startsWith('sha512-')) t.fail(`${path} has no SHA-512`)
  }
  t.notMatch(textOf('package-lock.json'), /https?:\/\/[^"]*\.tgz/)
})

void t.test('what is said of publishing fits together: provenance is of a public package', async (t) => {
  const { publishConfig, repository } = manifest
  if (publishConfig?.provenance !== undefined) {
    t.equal(publishConfig.provenance, true)
    t.equal(publishConfig.access, 'public')
  }
  // npm refuses a provenance statement whose repository is another than the package's.
  if (repository !== undefined) {
    t.match(typeof repository === 'string' ? repository : repository.url, /^(?:git\+)?https:\/\/|^github:/)
  }
  t.match(manifest.version, /^\d+\.\d+\.\d+$/)
  t.match(textOf('SECURITY.md'), `| ${manifest.version.split('.').slice(0, 2).join('.')}.x `)
})
