/** One restore on SQLite: staged beside the table, inserted row by row, and read back from where it was put. */
import { sql } from 'kysely'

import { InvalidText, parseRows, type Cell } from '../../archive/csv.ts'
import { RetentionError } from '../../errors.ts'
import type { TableName } from '../../config/fields.ts'
import type { Db, OnConflict, RestoreTable, RestoreTransaction, Sql, SqlValue } from '../database.ts'
import { attempt, type Connection } from './connection.ts'
import { findTable, triggersOn, type SchemaTable } from './table.ts'
import { csvOf } from './rows.ts'

/** The archive's rows: `n` their order, `c0`, `c1`, … their values, `placed` the number of the row made from it. */
const staged = sql.id('temp', 'retention_staged')

export class SqliteRestore implements RestoreTransaction {
  readonly #connection: Connection
  #table: SchemaTable | undefined
  #columns: readonly string[] = []

  constructor(connection: Connection) {
    this.#connection = connection
  }

  get db(): Db {
    return this.#connection.db
  }

  async begin(name: TableName): Promise<RestoreTable | undefined> {
    this.#connection.begin('immediate')
    const table = await findTable(this.#connection.db, name)
    if (table === undefined || table.kind !== 'table') return undefined
    this.#table = table
    return { ...table, findings: [], insertTriggers: await triggersOn(this.#connection.db, table, 'insert') }
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

  async conflicts(): Promise<{ count: number; keys: string[] }> {
    const key = this.#key()
    if (key.length === 0) return { count: 0, keys: [] }
    const same = sql.join(
      key.map((name) => sql`t.${sql.id(name)} = ${sql.id('retention_staged')}.${this.#cell(name)}`),
      sql` and `,
    )
    await sql`update ${staged} set skip = 1 where exists (select 1 from ${this.#begun().sql} as t where ${same})`.execute(
      this.db,
    )
    const shown = sql.join(
      key.map((name) => sql`${this.#cell(name)}`),
      sql` || ', ' || `,
    )
    const { rows } = await sql<{ count: bigint }>`select count(*) as count from ${staged} where skip = 1`.execute(
      this.db,
    )
    const first = await sql<{
      key: string
    }>`select cast(${shown} as text) as key from ${staged} where skip = 1 order by n limit 5`.execute(this.db)
    return { count: Number(rows[0]?.count ?? 0n), keys: first.rows.map((row) => row.key) }
  }

  async insert(onConflict: OnConflict): Promise<number> {
    const table = this.#begun()
    if (onConflict === 'overwrite') await sql`update ${staged} set skip = 0`.execute(this.db)
    const names = sql.join(this.#columns.map((name) => sql.id(name)))
    const cells = sql.join(this.#columns.map((_, index) => cell(index)))
    // Prepared once and run with each row's number; the zeros only hold the parameters' places.
    const put = this.#connection.prepare(
      sql`insert into ${table.sql} (${names}) select ${cells} from ${staged} where n = ${0}
        ${onConflict === 'overwrite' && this.#key().length > 0 ? this.#overwrite() : sql``}`,
    )
    const place = this.#connection.prepare(sql`update ${staged} set placed = ${0} where n = ${0}`)
    const waiting = this.#connection.prepare(sql`select n from ${staged} where skip = 0 order by n`)
    let rows = 0
    // The numbers are few bytes each; a cursor left open would not allow the statements in between.
    for (const n of attempt(() => waiting.statement.pluck().all()) as bigint[]) {
      const { changes, lastInsertRowid } = attempt(() => put.statement.run(n))
      place.statement.run(lastInsertRowid, n)
      rows += changes
    }
    return rows
  }

  async *readBack(): AsyncGenerator<Buffer> {
    const n = sql.id('n')
    const selection = {
      table: { ...this.#begun(), sql: sql`(${this.#asPlaced()})` },
      where: sql<boolean>`true`,
      order: [{ value: n, read: sql<bigint>`${n}`, bind: (value: unknown) => sql`${value}` }],
    }
    const columns = this.#columns.map((name, index) => ({ name, value: cell(index) }))
    yield* csvOf(this.#connection, selection, columns, () => {})
  }

  placedKeys(): Sql<{ key: string }> {
    const table = this.#begun()
    return sql<{ key: string }>`select ${table.keyText ?? sql`null`} as key from ${table.sql} where ${this.#isPlaced()}`
  }

  async placedRange(column: string): Promise<{ first: SqlValue; last: SqlValue }> {
    const { rows } = await sql<{ first: SqlValue; last: SqlValue }>`
      select min(${sql.id(column)}) as first, max(${sql.id(column)}) as last
      from ${this.#begun().sql} where ${this.#isPlaced()}
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
      select s.n, ${sql.join(columns)} from ${staged} as s left join ${this.#begun().sql} as t on s.skip = 0 and ${same}`
  }

  /** True for rows of the table that staged rows were put into; the query has the table alone, under its own name. */
  #isPlaced(): Sql<boolean> {
    const { inTable, inStaged } = this.#places()
    return sql<boolean>`(${sql.join(inTable)}) in (select ${sql.join(inStaged)} from ${staged} where skip = 0)`
  }

  /** What a row of the table and the staged row that was put into it have in common. */
  #places(): { inTable: readonly Sql[]; inStaged: readonly Sql[] } {
    const key = this.#key()
    // An upsert that updates reports no row number, but it has a key to be found by.
    if (key.length === 0) return { inTable: [sql.id(this.#begun().rowid ?? 'rowid')], inStaged: [sql.id('placed')] }
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
    const { key } = this.#begun()
    return key.every((name) => this.#columns.includes(name)) ? key : []
  }

  #cell(name: string): Sql {
    return cell(this.#columns.indexOf(name))
  }

  #begun(): SchemaTable {
    if (this.#table === undefined) throw new RetentionError('DATABASE_FAILED', 'The restore has not begun')
    return this.#table
  }
}

function cell(index: number): Sql {
  return sql.id(`c${index}`)
}

/** A cell for an INSERT. Bytes that are text, though not valid UTF-8, become text again inside SQLite. */
function valueSql(value: Cell): Sql {
  return value instanceof InvalidText ? sql`cast(${value.bytes} as text)` : sql`${value}`
}
