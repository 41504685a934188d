/** A table's rows as an archive's CSV: by csv-stringify, or for rows with a number, the query that makes SQLite write it. */
import { sql } from 'kysely'

import { formatRows, type Cell } from '../../archive/csv.ts'
import { RetentionError } from '../../errors.ts'
import type { RowSelection, Sql, SqlValue } from '../database.ts'
import type { Connection } from './connection.ts'
import { attempt } from './driver.ts'
import { exactCell, type CsvQuery } from './pieces.ts'

/** A column of the CSV: its name, and the expression that it is read from. */
export interface CsvColumn {
  readonly name: string
  readonly value: Sql
}

/** Rows are turned into text in pieces of about so many characters, whether they are many or large. */
const pieceWeight = 32 * 1024

/** What the driver puts where text is not valid UTF-8; also a character that text may really contain. */
const replacement = '\ufffd'

/** Some lines of CSV, and where their rows are: of each, the values that the rows are ordered by, without the time. */
interface CsvRows {
  readonly bytes: Buffer
  readonly places: readonly SqlValue[]
}

/** What makes SQLite write the lines of a table's rows. The table must have row numbers, and be ordered by them at last. */
export function csvQuery(connection: Connection, rows: RowSelection, columns: readonly string[]): CsvQuery {
  const { table, where, order } = rows
  const number = order.at(-1)?.value ?? sql`rowid`
  // Named with their table: json_each has columns of its own.
  const values = columns.map((name) => sql`t.${sql.id(name)}`)
  const blobs = values.map((value) => sql`cast(${value} as blob)`)
  const inOrder = sql.join(order.map((part) => part.value))
  return {
    header: columns,
    numbers: connection.compile(sql`select ${number} from ${table.sql} where ${where} order by ${inOrder}`),
    lines: connection.compile(sql`
      select cast(group_concat(${lineOf(values)}, '') as blob)
      from json_each(?) as n cross join ${table.sql} as t on t.${number} = n.value`).sql,
    exact: connection.compile(sql`
      select ${sql.join([...values, ...blobs])} from ${table.sql} as t where t.${number} = ?`).sql,
  }
}

/** A row's values as a line of CSV, as `formatRows` writes it. */
function lineOf(values: readonly Sql[]): Sql {
  const fields = values.flatMap((value, index) => [...(index === 0 ? [] : [sql`','`]), fieldOf(value)])
  return concatenated([...fields, sql`char(10)`])
}

function fieldOf(value: Sql): Sql {
  return sql`case typeof(${value})
    when 'text' then '"' || replace(${value}, '"', '""') || '"'
    when 'integer' then ${value}
    when 'null' then ''
    when 'real' then ${realOf(value)}
    else '\\x' || lower(hex(${value})) end`
}

/**
 * The shortest form of a REAL that reads back to the same bits only JavaScript finds (`retention_real` is in driver.ts), unless
 * SQLite's own has at most 15 digits, and no exponent: of so few there is one form only.
 */
function realOf(value: Sql): Sql {
  const isShort = sql`length(${value}) <= 16 and abs(${value}) >= 1e-4 and abs(${value}) < 1e15`
  return sql`case when ${isShort} and cast(cast(${value} as text) as real) = ${value} then ${value} else retention_real(${value}) end`
}

/** Functions of SQLite take 127 arguments at least. */
const mostArguments = 100

/** Texts, and numbers as such, one after another: a table may have 2000 columns. */
function concatenated(texts: readonly Sql[]): Sql {
  if (texts.length <= mostArguments) return sql`concat(${sql.join(texts)})`
  const parts = Array.from({ length: Math.ceil(texts.length / mostArguments) }, (_, index) =>
    texts.slice(index * mostArguments, (index + 1) * mostArguments),
  )
  return concatenated(parts.map(concatenated))
}

/** Selected rows as CSV, the header first, in their order, a piece at a time. */
export function* csvOf(connection: Connection, rows: RowSelection, columns: readonly CsvColumn[]): Generator<CsvRows> {
  yield { bytes: Buffer.from(formatRows([columns.map((column) => column.name)])), places: [] }
  const names = columns.map((column) => column.value)
  const order = sql.join(rows.order.map((part) => part.value))
  const read = sql.join([...names, ...rows.order.map((part) => part.read)])
  const { statement, parameters } = connection.prepare(
    sql`select ${read} from ${rows.table.sql} where ${rows.where} order by ${order}`,
  )
  const exact = exactReader(connection, rows, names)
  // The driver's rows in raw mode are arrays of its own value types.
  const iterator = attempt(() => statement.raw(true).iterate(...parameters)) as IterableIterator<SqlValue[]>
  let lines: Cell[][] = []
  let places: SqlValue[] = []
  let weight = 0
  try {
    for (;;) {
      const { done, value: row } = attempt(() => iterator.next())
      if (done === true) break
      for (let at = columns.length + 1; at < row.length; at += 1) places.push(row[at] ?? null)
      weight += weightOf(row)
      const doubtful = row.some((value) => typeof value === 'string' && value.includes(replacement))
      lines.push(doubtful ? exact(row.slice(0, columns.length), row.slice(columns.length)) : row)
      row.length = columns.length
      if (weight < pieceWeight) continue
      yield { bytes: Buffer.from(formatRows(lines)), places }
      lines = []
      places = []
      weight = 0
    }
  } finally {
    iterator.return?.()
  }
  if (lines.length > 0) yield { bytes: Buffer.from(formatRows(lines)), places }
}

/** About how many characters a row makes. */
function weightOf(row: readonly SqlValue[]): number {
  let weight = 0
  for (const cell of row) weight += typeof cell === 'string' || Buffer.isBuffer(cell) ? cell.length : 10
  return weight
}

/** Reads a row's text again as bytes, which the driver leaves alone. */
function exactReader(
  connection: Connection,
  rows: RowSelection,
  names: readonly Sql[],
): (values: SqlValue[], place: SqlValue[]) => Cell[] {
  return (values, place) => {
    const where = sql.join(
      rows.order.map((part, index) => sql`${part.value} is ${part.bind(place[index] ?? null)}`),
      sql` and `,
    )
    const blobs = sql.join(names.map((name) => sql`cast(${name} as blob)`))
    const { statement, parameters } = connection.prepare(sql`select ${blobs} from ${rows.table.sql} where ${where}`)
    // Whatever is cast to a blob is one, or NULL.
    const found = attempt(() => statement.raw(true).get(...parameters)) as (Buffer | null)[] | undefined
    if (found === undefined) throw unreadableKey()
    return values.map((value, index) => exactCell(value, found[index] ?? null))
  }
}

function unreadableKey(): RetentionError {
  return new RetentionError(
    'REFUSED',
    'A row has text in its key that is not valid UTF-8, and cannot be told from others',
    {
      hint: 'Leave such rows out with "where", or mend their keys.',
    },
  )
}
