/** An archive on its way back through a temporary table: looked at, inserted from there row by row, and read back. */
import { sql } from 'kysely'

import { RetentionError } from '../../errors.ts'
import type { Conflicts, Db, KnownRows, OnConflict, PlacedRows, Sql, StagedRows } from '../database.ts'
import { runsOf } from '../runs.ts'
import { BrokenRows } from './broken-constraints.ts'
import { cell, cells, fillCells } from './cells.ts'
import type { Connection } from './connection.ts'
import { attempt } from './driver.ts'
import { keysOf, rangeOf } from './placed.ts'
import { csvOf } from './rows.ts'
import { textOf, type SchemaTable } from './table.ts'

/** The archive's rows: `n` their order, `c0`, `c1`, … their values, `placed` the number of the row made from it. */
const staged = sql.id('temp', 'retention_staged')

/** How many rows' numbers are looked up at a time. */
const insertedAtOnce = 10_000

/** Copies an archive's CSV into a temporary table that goes with the transaction. */
export async function stage(
  connection: Connection,
  table: SchemaTable,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<StagedRows> {
  const staging = new SqliteStaged(connection, table, columns)
  await staging.create()
  staging.rows = await fillCells(connection, sql`${staged}`, columns.length, csv)
  return staging
}

/**
 * The same, with the rows of a query.
 * @param affinities those of the columns: values become what they would in the table
 * @param query gives each row's number, then the columns' values
 */
export async function stageQuery(
  connection: Connection,
  table: SchemaTable,
  columns: readonly string[],
  affinities: readonly string[],
  query: Sql,
): Promise<StagedRows> {
  const staging = new SqliteStaged(connection, table, columns)
  await staging.create(affinities)
  const { numAffectedRows } = await sql`insert into ${staged} (n, ${cells(columns.length)}) ${query}`.execute(
    connection.db,
  )
  staging.rows = Number(numAffectedRows ?? 0n)
  return staging
}

/** Takes the temporary table away, where there is one: it is no part of what is to be committed. */
export async function unstage(db: Db): Promise<void> {
  await sql`drop table if exists ${staged}`.execute(db)
}

class SqliteStaged implements StagedRows {
  rows = 0
  readonly #connection: Connection
  readonly #table: SchemaTable
  readonly #columns: readonly string[]
  #overwrites = false

  constructor(connection: Connection, table: SchemaTable, columns: readonly string[]) {
    this.#connection = connection
    this.#table = table
    this.#columns = columns
  }

  get db(): Db {
    return this.#connection.db
  }

  async create(affinities: readonly string[] = []): Promise<void> {
    await unstage(this.db)
    // Columns without a type keep every storage class as it is.
    await sql`create temporary table retention_staged (
      n integer primary key, skip integer not null default 0, placed integer, ${cells(this.#columns.length, affinities)}
    )`.execute(this.db)
  }

  async conflicts(byRow: boolean): Promise<Conflicts> {
    const key = this.#key()
    if (key.length === 0) {
      const count = byRow ? await this.matchRows() : 0
      return { count, same: count, keys: count === 0 ? [] : await this.#firstSkipped(this.#columns) }
    }
    const match = this.#sameKey(key)
    const isThere = this.#isSame(key)
    await sql`update ${staged} set skip = exists (select 1 from ${this.#table.sql} as t where ${match})`.execute(
      this.db,
    )
    const { rows } = await sql<{ count: bigint; same: bigint | null }>`
      select count(*) as count, sum(${isThere}) as same from ${staged} where skip = 1
    `.execute(this.db)
    const [found] = rows
    return {
      count: Number(found?.count ?? 0n),
      same: Number(found?.same ?? 0n),
      keys: await this.#firstSkipped(key),
    }
  }

  async matchRows(): Promise<number> {
    const key = this.#key()
    await (key.length > 0 ? sql`update ${staged} set skip = ${this.#isSame(key)}`.execute(this.db) : this.#matchLines())
    const { rows } = await sql<{ count: bigint }>`select count(*) as count from ${staged} where skip = 1`.execute(
      this.db,
    )
    return Number(rows[0]?.count ?? 0n)
  }

  #sameKey(key: readonly string[]): Sql {
    return sql.join(
      key.map((name) => sql`t.${sql.id(name)} = ${sql.id('retention_staged')}.${this.#cell(name)}`),
      sql` and `,
    )
  }

  /** Whether the table has the staged row, the very same. */
  #isSame(key: readonly string[]): Sql {
    return sql`exists (select 1 from ${this.#table.sql} as t where ${this.#sameKey(key)}
      and ${textOf(this.#columns.map((name) => sql`t.${sql.id(name)}`))} = ${this.#line()})`
  }

  async #matchLines(): Promise<void> {
    const line = textOf(this.#columns.map((name) => sql.id(name)))
    // Of equal rows the first goes with the first, the second with the second.
    await sql`
      with
        there as materialized (
          select line, row_number() over (partition by line) as nth from (select ${line} as line from ${this.#table.sql})
        ),
        here as materialized (
          select n, line, row_number() over (partition by line order by n) as nth
          from (select n, ${this.#line()} as line from ${staged})
        )
      update ${staged} set skip = n in (select here.n from here join there using (line, nth))
    `.execute(this.db)
  }

  async *unmatched(): AsyncGenerator<Buffer> {
    const n = sql.id('n')
    const rows = {
      table: { ...this.#table, sql: sql`${staged}` },
      where: sql<boolean>`skip = 0`,
      order: [{ value: n, read: sql<bigint>`${n}`, bind: (value: unknown) => sql`${value}` }],
    }
    const columns = this.#columns.map((name, index) => ({ name, value: cell(index) }))
    for (const { bytes } of csvOf(this.#connection, rows, columns)) yield bytes
  }

  /** A staged row as one text. */
  #line(): Sql<string> {
    return textOf(this.#columns.map((name) => sql`${sql.id('retention_staged')}.${this.#cell(name)}`))
  }

  /** The first rows that are there already, by some of their columns. */
  async #firstSkipped(columns: readonly string[]): Promise<string[]> {
    const shown = sql.join(
      columns.slice(0, 20).map((name) => sql`coalesce(${this.#cell(name)}, 'NULL')`),
      sql` || ', ' || `,
    )
    const { rows } = await sql<{ key: string }>`
      select cast(${shown} as text) as key from ${staged} where skip = 1 order by n limit 5
    `.execute(this.db)
    return rows.map(({ key }) => key)
  }

  async insert(onConflict: OnConflict): Promise<PlacedRows> {
    this.#overwrites = onConflict === 'overwrite' && this.#key().length > 0
    if (this.#overwrites) await sql`update ${staged} set skip = 0`.execute(this.db)
    const names = sql.join(this.#columns.map((name) => sql.id(name)))
    // OR ABORT: a column's own ON CONFLICT clause could delete rows that are in the way, and nobody would know.
    // Prepared once and run with each row's number; the zeros only hold the parameters' places.
    const put = this.#connection.prepare(
      sql`insert or abort into ${this.#table.sql} (${names}) select ${cells(this.#columns.length)} from ${staged} where n = ${0}
        ${this.#overwrites ? this.#overwrite() : sql``}`,
    )
    const place = this.#connection.prepare(sql`update ${staged} set placed = ${0} where n = ${0}`)
    // Some at a time, as a cursor left open would not allow the statements in between. Integers are read as bigint.
    const waiting = this.#connection.prepare(
      sql`select n from ${staged} where skip = 0 and n > ${0} order by n limit ${insertedAtOnce}`,
    )
    const broken = new BrokenRows()
    let rows = 0
    for (let numbers: bigint[] = [0n]; numbers.length > 0;) {
      numbers = attempt(() => waiting.statement.pluck().all(numbers.at(-1), insertedAtOnce)) as bigint[]
      for (const n of numbers) {
        try {
          const { changes, lastInsertRowid } = attempt(() => put.statement.run(n))
          place.statement.run(lastInsertRowid, n)
          rows += changes
        } catch (error) {
          broken.note(n, error)
        }
      }
    }
    const error = await broken.error(this.db, this.#table, {
      rows: sql`(select * from ${staged} where skip = 0) as s`,
      cell: (name) => (this.#columns.includes(name) ? sql`s.${this.#cell(name)}` : undefined),
    })
    if (error !== undefined) throw error
    return {
      rows,
      known: () => this.#known(),
      range: (column) => rangeOf(this.db, this.#table, this.#isPlaced(), column),
      // SQLite raises an AUTOINCREMENT sequence by itself when a higher number is inserted.
      advanceSequences: async () => [],
    }
  }

  async *readBack(): AsyncGenerator<Buffer> {
    const n = sql.id('n')
    const selection = {
      table: { ...this.#table, sql: sql`(${this.#asPlaced()})` },
      where: sql<boolean>`true`,
      order: [{ value: n, read: sql<bigint>`${n}`, bind: (value: unknown) => sql`${value}` }],
    }
    const columns = this.#columns.map((name, index) => ({ name, value: cell(index) }))
    for (const { bytes } of csvOf(this.#connection, selection, columns)) yield bytes
  }

  async #known(): Promise<KnownRows> {
    const [column = '', ...more] = this.#table.key
    const number = more.length === 0 ? this.#table.numberOf(column) : undefined
    if (number === undefined) return keysOf(this.#table, this.#isPlaced())
    const numbers = sql`select ${number} as n from ${this.#table.sql} where ${this.#isPlaced()}`
    const { rows } = await sql`select 1 from (${numbers}) where n is null limit 1`.execute(this.db)
    // A column may hold other values beside numbers.
    return rows.length > 0 ? keysOf(this.#table, this.#isPlaced()) : { runs: runsOf(numbers), column }
  }

  /** Every staged row as it is in the table now, or as staged where it was skipped; absent where it is not there. */
  #asPlaced(): Sql {
    const columns = this.#columns.map(
      (name, index) => sql`case when s.skip = 1 then s.${cell(index)} else t.${sql.id(name)} end as ${cell(index)}`,
    )
    const { inTable, inStaged } = this.#places()
    const same = sql.join(
      inTable.map((part, index) => sql`t.${part} = s.${inStaged[index] ?? part}`),
      sql` and `,
    )
    return sql`
      select s.n, ${sql.join(columns)} from ${staged} as s left join ${this.#table.sql} as t on s.skip = 0 and ${same}`
  }

  /** True for rows of the table that staged rows were put into; the query has the table alone, under its own name. */
  #isPlaced(): Sql<boolean> {
    const { inTable, inStaged } = this.#places()
    return sql<boolean>`(${sql.join(inTable)}) in (select ${sql.join(inStaged)} from ${staged} where skip = 0)`
  }

  /** What a row of the table and the staged row that was put into it have in common. */
  #places(): { inTable: readonly Sql[]; inStaged: readonly Sql[] } {
    const { rowid } = this.#table
    // An upsert that updates reports no row number, but it has a key to be found by.
    if (rowid !== undefined && !this.#overwrites) return { inTable: [sql.id(rowid)], inStaged: [sql.id('placed')] }
    const key = this.#key()
    if (key.length === 0) throw unknownKey(this.#table)
    return { inTable: key.map((name) => sql.id(name)), inStaged: key.map((name) => this.#cell(name)) }
  }

  #overwrite(): Sql {
    const key = this.#key()
    const changeable = this.#columns.filter((name) => !key.includes(name))
    const set = (changeable.length > 0 ? changeable : key.slice(0, 1)).map(
      (name) => sql`${sql.id(name)} = excluded.${sql.id(name)}`,
    )
    return sql`on conflict (${sql.join(key.map((name) => sql.id(name)))}) do update set ${sql.join(set)}`
  }

  /** The archive's columns that make up the table's key, if all are there. */
  #key(): readonly string[] {
    const { key } = this.#table
    return key.every((name) => this.#columns.includes(name)) ? key : []
  }

  #cell(name: string): Sql {
    return cell(this.#columns.indexOf(name))
  }
}

function unknownKey({ name, key }: SchemaTable): RetentionError {
  return new RetentionError(
    'REFUSED',
    `The archive has not all of (${key.join(', ')}), by which alone the rows of "${name.name}" are known`,
    { hint: 'Restore --into a table that is not WITHOUT ROWID, and copy the rows from there.' },
  )
}
