#!/usr/bin/env node
// Measures the table that compares this library with others, and writes it to results.md and to the README.
import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { format, resolveConfig } from 'prettier'
import { versionOf } from '../environment.js'
import { createProgress } from '../progress.js'
import { textTable } from '../report.js'
import { EMPTY, linesOf, sectionText, tableOf, withSection } from './report.js'
import { loadRow, ROWS } from './rows.js'
import { LIBRARIES } from './servers.js'

const USAGE = `npm run compare -- [options]

  --only NAMES   measures only these rows, separated by commas, and writes nothing
  --check        fails if a result differs from results.md, and writes nothing
  --help         prints this text

Rows: ${ROWS.join(', ')}`

const RESULTS = new URL('results.md', import.meta.url)
const README = new URL('../../README.md', import.meta.url)

const OK = 0
const FAILED = 1
const BAD_USAGE = 2
const NAMES = LIBRARIES.map(({ name }) => name)

process.exitCode = await main(process.argv.slice(2))

async function main(args) {
  const { names, check, help, problem } = readArguments(args)
  if (problem !== undefined) console.error(`${problem}\n`)
  if (help || problem !== undefined) {
    console.log(USAGE)
    return help ? OK : BAD_USAGE
  }
  const table = tableOf(await measureAll(names ?? ROWS), NAMES)
  console.log(`\n${[textTable(table.plain), table.notes.join('\n')].join('\n\n')}`)
  if (check) return compare(sectionText(table))
  if (names === undefined) await writeAll(sectionText(table))
  return OK
}

function readArguments(args) {
  const options = { only: { type: 'string' }, check: { type: 'boolean' }, help: { type: 'boolean' } }
  try {
    const { only, ...others } = parseArgs({ args, options }).values
    const names = only?.split(',')
    const unknown = names?.find((name) => !ROWS.includes(name))
    if (unknown !== undefined) return { problem: `--only got "${unknown}", which is not a row` }
    if (names && others.check) return { problem: '--check needs all rows, so it excludes --only' }
    return { names, ...others }
  } catch ({ message }) {
    return { problem: message }
  }
}

/** Measures one library after the other, so that they do not compete for the processor. */
async function measureAll(names) {
  const progress = createProgress(names.length)
  const results = []
  try {
    for (const name of names) {
      progress.step(name)
      const row = await loadRow(name)
      const cells = []
      for (const library of LIBRARIES) cells.push(await cellOf(name, row, library))
      results.push({ name, title: row.title, cells })
    }
  } finally {
    progress.stop()
  }
  return results
}

/** Measures one library, and again with its remedy. */
async function cellOf(name, { measure, remedies = {} }, library) {
  const remedy = remedies[library.name]
  try {
    const text = await measure(library)
    return remedy === undefined
      ? { text }
      : { text, note: `${remedy.text}: ${await measure(library, remedy)}.` }
  } catch (cause) {
    throw new Error(`The row ${name} failed for ${library.name}`, { cause })
  }
}

/** Compares the table with results.md, prints each line that differs and returns the exit code. */
async function compare(section) {
  const expected = linesOf(await readFile(RESULTS, 'utf8'))
  const found = linesOf(withSection(EMPTY, await formatted(section, RESULTS)))
  const differing = found.filter((line) => !expected.includes(line))
  for (const line of differing) console.error(`not in results.md: ${line}`)
  return found.length === expected.length && differing.length === 0 ? OK : FAILED
}

async function writeAll(section) {
  const head = `# Comparison\n\nThe command \`npm run compare\` wrote this page, on Node ${process.versions.node}.`
  const versions = [...NAMES.slice(1), 'fastify', 'express'].map((name) => `${name} ${versionOf(name)}`)
  const text = `${head}\n\n${versions.join(' · ')}\n\n${EMPTY}`
  await writeFile(RESULTS, await formatted(withSection(text, section), RESULTS))
  const linked = section.replaceAll('](rows/', '](benchmarks/comparison/rows/')
  await writeFile(README, await formatted(withSection(await readFile(README, 'utf8'), linked), README))
}

async function formatted(text, file) {
  return format(text, { ...(await resolveConfig(file)), parser: 'markdown' })
}
