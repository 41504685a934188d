/** The answer to a query, as a table for people, as CSV or as JSON; and what can be asked. */
import { stringify } from 'csv-stringify/sync'

import type { QueryColumn, QueryReport, QueryValue, QueryView } from '../report.ts'
import { counted, style, table } from './style.ts'

/** An answer, whose rows come one after the other. */
interface Answer extends Pick<QueryReport, 'columns' | 'archives'> {
  readonly rows: AsyncIterable<readonly (readonly QueryValue[])[]>
}

/** What is to be printed, piece by piece. @param limit the most rows of a table. Default 1000 */
export async function* printAnswer(answer: Answer, format: string, limit = 1000): AsyncGenerator<string> {
  if (format === 'json') yield* printJson(answer)
  else if (format === 'csv') yield* printCsv(answer)
  else yield printTable(answer, ...(await firstRows(answer.rows, limit)))
}

/** The first rows of a whole answer, as a table. @param limit as of `printAnswer` */
export function printRows(report: QueryReport, limit = 1000): string {
  return printTable(report, report.rows.slice(0, limit), report.rows.length <= limit)
}

/** RFC 4180: NULL is an empty field without quotes, the empty text is `""`. */
async function* printCsv({ columns, rows }: Answer): AsyncGenerator<string> {
  const lines = (cells: readonly (readonly (string | null)[])[]): string =>
    stringify([...cells], { record_delimiter: '\n', quoted_match: /^$/ })
  yield lines([columns.map(({ name }) => name)])
  for await (const some of rows) yield lines(some.map((row) => row.map(plain)))
}

/** One array, with an object for each row. */
async function* printJson({ columns, rows }: Answer): AsyncGenerator<string> {
  let before = '[\n'
  for await (const some of rows) {
    const objects = some.map((row) => Object.fromEntries(columns.map(({ name }, index) => [name, row[index] ?? null])))
    yield before + objects.map((object) => JSON.stringify(object)).join(',\n')
    before = ',\n'
  }
  yield before === '[\n' ? '[]\n' : '\n]\n'
}

async function firstRows(
  rows: Answer['rows'],
  limit: number,
): Promise<[rows: (readonly QueryValue[])[], isAll: boolean]> {
  const first: (readonly QueryValue[])[] = []
  for await (const some of rows) {
    for (const row of some) {
      if (first.length === limit) return [first, false]
      first.push(row)
    }
  }
  return [first, true]
}

function printTable(
  { columns, archives }: Pick<Answer, 'columns' | 'archives'>,
  rows: readonly (readonly QueryValue[])[],
  isAll: boolean,
): string {
  const cells = rows.map((row) => row.map(cellOf))
  const widths = columns.map(({ name }, index) => Math.max(name.length, ...cells.map((row) => row[index]?.length ?? 0)))
  const width = cellWidth(widths, process.stdout.columns ?? 200)
  const cut = (text: string): string => (text.length > width ? `${text.slice(0, width - 1)}…` : text)
  const names = columns.map(({ name }) => cut(name))
  const body = cells.map((row, at) =>
    row.map((cell, index) => (rows[at]?.[index] === null ? style('dim', cell) : cut(cell))),
  )
  const numbers = names.filter((_, index) => /INT|DECIMAL|DOUBLE|FLOAT/.test(columns[index]?.type ?? ''))
  const count = isAll ? counted(rows.length, 'row') : `The first ${counted(rows.length, 'row')}; --limit shows more`
  return `${table(names, body, numbers)}\n\n  ${style('dim', `${count} · ${counted(archives.length, 'archive')} read`)}\n`
}

/** The most that a cell may have so that a line fits; below 8, lines become longer than they may be. */
function cellWidth(widths: readonly number[], line: number): number {
  const gap = 2
  const whole = (most: number): number => widths.reduce((sum, width) => sum + Math.min(width, most) + gap, 0)
  let most = Math.max(8, ...widths)
  while (most > 8 && whole(most) > line) most -= 1
  return most
}

/** A value in one line. NULL and texts that might be taken for it, or for nothing, stay apart. */
function cellOf(value: QueryValue): string {
  const text = plain(value)
  if (text === null) return 'NULL'
  return text === '' || text === 'NULL' || /[\p{Cc}]/u.test(text) ? JSON.stringify(text) : text
}

function plain(value: QueryValue): string | null {
  if (value === null || typeof value === 'string') return value
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** What can be asked. */
export function printViews(views: readonly QueryView[]): string {
  if (views.length === 0) return 'There are no archives yet.\n'
  return views
    .map(({ name, columns, archives, rows }) => {
      const head = `${style('bold', name)}  ${style('dim', `${counted(rows, 'row')} in ${counted(archives, 'archive')}`)}`
      return `${head}\n${table(
        ['column', 'type'],
        columns.map((column: QueryColumn) => [column.name, column.type]),
      )}\n`
    })
    .join('\n')
}
