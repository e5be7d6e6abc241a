import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { HEADINGS } from './fixtures/recipes.js'

// The recipes are tested in recipes-*.test.ts.

void t.test('every recipe has a test, and every test has a recipe', async (t) => {
  const folder = new URL('./', import.meta.url)
  const files = readdirSync(folder).filter((name) => /^recipes-.*\.test\.ts$/.test(name))
  const tested = files.flatMap((name) => {
    const calls = readFileSync(new URL(name, folder), 'utf8').matchAll(/^recipe\(\s*(['"])(.+)\1,/gm)
    return [...calls].map(([, , heading = '']) => heading)
  })
  t.same(tested.toSorted(), HEADINGS.toSorted())
  t.ok(HEADINGS.length > 30)
})
