/** A table's rows as an archive's CSV: SQLite itself makes the lines, three times as fast as JavaScript from its values. */
import { sql } from 'kysely'

import { formatReal, formatRows, InvalidText, type Cell } from '../../archive/csv.ts'
import { RetentionError } from '../../errors.ts'
import type { RowSelection, Sql, SqlValue } from '../database.ts'
import { attempt, type Connection, type Statement } from './connection.ts'

/** A column of the CSV: its name, and the expression that it is read from. */
export interface CsvColumn {
  readonly name: string
  readonly value: Sql
  /** The type it was declared with, where it was: a hint at what it may hold. */
  readonly type?: string
}

/** What gives rows as CSV, in a form that can be handed to another thread. */
export interface CsvQuery {
  readonly header: readonly string[]
  /** Gives of each row its line, in `segments` values to be joined by commas, and then its place. */
  readonly lines: Statement
  readonly segments: number
  /** Gives the values of one row, and then the same as bytes; the row's place is its last parameters. */
  readonly exact: Statement
}

/** Some lines of CSV, and the places of their rows, one after another: what the rows are ordered by, without the time. */
export interface CsvPiece {
  readonly bytes: Buffer<ArrayBuffer>
  readonly places: readonly SqlValue[] | BigInt64Array<ArrayBuffer>
}

/** How large a piece is, in bytes, if no row is larger. */
const pieceBytes = 256 * 1024

/** What the driver puts where text is not valid UTF-8; also a character that text may really contain. */
const replacement = '\ufffd'

/** The query for selected rows, in their order. */
export function csvQuery(connection: Connection, rows: RowSelection, columns: readonly CsvColumn[]): CsvQuery {
  const place = rows.order.length > 1 ? rows.order.slice(1) : rows.order
  const segments = segmentsOf(columns)
  const lines = sql`
    select ${sql.join([...segments, ...place.map((part) => part.read)])} from ${rows.table.sql}
    where ${rows.where} order by ${sql.join(rows.order.map((part) => part.value))}`
  const blobs = columns.map(({ value }) => sql`cast(${value} as blob)`)
  const isThere = place.map((part) => sql`${part.value} is ${part.bind(null)}`)
  const exact = sql`
    select ${sql.join([...columns.map(({ value }) => value), ...blobs])} from ${rows.table.sql}
    where ${sql.join(isThere, sql` and `)}`
  return {
    header: columns.map(({ name }) => name),
    lines: connection.compile(lines),
    segments: segments.length,
    exact: connection.compile(exact),
  }
}

/**
 * Selected rows as CSV, a piece at a time, the header first.
 * @param take gives a buffer of at least that many bytes, with an ArrayBuffer of its own
 */
export function* csvPieces(
  connection: Connection,
  query: CsvQuery,
  take: (bytes: number) => Buffer<ArrayBuffer> = (size) => Buffer.allocUnsafeSlow(size),
): Generator<CsvPiece> {
  const header = formatRows([query.header])
  const statement = connection.statement(query.lines.sql).raw(true)
  // The driver's rows in raw mode are arrays of its own value types.
  const rows = attempt(() => statement.iterate(...query.lines.parameters)) as IterableIterator<SqlValue[]>
  let bytes = take(Math.max(pieceBytes, header.length * 3))
  let used = bytes.write(header)
  let places: SqlValue[] = []
  try {
    for (;;) {
      const { done, value: row } = attempt(() => rows.next())
      if (done === true) break
      let line = lineOf(row, query.segments)
      if (line.includes(replacement)) line = exactLine(connection, query, row.slice(query.segments))
      // No character of a string takes more than three bytes.
      const most = line.length * 3 + 1
      if (used + most > bytes.length) {
        yield { bytes: bytes.subarray(0, used), places: compact(places) }
        bytes = take(Math.max(pieceBytes, most))
        used = 0
        places = []
      }
      used += bytes.write(line, used)
      bytes[used] = 0x0a
      used += 1
      for (let index = query.segments; index < row.length; index += 1) places.push(row[index] ?? null)
    }
  } finally {
    rows.return?.()
  }
  yield { bytes: bytes.subarray(0, used), places: compact(places) }
}

/** The same for a query that is made and read at once. */
export function csvOf(connection: Connection, rows: RowSelection, columns: readonly CsvColumn[]): Generator<CsvPiece> {
  return csvPieces(connection, csvQuery(connection, rows, columns))
}

/**
 * The values that make a line. Neighbouring columns are one text; a column that is likely to hold REALs is a value of its
 * own, as only JavaScript writes those in the shortest form that reads back to the same bits.
 */
function segmentsOf(columns: readonly CsvColumn[]): Sql[] {
  const segments: Sql[] = []
  let texts: Sql[] = []
  const endText = (): void => {
    if (texts.length > 0) segments.push(concatenated(texts))
    texts = []
  }
  for (const { value, type } of columns) {
    if (mayHoldReals(type)) {
      endText()
      segments.push(fieldOf(value, value))
    } else {
      if (texts.length > 0) texts.push(sql`','`)
      texts.push(fieldOf(value, sql`retention_real(${value})`))
    }
  }
  endText()
  return segments
}

/** Columns of REAL or NUMERIC affinity, and where no type is known. https://www.sqlite.org/datatype3.html#determination_of_column_affinity */
function mayHoldReals(type: string | undefined): boolean {
  return type === undefined || !/int|char|clob|text|blob|^$/i.test(type)
}

/** A value as a field of the CSV; a REAL as it is said. */
function fieldOf(value: Sql, real: Sql): Sql {
  return sql`case typeof(${value})
    when 'text' then '"' || replace(${value}, '"', '""') || '"'
    when 'integer' then cast(${value} as text)
    when 'null' then ''
    when 'real' then ${real}
    else '\\x' || lower(hex(${value})) end`
}

/** Texts one after another, as a tree: SQLite takes no expression that is 1000 deep, and a table may have 2000 columns. */
function concatenated(texts: readonly Sql[]): Sql {
  const half = Math.ceil(texts.length / 2)
  const [only] = texts
  if (texts.length === 1 && only !== undefined) return only
  return sql`(${concatenated(texts.slice(0, half))} || ${concatenated(texts.slice(half))})`
}

function lineOf(row: readonly SqlValue[], segments: number): string {
  let line = ''
  for (let index = 0; index < segments; index += 1) {
    const value = row[index]
    if (index > 0) line += ','
    line += typeof value === 'number' ? formatReal(value) : String(value)
  }
  return line
}

/** Reads a row's text again as bytes, which the driver leaves alone. */
function exactLine(connection: Connection, { exact, header }: CsvQuery, place: readonly SqlValue[]): string {
  const before = exact.parameters.slice(0, exact.parameters.length - place.length)
  // Whatever is cast to a blob is one, or NULL.
  const found = attempt(() =>
    connection
      .statement(exact.sql)
      .raw(true)
      .get(...before, ...place),
  ) as SqlValue[] | undefined
  if (found === undefined) throw unreadableKey()
  const cells = header.map((_, index): Cell => {
    const [value, bytes] = [found[index] ?? null, found[header.length + index]]
    if (typeof value !== 'string' || !Buffer.isBuffer(bytes)) return value
    return bytes.equals(Buffer.from(value)) ? value : new InvalidText(bytes)
  })
  return formatRows([cells]).slice(0, -1)
}

/** Whole numbers outside the heap, which they would fill. */
function compact(places: readonly SqlValue[]): CsvPiece['places'] {
  return places.every((value) => typeof value === 'bigint') ? BigInt64Array.from(places) : places
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
