import t from 'tap'
import { barChart } from '../../benchmarks/chart.js'

const bars = [
  { label: 'bare Fastify', value: 1, text: '1.00', kind: 'reference' },
  { label: 'ours <&>', value: 2, text: '2.00', kind: 'own' },
  { label: 'theirs', value: 4, text: '4.00', kind: 'bar' }
]
const widthsOf = (svg) => [...svg.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, width]) => Number(width))

void t.test('a chart draws the bars in proportion to their values', async (t) => {
  const [one, two, four] = widthsOf(barChart([{ title: 'reading', bars }], 'a note'))
  t.ok(Math.abs(two / one - 2) < 0.01)
  t.ok(Math.abs(four / one - 4) < 0.01)
})

void t.test('a chart draws its panels one below the other, each with its own scale', async (t) => {
  const svg = barChart(
    [
      { title: 'one', bars },
      { title: 'two', bars: bars.slice(0, 1) }
    ],
    'a note'
  )
  const widths = widthsOf(svg)
  t.equal(widths[3], widths[2])
  const [first, second] = [...svg.matchAll(/translate\(0 (\d+)\)/g)].map(([, y]) => Number(y))
  t.ok(second > first)
  t.match(svg, '<title>one; two</title>')
})

void t.test('a chart escapes its text and has separate colours for dark mode', async (t) => {
  const svg = barChart([{ title: 'a & b', bars }], 'x < y')
  t.match(svg, 'ours &lt;&amp;&gt;')
  t.match(svg, 'a &amp; b')
  t.match(svg, 'x &lt; y')
  t.match(svg, 'prefers-color-scheme: dark')
})
