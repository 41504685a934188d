/** The dashboard's chart: rows and bytes that archives have taken over time, drawn as SVG, with a table that says the same. */
import { html } from 'hono/html'

import type { LedgerEntry } from '../../ledger/ledger.ts'
import { number, size, type Html, type View } from './view.ts'

/** What was archived within a day, a week or a month. */
interface Period {
  /** Its first day, such as `2026-11-23`. */
  readonly from: string
  readonly rows: number
  readonly bytes: number
}

type Step = 'day' | 'week' | 'month'

/** The most bars that are drawn: what is older is left out. */
const mostPeriods = 60

const dayLength = 24 * 60 * 60 * 1000

type Archived = Pick<LedgerEntry, 'archivedAt' | 'rows' | 'bytes'>

export function chartSection(view: View, archives: readonly Archived[]): Html {
  const { texts } = view
  const { step, periods } = periodsOf(archives, view.now)
  const [first, last] = [periods[0], periods.at(-1)]
  const head = html`<h2 id="chart-title">${texts.chart}</h2>`
  if (first === undefined || last === undefined)
    return html`<section id="chart" aria-labelledby="chart-title">
      ${head}
      <p class="empty">${texts.noChart}</p>
    </section>`
  const unit = { day: texts.perDay, week: texts.perWeek, month: texts.perMonth }[step]
  return html`<section id="chart" aria-labelledby="chart-title">
    ${head}
    <div class="panels">
      ${panel(view, periods, { name: 'rows', title: texts.rows, unit, write: (value) => number(view, value) })}
      ${panel(view, periods, { name: 'bytes', title: texts.bytes, unit, write: (value) => size(view, value) })}
    </div>
    <details>
      <summary>${texts.asTable}</summary>
      <table class="narrow">
        <caption class="unseen">
          ${texts.chart}
        </caption>
        <thead>
          <tr>
            <th scope="col">${texts.period[step]}</th>
            <th scope="col" class="number">${texts.rows}</th>
            <th scope="col" class="number">${texts.bytes}</th>
          </tr>
        </thead>
        <tbody>
          ${periods
            .filter(({ rows }) => rows > 0)
            .toReversed()
            .map(
              ({ from, rows, bytes }) =>
                html`<tr>
                  <th scope="row">${from}</th>
                  <td class="number">${number(view, rows)}</td>
                  <td class="number">${size(view, bytes)}</td>
                </tr>`,
            )}
        </tbody>
      </table>
    </details>
  </section>`
}

interface Measure {
  readonly name: 'rows' | 'bytes'
  readonly title: string
  readonly unit: string
  readonly write: (value: number) => string
}

/** Bars alone are drawn; words stand beside them as HTML, where they keep their size on a phone. */
function panel({ texts }: View, periods: readonly Period[], { name, title, unit, write }: Measure): Html {
  const values = periods.map((period) => period[name])
  const most = Math.max(...values)
  const [from = '', to = ''] = [periods[0]?.from, periods.at(-1)?.from]
  const total = write(values.reduce((sum, value) => sum + value, 0))
  const summary = texts.most(write(most), unit)
  const bars = periods.map(({ from: begin }, index) => {
    const value = values[index] ?? 0
    // The least bar can be seen.
    const height = value === 0 ? 0 : Math.max(1.5, (value / most) * 100)
    return html`<rect x="${index * 10 + 1}" y="${(100 - height).toFixed(2)}" width="8" height="${height.toFixed(2)}">
      <title>${begin}: ${write(value)}</title>
    </rect>`
  })
  return html`<figure>
    <figcaption><strong>${title}</strong> ${total} ${texts.inAll} <span class="quiet">· ${summary}</span></figcaption>
    <svg
      role="img"
      aria-labelledby="${name}-title ${name}-desc"
      viewBox="0 0 ${periods.length * 10} 100"
      preserveAspectRatio="none"
    >
      <title id="${name}-title">${texts.chartOf(title, from, to)}</title>
      <desc id="${name}-desc">${total} ${texts.inAll}, ${summary}</desc>
      ${bars}
    </svg>
    <div class="axis" aria-hidden="true"><span>${from}</span><span>${to}</span></div>
  </figure>`
}

/** Days, weeks or months from the first archive until now, those without archives as well. */
export function periodsOf(archives: readonly Archived[], now: number): { step: Step; periods: readonly Period[] } {
  const first = archives.reduce((least, { archivedAt }) => Math.min(least, Date.parse(archivedAt)), Infinity)
  if (first === Infinity) return { step: 'day', periods: [] }
  const days = (now - first) / dayLength
  const step = days < 45 ? 'day' : days < 370 ? 'week' : 'month'
  const sums = new Map<string, { rows: number; bytes: number }>()
  // A few archives are drawn as a few bars in a wide field, not as two walls.
  const begin = step === 'day' ? Math.min(first, now - 13 * dayLength) : first
  for (let time = begin; ; time += dayLength) {
    sums.set(startOf(Math.min(time, now), step), { rows: 0, bytes: 0 })
    if (time >= now) break
  }
  for (const { archivedAt, rows, bytes } of archives) {
    const sum = sums.get(startOf(Date.parse(archivedAt), step))
    // Another machine's clock may be ahead.
    if (sum === undefined) continue
    sum.rows += rows
    sum.bytes += bytes
  }
  return { step, periods: [...sums].map(([from, sum]) => ({ from, ...sum })).slice(-mostPeriods) }
}

/** The first day of the day, the week (from Monday) or the month that a time is in. */
function startOf(time: number, step: Step): string {
  const date = new Date(time)
  if (step === 'week') date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7))
  if (step === 'month') date.setUTCDate(1)
  return date.toISOString().slice(0, 10)
}
