/** A table's rows as an archive's CSV, and back. */
import { sql } from 'kysely'

import { formatRows, InvalidText, type Cell } from '../../archive/csv.ts'
import { RetentionError } from '../../errors.ts'
import type { RowSelection, Sql } from '../database.ts'
import { attempt, type Connection } from './connection.ts'

/** A column of the CSV: its name, and the expression that it is read from. */
export interface CsvColumn {
  readonly name: string
  readonly value: Sql
}

/** Rows are turned into text in pieces of about so many characters, whether they are many or large. */
const pieceWeight = 32 * 1024

/** What the driver puts where text is not valid UTF-8; also a character that text may really contain. */
const replacement = '\ufffd'

/**
 * Selected rows as CSV, the header first, in their order, a piece at a time.
 * @param count is told how many rows each piece holds
 */
export function* csvOf(
  connection: Connection,
  rows: RowSelection,
  columns: readonly CsvColumn[],
  count: (rows: number) => void,
): Generator<Buffer> {
  yield Buffer.from(formatRows([columns.map((column) => column.name)]))
  const names = columns.map((column) => column.value)
  // What the rows are ordered by also finds a row again: its last parts are its key.
  const found = rows.order.map((part) => part.read)
  const order = sql.join(rows.order.map((part) => part.value))
  const { statement, parameters } = connection.prepare(
    sql`select ${sql.join([...names, ...found])} from ${rows.table.sql} where ${rows.where} order by ${order}`,
  )
  const exact = exactReader(connection, rows, names)
  // The driver's rows in raw mode are arrays of its own value types.
  const iterator = attempt(() => statement.raw(true).iterate(...parameters)) as IterableIterator<Cell[]>
  let lines: Cell[][] = []
  let weight = 0
  try {
    for (const row of iterator) {
      const doubtful = row.some((cell) => typeof cell === 'string' && cell.includes(replacement))
      if (doubtful) lines.push(exact(row.slice(0, columns.length), row.slice(columns.length)))
      else {
        row.length = columns.length
        lines.push(row)
      }
      weight += weightOf(row)
      if (weight < pieceWeight) continue
      count(lines.length)
      yield Buffer.from(formatRows(lines))
      lines = []
      weight = 0
    }
  } finally {
    iterator.return?.()
  }
  if (lines.length === 0) return
  count(lines.length)
  yield Buffer.from(formatRows(lines))
}

/** About how many characters a row makes. */
function weightOf(row: readonly Cell[]): number {
  let weight = 0
  for (const cell of row) weight += typeof cell === 'string' || Buffer.isBuffer(cell) ? cell.length : 10
  return weight
}

/** Reads a row's text again as bytes, which the driver leaves alone. */
function exactReader(
  connection: Connection,
  rows: RowSelection,
  names: readonly Sql[],
): (cells: Cell[], place: Cell[]) => Cell[] {
  return (cells, place) => {
    const where = sql.join(
      rows.order.map((part, index) => sql`${part.value} is ${part.bind(bindable(place[index]))}`),
      sql` and `,
    )
    const blobs = sql.join(names.map((name) => sql`cast(${name} as blob)`))
    const { statement, parameters } = connection.prepare(sql`select ${blobs} from ${rows.table.sql} where ${where}`)
    const found = attempt(() => statement.raw(true).get(...parameters)) as (Buffer | null)[] | undefined
    if (found === undefined) {
      throw new RetentionError(
        'DATABASE_FAILED',
        'A row has text in its key that is not valid UTF-8, and cannot be archived exactly',
        {
          hint: 'Leave such rows out with "where", or mend their keys.',
        },
      )
    }
    return cells.map((cell, index) => {
      const bytes = found[index]
      if (typeof cell !== 'string' || !Buffer.isBuffer(bytes)) return cell
      return bytes.equals(Buffer.from(cell)) ? cell : new InvalidText(bytes)
    })
  }
}

function bindable(cell: Cell | undefined): string | number | bigint | Buffer | null {
  if (cell === undefined || cell instanceof InvalidText) throw new TypeError('not a value that the driver has read')
  return cell
}
