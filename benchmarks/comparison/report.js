const START = '<!-- comparison -->'
const END = '<!-- /comparison -->'

/** A text with an empty section. */
export const EMPTY = `${START}\n\n${END}\n`

/**
 * Returns the rows of the table, the first with the names of the libraries, and the notes. A note tells what a library
 * does with another setting, and a cell shows the number of its note.
 */
export function tableOf(results, libraries) {
  const notes = []
  const cellOf = ({ text, note }, mark) => {
    if (note === undefined) return text
    if (!notes.includes(note)) notes.push(note)
    return `${text}${mark(notes.indexOf(note) + 1)}`
  }
  const rowsOf = (first, mark) => [
    ['', ...libraries],
    ...results.map((result) => [first(result), ...result.cells.map((cell) => cellOf(cell, mark))])
  ]
  return {
    plain: rowsOf(
      ({ title }) => title,
      (number) => ` (${number})`
    ),
    linked: rowsOf(
      ({ title, name }) => `[${title}](rows/${name}.js)`,
      (number) => `<sup>${number}</sup>`
    ),
    notes: notes.map((note, index) => `${index + 1}. ${note}`)
  }
}

/** Returns the table and its notes as Markdown. */
export function sectionText({ linked, notes }) {
  const line = (row) => `| ${row.join(' | ')} |`
  const [head, ...rows] = linked
  return [line(head), line(head.map(() => '---')), ...rows.map(line), '', ...notes].join('\n')
}

/** Replaces the text between the markers. */
export function withSection(text, section) {
  const [start, end] = boundsOf(text)
  return `${text.slice(0, start)}\n\n${section}\n\n${text.slice(end)}`
}

/** Returns the lines between the markers, without the padding of the tables. */
export function linesOf(text) {
  const [start, end] = boundsOf(text)
  const lines = text.slice(start, end).trim().split('\n')
  return lines.map((line) => line.replaceAll(/-+/g, '-').replaceAll(/ +/g, ' '))
}

function boundsOf(text) {
  const [start, end] = [text.indexOf(START), text.indexOf(END)]
  if (start === -1 || end === -1) throw new Error(`The text has no section between ${START} and ${END}`)
  return [start + START.length, end]
}
