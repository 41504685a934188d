/**
 * An archive on its way back straight into its table, by COPY.
 *
 * That the rows come out as they went in needs no look at them here, it is so by construction: each value is the text that
 * its type's output function made, and the same type's input function reads it; that such text is read back to an equal
 * value is what pg_dump rests on, and what a type's functions must hold to.
 * https://www.postgresql.org/docs/current/sql-createtype.html https://www.postgresql.org/docs/current/sql-copy.html
 * The settings that the text depends on are pinned (connection.ts), the types are those that the manifest names, and no
 * trigger or rule comes between. Where any of this is not certain, rows are staged and compared (restore-staged.ts).
 */
import { sql } from 'kysely'

import { NumberPicker } from '../../archive/numbers.ts'
import { codeOf } from '../../errors.ts'
import type { Db, IncomingRows, KnownRows, PlacedRows, Sql } from '../database.ts'
import { Runs } from '../runs.ts'
import type { Transaction } from './connection.ts'
import { copyIn } from './copy.ts'
import { keysOf, rangeOf } from './placed.ts'
import { advanceSequences, sequencesOf } from './sequences.ts'
import type { CatalogTable } from './table.ts'

/** Copies rows into their table; undefined where one is in the way, or where they cannot be told from others after it. */
export async function load(
  transaction: Transaction,
  table: CatalogTable,
  rows: IncomingRows,
  csv: AsyncIterable<Buffer>,
): Promise<PlacedRows | undefined> {
  const { db } = transaction
  const { columns } = rows
  const sequences = await sequencesOf(db, table, columns)
  const [key, ...more] = table.key
  const runColumn = more.length === 0 && key !== undefined && table.numberOf(key) !== undefined ? key : undefined
  const numbers = new Numbers(
    columns,
    runColumn,
    sequences.map(({ column }) => column),
  )
  let count: number
  try {
    count = await copyIn(transaction, table.sql, columns, numbers.watch(csv))
    // What is put off to the end of the transaction happens now, so that its errors are told like all others.
    // https://www.postgresql.org/docs/current/sql-set-constraints.html
    await sql`set constraints all immediate`.execute(db)
  } catch (error) {
    if (isViolation(error)) return undefined
    throw error
  }
  const known = numbers.known(count)
  const isPlaced = known === undefined ? await ownRows(db, table, rows, count) : undefined
  const found = known ?? (isPlaced === undefined ? undefined : keysOf(table, isPlaced))
  if (found === undefined) return undefined
  return {
    rows: count,
    known: async () => found,
    range: async (column) => {
      if (isPlaced === undefined) throw new TypeError('rows with a key are known by it')
      return rangeOf(db, table, isPlaced, column)
    },
    advanceSequences: () =>
      advanceSequences(db, sequences, (column) => sql`${numbers.greatest(column)?.toString() ?? null}::bigint`),
  }
}

/** Of any constraint; staging tells which rows break it. https://www.postgresql.org/docs/current/errcodes-appendix.html */
function isViolation(error: unknown): boolean {
  return error instanceof Error && codeOf(error.cause)?.startsWith('23') === true
}

/**
 * True for the rows that this transaction has put into a table; undefined where these are not all of some, or more.
 * Transaction numbers come again after four thousand millions, and old rows keep theirs: so the rows are counted.
 */
async function ownRows(db: Db, table: CatalogTable, { time }: IncomingRows, count: number): Promise<Sql | undefined> {
  const part = time === undefined ? undefined : table.orderBy(time.column)
  const range =
    time === undefined || part === undefined
      ? sql`true`
      : sql`${part.value} >= ${part.bind(time.from)} and ${part.value} <= ${part.bind(time.to)}`
  const isOwn = sql`${range} and xmin = (select pg_current_xact_id()::xid)`
  const { rows } = await sql<{
    count: string
  }>`select count(*)::text as count from ${table.sql} where ${isOwn}`.execute(db)
  return rows[0]?.count === String(count) ? isOwn : undefined
}

/** What is kept of the numbers that pass: a key's as runs, and the greatest of each column that a sequence fills. */
class Numbers {
  readonly #runColumn: string | undefined
  readonly #runs = new Runs()
  #count = 0
  readonly #greatest = new Map<string, bigint>()
  readonly #picker: NumberPicker

  constructor(columns: readonly string[], runColumn: string | undefined, sequenced: readonly string[]) {
    this.#runColumn = runColumn
    const names = [...new Set([...sequenced, ...(runColumn === undefined ? [] : [runColumn])])]
    const wanted = names.map((name) => columns.indexOf(name)).filter((at) => at !== -1)
    this.#picker = new NumberPicker(wanted, (at, value) => this.#take(columns[at] ?? '', value))
  }

  async *watch(csv: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of csv) {
      this.#picker.update(chunk)
      yield chunk
    }
  }

  /** The rows by their numbers; undefined where not each of them has had one. */
  known(rows: number): KnownRows | undefined {
    if (this.#runColumn === undefined || this.#count !== rows) return undefined
    const { firsts, lasts } = this.#runs.joined()
    const runs = sql<{ first: bigint; last: bigint }>`
      select * from unnest(${`{${firsts.join(',')}}`}::bigint[], ${`{${lasts.join(',')}}`}::bigint[]) as run(first, last)`
    return { runs, column: this.#runColumn }
  }

  greatest(column: string): bigint | undefined {
    return this.#greatest.get(column)
  }

  #take(column: string, value: bigint | undefined): void {
    if (value === undefined) return
    if (column === this.#runColumn) {
      this.#runs.add(value)
      this.#count += 1
    }
    const greatest = this.#greatest.get(column)
    if (greatest === undefined || value > greatest) this.#greatest.set(column, value)
  }
}
