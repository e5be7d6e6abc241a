import { existsSync } from 'node:fs'
import t from 'tap'
import { anchorsOf, linksOf, PAGES, textOf, TOPICS } from './fixtures/pages.js'

const root = new URL('../../', import.meta.url)

/** Returns the links of a page that lead nowhere. */
function brokenLinksOf(page: string): string[] {
  return linksOf(page).filter((link) => {
    const [path = '', anchor] = link.split('#')
    const target = path === '' ? page : new URL(path, new URL(page, root)).href.slice(root.href.length)
    if (!existsSync(new URL(target, root))) return true
    return anchor !== undefined && !(target.endsWith('.md') && anchorsOf(target).includes(anchor))
  })
}

void t.test('every link of every page has a target', async (t) => {
  for (const page of PAGES) t.same(brokenLinksOf(page), [], page)
  t.ok(PAGES.flatMap(linksOf).length > 100)
})

void t.test('the README links to every page', async (t) => {
  const links = linksOf('README.md')
  t.same(
    [...TOPICS, 'CHANGELOG.md', 'CONTRIBUTING.md'].filter((page) => !links.includes(page)),
    []
  )
})

void t.test('headings of one page have different anchors', async (t) => {
  for (const page of PAGES.filter((page) => page !== 'CHANGELOG.md')) {
    const anchors = anchorsOf(page)
    t.same(
      anchors.filter((anchor, index) => anchors.indexOf(anchor) !== index),
      [],
      page
    )
  }
})

void t.test('the README has at most 220 lines', async (t) => {
  t.ok(textOf('README.md').trimEnd().split('\n').length <= 220)
})
