/** The chart: apply and restore, retention and its rivals, as bars of seconds with the peak memory beside them. */
import { memoryOf, secondsOf, titles } from './marks.ts'
import type { Entry, Race } from './races.ts'

/** In pixels: names are left of `from`, bars go as far as `to`, memory ends at `width - margin`. */
const [width, margin, from, to] = [880, 24, 330, 660]
const [top, heading, row, bar] = [84, 34, 26, 16]

const style = `
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  text { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
  .title { font-size: 17px; font-weight: 600 } .group { font-weight: 600 } .faint { fill: #59636e }
  .paper { fill: #ffffff; stroke: #d1d9e0 } .line { stroke: #d1d9e0 }
  .retention { fill: #0969da } .gzip, .zstd, .zip, .s3 { fill: #54aeff } .floor { fill: #8c959f } .everyday { fill: #c4cad0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; stroke: #0d1117 } .faint { fill: #9198a1 }
    .paper { fill: #0d1117; stroke: #3d444d } .line { stroke: #3d444d }
    .retention { fill: #4493f8 } .gzip, .zstd, .zip, .s3 { fill: #1f6feb } .floor { fill: #7d8590 } .everyday { fill: #4b535d }
  }`

/** Draws the races as an SVG, readable on light and on dark paper. */
export function chart(races: readonly Race[]): string {
  const longest = Math.max(1e-3, ...races.flatMap(({ entries }) => entries.filter(raced).map(secondsOf)))
  const step = roundStep(longest / 5)
  const last = Math.ceil(longest / step) * step
  const x = (seconds: number): number => from + ((to - from) * seconds) / last
  const bottom = top + races.reduce((sum, { entries }) => sum + heading + entries.length * row, 0)

  const axis = Array.from({ length: Math.round(last / step) + 1 }, (_, n) => n * step).flatMap((seconds) => [
    `<line class="line" x1="${x(seconds)}" x2="${x(seconds)}" y1="${top}" y2="${bottom + 6}"/>`,
    text(x(seconds), bottom + 24, Number(seconds.toFixed(3)).toLocaleString('en'), 'faint', 'middle'),
  ])
  let y = top
  const groups = races.flatMap(({ kind, task, due, entries }) => {
    y += heading
    const title = `${task} on ${titles[kind]}, ${due.toLocaleString('en')} rows`
    return [text(margin, y - 8, title, 'group'), ...entries.flatMap((entry) => bars(entry, (y += row) - row, x))]
  })
  const height = bottom + 64
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title">
<title id="title">How long apply and restore take, and the memory they need, beside what people do without retention</title>
<style>${style}
</style>
<rect class="paper" x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="6"/>
${[
  text(margin, 36, 'How long it takes', 'title'),
  text(margin, 60, 'whole processes, medians; shorter is better', 'faint'),
  text(width - margin, 60, 'peak memory', 'faint', 'end'),
  ...axis,
  ...groups,
  text((from + to) / 2, bottom + 46, 'seconds', 'faint', 'middle'),
].join('\n')}
</svg>
`
}

function raced({ lacks }: Entry): boolean {
  return lacks === undefined
}

function bars(entry: Entry, y: number, x: (seconds: number) => number): string[] {
  const base = y + bar - 3
  const name = text(from - 10, base, entry.name, entry.role === 'retention' ? 'group' : '', 'end')
  if (!raced(entry)) return [name, text(from + 8, base, `skipped: no ${entry.lacks} here`, 'faint')]
  const seconds = secondsOf(entry)
  const memory = memoryOf(entry)
  return [
    name,
    `<rect class="${entry.role}" x="${from}" y="${y}" width="${(x(seconds) - from).toFixed(1)}" height="${bar}" rx="2"/>`,
    text(x(seconds) + 8, base, `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`, entry.role === 'retention' ? 'group' : ''),
    text(width - margin, base, memory === undefined ? '?' : `${memory.toFixed(0)} MB`, 'faint', 'end'),
  ]
}

function text(x: number, y: number, content: string, name = '', anchor = 'start'): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  const at = `x="${Number(x.toFixed(1))}" y="${y}"`
  return `<text ${at}${name === '' ? '' : ` class="${name}"`}${anchor === 'start' ? '' : ` text-anchor="${anchor}"`}>${escaped}</text>`
}

/** The next of 1, 2, 5, 10, 20, 50 … */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least))
  return power * ([1, 2, 5].find((digit) => digit * power >= least) ?? 10)
}
