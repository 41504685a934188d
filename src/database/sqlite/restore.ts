/** One restore on SQLite: staged beside the table, inserted row by row, and read back from where it was put. */
import { sql } from 'kysely'

import { InvalidText, parseRows, type Cell } from '../../archive/csv.ts'
import type { TableName } from '../../config/fields.ts'
import { RetentionError } from '../../errors.ts'
import type { Conflicts, Db, OnConflict, RestoreTable, RestoreTransaction, Sql, SqlValue } from '../database.ts'
import { attempt, type Connection } from './connection.ts'
import { findTable, textOf, triggersOn, type SchemaTable } from './table.ts'
import { csvOf } from './rows.ts'

/** The archive's rows: `n` their order, `c0`, `c1`, … their values, `placed` the number of the row made from it. */
const staged = sql.id('temp', 'retention_staged')

/** Begins a restore; undefined where there is no such table. */
export async function beginRestore(connection: Connection, name: TableName): Promise<RestoreTransaction | undefined> {
  connection.begin('immediate')
  try {
    const table = await findTable(connection.db, name)
    if (table?.kind === 'table') {
      return new SqliteRestore(connection, table, await triggersOn(connection.db, table, 'insert'))
    }
  } catch (error) {
    connection.rollback()
    throw error
  }
  connection.rollback()
  return undefined
}

class SqliteRestore implements RestoreTransaction {
  readonly table: RestoreTable
  readonly #connection: Connection
  readonly #table: SchemaTable
  #columns: readonly string[] = []
  #overwrites = false

  constructor(connection: Connection, table: SchemaTable, insertTriggers: readonly string[]) {
    this.#connection = connection
    this.#table = table
    this.table = { ...table, findings: [], insertTriggers }
  }

  get db(): Db {
    return this.#connection.db
  }

  async stage(columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<number> {
    this.#columns = columns
    // Columns without a type keep every storage class as it is.
    const cells = sql.join(columns.map((_, index) => sql`${cell(index)}`))
    await sql`drop table if exists ${staged}`.execute(this.db)
    await sql`create temporary table retention_staged (
      n integer primary key, skip integer not null default 0, placed integer, ${cells}
    )`.execute(this.db)
    const insertion = (row: readonly Cell[]): Sql =>
      sql`insert into ${staged} (${cells}) values (${sql.join(row.map(valueSql))})`
    const usual = this.#connection.prepare(insertion(columns.map(() => null))).statement
    let records = 0
    for await (const row of parseRows(csv)) {
      records += 1
      if (records === 1) continue
      if (row.some((value) => value instanceof InvalidText)) {
        const { statement, parameters } = this.#connection.prepare(insertion(row))
        attempt(() => statement.run(...parameters))
      } else {
        attempt(() => usual.run(...row))
      }
    }
    return Math.max(0, records - 1)
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

  async insert(onConflict: OnConflict): Promise<number> {
    this.#overwrites = onConflict === 'overwrite' && this.#key().length > 0
    if (this.#overwrites) await sql`update ${staged} set skip = 0`.execute(this.db)
    const names = sql.join(this.#columns.map((name) => sql.id(name)))
    const cells = sql.join(this.#columns.map((_, index) => cell(index)))
    // OR ABORT: a column's own ON CONFLICT clause could delete rows that are in the way, and nobody would know.
    // Prepared once and run with each row's number; the zeros only hold the parameters' places.
    const put = this.#connection.prepare(
      sql`insert or abort into ${this.#table.sql} (${names}) select ${cells} from ${staged} where n = ${0}
        ${this.#overwrites ? this.#overwrite() : sql``}`,
    )
    const place = this.#connection.prepare(sql`update ${staged} set placed = ${0} where n = ${0}`)
    const waiting = this.#connection.prepare(sql`select n from ${staged} where skip = 0 order by n`)
    let rows = 0
    // All at once, as a cursor left open would not allow the statements in between. Integers are read as bigint.
    const numbers = attempt(() => waiting.statement.pluck().all()) as bigint[]
    for (const n of numbers) {
      const { changes, lastInsertRowid } = attempt(() => put.statement.run(n))
      place.statement.run(lastInsertRowid, n)
      rows += changes
    }
    return rows
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

  placedKeys(): Sql<{ key: string }> {
    const { key, sql: table } = this.#table
    return sql<{
      key: string
    }>`select ${this.#table.textOf(key) ?? sql`null`} as key from ${table} where ${this.#isPlaced()}`
  }

  async placedRange(column: string): Promise<{ first: SqlValue; last: SqlValue }> {
    const { rows } = await sql<{ first: SqlValue; last: SqlValue }>`
      select min(${sql.id(column)}) as first, max(${sql.id(column)}) as last
      from ${this.#table.sql} where ${this.#isPlaced()}
    `.execute(this.db)
    return rows[0] ?? { first: null, last: null }
  }

  async advanceSequences(): Promise<string[]> {
    // SQLite raises an AUTOINCREMENT sequence by itself when a higher number is inserted.
    return []
  }

  async commit(): Promise<void> {
    await sql`drop table ${staged}`.execute(this.db)
    this.#connection.commit()
  }

  async rollback(): Promise<void> {
    this.#connection.rollback()
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

function cell(index: number): Sql {
  return sql.id(`c${index}`)
}

/** A cell for an INSERT. Bytes that are text, though not valid UTF-8, become text again inside SQLite. */
function valueSql(value: Cell): Sql {
  return value instanceof InvalidText ? sql`cast(${value.bytes} as text)` : sql`${value}`
}
