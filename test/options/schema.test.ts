import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import Type from 'typebox'
import { MemoryStore, type SessionOptions } from '../../plugin/index.js'
import { resolveOptions, withSchema } from '../../plugin/options/resolve.js'
import { SECRET } from '../fixtures/app.js'

async function problemsWith(schema: unknown) {
  const given = { secret: SECRET, schema } as SessionOptions
  return (await withSchema(resolveOptions(given, () => new MemoryStore()))).problemOf
}

void t.test('a value is checked only against the schema of its own key', async (t) => {
  const problemOf = await problemsWith(Type.Object({ name: Type.Object({ first: Type.String() }) }))
  t.equal(problemOf('name', { first: 'Ada' }), undefined)
  t.match(problemOf('name', 'Ada'), /^must be object/)
  t.match(problemOf('name', { first: 5 }), /^at \/first must be string/)
  t.equal(problemOf('other', 5), undefined, 'other keys are allowed')
})

void t.test('additionalProperties: false refuses unknown keys, except the library’s own keys', async (t) => {
  const problemOf = await problemsWith(Type.Object({ name: Type.String() }, { additionalProperties: false }))
  t.equal(problemOf('other', 5), 'is not in the schema')
  t.equal(problemOf('$csrf', 'x'), undefined, 'keys that begin with $ belong to the library')
})

/** Starts an app in another process and returns the URLs of the typebox modules that were loaded there. */
function typeboxModulesOf(...args: string[]): string[] {
  const fixture = fileURLToPath(new URL('./fixtures/loaded-modules.js', import.meta.url))
  const urls = JSON.parse(
    execFileSync(process.execPath, [fixture, ...args], { encoding: 'utf8' })
  ) as string[]
  t.ok(
    urls.some((url) => url.endsWith('/plugin/options/schema.ts')),
    'the list of modules includes the library'
  )
  return urls.filter((url) => url.includes('/node_modules/typebox/'))
}

void t.test('registering the plugin loads typebox only if a schema is given', async (t) => {
  t.same(typeboxModulesOf(), [])
  t.ok(typeboxModulesOf('schema').length > 0)
})
