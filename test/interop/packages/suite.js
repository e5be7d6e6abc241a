import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describePackage } from '../fixtures/packages.js'
import { makeStarter } from './app.js'

const FOLDER = join(import.meta.dirname, 'checks')
const ORDERS = ['before', 'after']

/** Checks every package in both orders. Returns the results as Markdown. */
export async function runPackages(log) {
  const names = readdirSync(FOLDER).sort()
  const rows = []
  for (const name of names) {
    const subject = await import(join(FOLDER, name))
    const cells = []
    for (const order of ORDERS) cells.push(await runOrder(name, subject, order, log))
    rows.push({ ...subject, cells })
  }
  return toMarkdown(rows)
}

/** Runs the checks of a package in one order. Returns how many passed, of how many. */
async function runOrder(name, { checks, refuses = {} }, order, log) {
  if (refuses[order] === null) return '–'
  let passed = 0
  for (const [title, check] of Object.entries(checks)) {
    const error = await errorOf(check, order)
    const isRight = refuses[order] === undefined ? error === undefined : refuses[order].test(error?.message)
    if (isRight) passed += 1
    else log(`${name}, ${order}: ${title}\n${error?.stack ?? 'It should have failed.'}`)
  }
  const total = Object.keys(checks).length
  log(`${name}, ${order}: ${passed} of ${total}`)
  if (passed < total) return `✗ (${passed} of ${total})`
  return refuses[order] === undefined ? '✓' : 'error'
}

async function errorOf(check, order) {
  const { start, close, closeLater } = makeStarter(order)
  try {
    await check({ start, order, closeLater })
  } catch (error) {
    return error
  } finally {
    await close()
  }
}

function toMarkdown(rows) {
  const row = (cells) => `| ${cells.join(' | ')} |`
  return [
    '## Packages that use the session',
    '',
    'The package is registered before or after fastify-sesame. "error" means that this order throws an error at ' +
      'registration, and "–" that it does not exist.',
    '',
    row(['package', 'checks', 'before', 'after', 'what an application must know']),
    row(['---', ':-:', ':-:', ':-:', '---']),
    ...rows.map(({ packages, checks, cells, notes = [] }) =>
      row([packages.map(describePackage).join('<br>'), Object.keys(checks).length, ...cells, notes.join(' ')])
    ),
    ''
  ].join('\n')
}
