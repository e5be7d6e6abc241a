const WIDTH = 760
const LABELS = 300
const NUMBERS = 70
const BAR = 18
const ROW = 26
const HEAD = 40
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .note { font-size: 11px; fill: #57606a }
  .number { font-variant-numeric: tabular-nums }
  .bar { fill: #afb8c1 } .own { fill: #0969da } .reference { fill: #6e7781 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .note { fill: #8b949e }
    .bar { fill: #484f58 } .own { fill: #4493f8 } .reference { fill: #8b949e }
  }`

/**
 * Draws horizontal bar charts, one panel below the other, as an SVG image that is readable on light and dark pages.
 * A panel is `{ title, bars }`. A bar is `{ label, value, text, kind }`, where `kind` is `own`, `reference` or `bar`.
 */
export function barChart(panels, note) {
  let y = 0
  const parts = panels.map((panel) => {
    const part = `<g transform="translate(0 ${y})">${panelOf(panel)}</g>`
    y += HEAD + panel.bars.length * ROW + 12
    return part
  })
  const height = y + 20
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    `<title>${escape(panels.map(({ title }) => title).join('; '))}</title>`,
    `<style>${STYLE}\n</style>`,
    ...parts,
    `<text class="note" x="0" y="${y + 10}">${escape(note)}</text>`,
    '</svg>\n'
  ].join('\n')
}

function panelOf({ title, bars }) {
  const longest = Math.max(...bars.map(({ value }) => value))
  const rows = bars.map(({ label, value, text, kind }, index) => {
    const y = HEAD + index * ROW
    const length = Math.max(1, ((WIDTH - LABELS - NUMBERS) * value) / longest)
    return [
      `<text x="${LABELS - 10}" y="${y + 14}" text-anchor="end">${escape(label)}</text>`,
      `<rect class="${kind}" x="${LABELS}" y="${y}" width="${length.toFixed(1)}" height="${BAR}" rx="2"/>`,
      `<text class="number" x="${(LABELS + length + 8).toFixed(1)}" y="${y + 14}">${escape(text)}</text>`
    ].join('')
  })
  return `<text class="title" x="0" y="22">${escape(title)}</text>${rows.join('\n')}`
}

function escape(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
