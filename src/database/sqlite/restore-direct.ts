/** An archive on its way back straight into its table: some rows at a time, each read back at once and compared. */
import type { Statement } from 'better-sqlite3'
import { sql } from 'kysely'

import { InvalidText, type Cell } from '../../archive/csv.ts'
import { parseRows } from '../../archive/parse.ts'
import type { PlacedRows, Sql } from '../database.ts'
import { Runs } from '../runs.ts'
import { isBroken } from './broken-constraints.ts'
import type { Connection } from './connection.ts'
import { attempt } from './driver.ts'
import { keysOf, rangeOf } from './placed.ts'
import type { SchemaTable } from './table.ts'

/** So many values go into one statement; more of them gain nothing. SQLite takes 32766. */
const valuesAtOnce = 500

/** Inserts rows into their table; undefined where one is in the way, or came out other than it went in. */
export async function load(
  connection: Connection,
  table: SchemaTable,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<PlacedRows | undefined> {
  const loading = new Loading(connection, table, columns)
  let isHeader = true
  try {
    for await (const rows of parseRows(csv)) {
      if (!loading.take(isHeader ? rows.slice(1) : rows)) return undefined
      isHeader = false
    }
    if (!loading.end()) return undefined
  } catch (error) {
    if (isBroken(error)) return undefined
    throw error
  }
  return loading.placed()
}

class Loading {
  readonly #connection: Connection
  readonly #table: SchemaTable
  readonly #columns: readonly string[]
  readonly #rowsAtOnce: number
  readonly #statements = new Map<string, Statement<unknown[]>>()
  /** Rows that do not fill a statement yet. */
  #waiting: Cell[][] = []
  #count = 0
  /** The place, in the archive, of the column that is the row's number; -1 where it has none. */
  readonly #numbered: number
  /** The numbers that SQLite has given to rows that bring none: all in one run, behind those that were there. */
  #given: { readonly first: bigint; readonly last: bigint } | undefined
  readonly #highest: bigint | null
  /** The place of the key's one column, and its values as long as all are whole numbers. */
  readonly #keyed: number
  #runs: Runs | undefined

  constructor(connection: Connection, table: SchemaTable, columns: readonly string[]) {
    this.#connection = connection
    this.#table = table
    this.#columns = columns
    this.#rowsAtOnce = Math.max(1, Math.floor(valuesAtOnce / columns.length))
    const [key = '', ...more] = table.key
    this.#numbered = columns.indexOf(table.numbered ?? '')
    this.#keyed = more.length === 0 ? columns.indexOf(key) : -1
    this.#runs = this.#keyed === -1 ? undefined : new Runs()
    const highest = this.#run('highest', () => sql`select max(${this.#rowid}) from ${table.sql}`)
    // An aggregate without a row is NULL; integers are read as bigint.
    this.#highest = attempt(() => highest.pluck().get()) as bigint | null
  }

  /** Puts rows in, and may keep some waiting; false where they are not in as they are. */
  take(rows: Cell[][]): boolean {
    this.#waiting.push(...rows)
    while (this.#waiting.length >= this.#rowsAtOnce) {
      if (!this.#put(this.#waiting.splice(0, this.#rowsAtOnce))) return false
    }
    return true
  }

  /** Puts in those that are still waiting. */
  end(): boolean {
    return this.#waiting.length === 0 || this.#put(this.#waiting)
  }

  placed(): PlacedRows {
    const { db } = this.#connection
    const runs = this.#runs?.joined()
    const isPlaced = sql`${this.#rowid} between ${this.#given?.first ?? null} and ${this.#given?.last ?? null}`
    const column = this.#columns[this.#keyed] ?? ''
    return {
      rows: this.#count,
      known: async () => (runs === undefined ? keysOf(this.#table, isPlaced) : { runs: listOf(runs), column }),
      range: async (name) => {
        if (this.#numbered !== -1) throw new TypeError('rows with a key are known by it')
        return rangeOf(db, this.#table, isPlaced, name)
      },
      // SQLite raises an AUTOINCREMENT sequence by itself when a higher number is inserted.
      advanceSequences: async () => [],
    }
  }

  #put(rows: readonly Cell[][]): boolean {
    const values = rows.flat()
    // Such text is bound as bytes and cast, each in a statement of its own: that is left to staging.
    if (values.some((value) => value instanceof InvalidText)) return false
    // OR FAIL: a column's own ON CONFLICT clause could delete rows that are in the way, and nobody would know. ABORT would
    // keep what it takes to undo the statement alone; here everything is undone.
    const insertion = this.#run(`insert ${rows.length}`, () => {
      const line = sql`(${sql.join(this.#columns.map(() => sql`${null}`))})`
      return sql`insert or fail into ${this.#table.sql} (${this.#names}) values ${sql.join(rows.map(() => line))}`
    })
    const { lastInsertRowid } = attempt(() => insertion.run(values))
    const isIn = this.#numbered === -1 ? this.#areGiven(rows, BigInt(lastInsertRowid)) : this.#areNumbered(rows)
    if (!isIn) return false
    this.#count += rows.length
    this.#note(rows)
    return true
  }

  /** Whether rows are in the table as they are, under the numbers that they bring. */
  #areNumbered(rows: readonly Cell[][]): boolean {
    const numbers = rows.map((row) => row[this.#numbered])
    if (!numbers.every((number) => typeof number === 'bigint')) return false
    const isAscending = numbers.every((number, index) => index === 0 || number > (numbers[index - 1] ?? number))
    const ascending = isAscending ? rows : rows.toSorted((a, b) => this.#compareNumbers(a, b))
    const [first, last] = [ascending[0]?.[this.#numbered], ascending.at(-1)?.[this.#numbered]]
    if (typeof first !== 'bigint' || typeof last !== 'bigint') return false
    // Numbers without a gap are those between the first and the last, which SQLite finds at once.
    const isRun = last - first === BigInt(rows.length - 1)
    return areSame(ascending, isRun ? this.#readBetween(first, last) : this.#readAmong(numbers))
  }

  #compareNumbers(a: readonly Cell[], b: readonly Cell[]): number {
    const [one, other] = [a[this.#numbered] ?? 0n, b[this.#numbered] ?? 0n]
    return one < other ? -1 : 1
  }

  /** Whether rows are in the table as they are, under the numbers that SQLite has given them. */
  #areGiven(rows: readonly Cell[][], last: bigint): boolean {
    const first = last - BigInt(rows.length - 1)
    // Each is one more than the one before, unless the highest possible is in use: then they are random.
    // https://www.sqlite.org/autoinc.html
    const isNext = this.#given === undefined ? first > (this.#highest ?? first - 1n) : first === this.#given.last + 1n
    if (!isNext) return false
    this.#given = { first: this.#given?.first ?? first, last }
    return areSame(rows, this.#readBetween(first, last))
  }

  #readBetween(first: bigint, last: bigint): Cell[][] {
    const reading = this.#run(
      'between',
      () =>
        sql`select ${this.#names} from ${this.#table.sql} where ${this.#rowid} between ${0} and ${0} order by ${this.#rowid}`,
    )
    // The driver's rows in raw mode are arrays of its own value types.
    return attempt(() => reading.raw(true).all(first, last)) as Cell[][]
  }

  #readAmong(numbers: readonly bigint[]): Cell[][] {
    const reading = this.#run(
      `among ${numbers.length}`,
      () =>
        sql`select ${this.#names} from ${this.#table.sql} where ${this.#rowid} in (${sql.join(numbers)}) order by ${this.#rowid}`,
    )
    // As above.
    return attempt(() => reading.raw(true).all(numbers)) as Cell[][]
  }

  #note(rows: readonly Cell[][]): void {
    for (const row of rows) {
      const key = row[this.#keyed]
      if (typeof key === 'bigint') this.#runs?.add(key)
      else this.#runs = undefined
    }
  }

  get #names(): Sql {
    return sql.join(this.#columns.map((name) => sql.id(name)))
  }

  get #rowid(): Sql {
    return sql.id(this.#table.rowid ?? 'rowid')
  }

  /** A statement, prepared once under a name. */
  #run(name: string, query: () => Sql): Statement<unknown[]> {
    const statement = this.#statements.get(name) ?? this.#connection.prepare(query()).statement
    this.#statements.set(name, statement)
    return statement
  }
}

/** Whether rows are as many, and hold the same values in the same storage classes. */
function areSame(rows: readonly Cell[][], read: readonly Cell[][]): boolean {
  return rows.length === read.length && rows.every((row, index) => isSame(row, read[index] ?? []))
}

function isSame(row: readonly Cell[], read: readonly Cell[]): boolean {
  return row.every((value, index) => {
    const other = read[index]
    // Unlike `===`, this tells 0.0 from -0.0.
    return Object.is(value, other) || (Buffer.isBuffer(value) && Buffer.isBuffer(other) && value.equals(other))
  })
}

/** Runs as a query, which a list of any length fits in. */
function listOf({ firsts, lasts }: ReturnType<Runs['joined']>): Sql<{ first: bigint; last: bigint }> {
  const pairs = Array.from(firsts, (first, index) => `[${first},${lasts[index]}]`)
  return sql`select value ->> 0 as first, value ->> 1 as last from json_each(${`[${pairs.join(',')}]`})`
}
