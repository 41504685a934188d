/**
 * Reads rows as CSV that SQLite itself makes, many lines at a time: a million rows took 2.1 s of a processor so, and 3.4 s
 * by way of their values and csv-stringify (rows.ts), which is there for rows that have no number.
 */
import { isUtf8 } from 'node:buffer'

import type Sqlite from 'better-sqlite3'

import { formatRows, InvalidText, type Cell } from '../../archive/csv.ts'
import type { SqlValue } from '../database.ts'
import { attempt, type Statement } from './driver.ts'

/** What gives numbered rows as CSV, in a form that can be handed to another thread. */
export interface CsvQuery {
  readonly header: readonly string[]
  /** Gives the rows' numbers, in the rows' order. */
  readonly numbers: Statement
  /** Gives the lines of the rows with the numbers in a JSON array, in its order, as one blob. */
  readonly lines: string
  /** Gives the values of the row of one number, and then the same as bytes. */
  readonly exact: string
}

/** Some lines of CSV, and the numbers of their rows. */
export interface CsvPiece {
  readonly bytes: Buffer<ArrayBuffer>
  readonly numbers: BigInt64Array<ArrayBuffer>
}

/** About how large a piece is, in bytes. */
const pieceBytes = 256 * 1024

/** So few rows are asked for at once, as nobody knows how large the next are: SQLite holds their lines several times. */
const mostRows = 64

/**
 * Selected rows as CSV, a piece at a time, the header first.
 * @param take gives a buffer of at least that many bytes, with an ArrayBuffer of its own
 */
export function* csvPieces(
  raw: Sqlite.Database,
  query: CsvQuery,
  take: (bytes: number) => Buffer<ArrayBuffer> = (size) => Buffer.allocUnsafeSlow(size),
): Generator<CsvPiece> {
  const numbers = readNumbers(raw, query.numbers)
  const statement = attempt(() => raw.prepare(query.lines).pluck())
  const piece = new GrowingPiece(take)
  piece.add(Buffer.from(formatRows([query.header])))
  let [from, at, rows] = [0, 0, 1]
  while (at < numbers.length) {
    const some = numbers.subarray(at, at + rows)
    // What is cast to a blob is one.
    const lines = attempt(() => statement.get(`[${some.join(',')}]`)) as Buffer<ArrayBuffer>
    // Only text that is not UTF-8 is written in another way, and it would show wherever it were.
    const bytes = isUtf8(lines) ? lines : exactLines(raw, query, some)
    piece.add(bytes)
    at += some.length
    // Twice as many where there is room, and fewer at once where rows are large.
    rows = Math.max(1, Math.min(mostRows, rows * 2, Math.floor((pieceBytes * some.length) / bytes.length)))
    // It is the driver's copy, in memory of its own. Left as garbage, tens of megabytes of such would wait to be collected.
    lines.buffer.transfer(0)
    if (piece.size < pieceBytes) continue
    yield { bytes: piece.end(), numbers: numbers.slice(from, at) }
    from = at
  }
  yield { bytes: piece.end(), numbers: numbers.slice(from) }
}

/** The bytes of one piece after another, each in a buffer that is taken for it. */
class GrowingPiece {
  readonly #take: (bytes: number) => Buffer<ArrayBuffer>
  #buffer: Buffer<ArrayBuffer> | undefined
  size = 0

  constructor(take: (bytes: number) => Buffer<ArrayBuffer>) {
    this.#take = take
  }

  add(bytes: Buffer): void {
    const needed = this.size + bytes.length
    let buffer = this.#buffer ?? this.#take(Math.max(pieceBytes, needed))
    if (needed > buffer.length) {
      const larger = this.#take(needed * 2)
      buffer.copy(larger, 0, 0, this.size)
      buffer = larger
    }
    this.size += bytes.copy(buffer, this.size)
    this.#buffer = buffer
  }

  /** The piece as it is; what is added then is the next. */
  end(): Buffer<ArrayBuffer> {
    const piece = (this.#buffer ?? this.#take(0)).subarray(0, this.size)
    this.#buffer = undefined
    this.size = 0
    return piece
  }
}

function readNumbers(raw: Sqlite.Database, { sql, parameters }: Statement): BigInt64Array<ArrayBuffer> {
  const statement = attempt(() => raw.prepare(sql).pluck())
  // Outside the heap, which a million of them would fill.
  let numbers = new BigInt64Array(1024)
  let count = 0
  // Integers are read as bigint.
  const rows = attempt(() => statement.iterate(...parameters)) as IterableIterator<bigint>
  for (;;) {
    const { done, value } = attempt(() => rows.next())
    if (done === true) return numbers.subarray(0, count)
    if (count === numbers.length) {
      const larger = new BigInt64Array(count * 2)
      larger.set(numbers)
      numbers = larger
    }
    numbers[count] = value
    count += 1
  }
}

/** Reads rows one by one, their text as bytes as well, which the driver leaves alone. */
function exactLines(raw: Sqlite.Database, { exact, header }: CsvQuery, numbers: BigInt64Array): Buffer {
  const statement = attempt(() => raw.prepare(exact).raw(true))
  const rows = Array.from(numbers, (number) => {
    // Whatever is cast to a blob is one, or NULL.
    const found = attempt(() => statement.get(number)) as SqlValue[]
    return header.map((_, index) => exactCell(found[index] ?? null, found[header.length + index] ?? null))
  })
  return Buffer.from(formatRows(rows))
}

/** A value, or where it is text that is not valid UTF-8, its bytes. */
export function exactCell(value: SqlValue, bytes: SqlValue): Cell {
  if (typeof value !== 'string' || !Buffer.isBuffer(bytes)) return value
  return bytes.equals(Buffer.from(value)) ? value : new InvalidText(bytes)
}
