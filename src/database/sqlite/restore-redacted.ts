/** Old values of overwritten columns on their way back into rows that have stayed, by their keys. */
import { sql } from 'kysely'

import type { KnownRows, OldValues, OnConflict, PlacedRows, Redacted, Sql, Unlike } from '../database.ts'
import { runsOf } from '../runs.ts'
import { cell, cells, fillCells } from './cells.ts'
import type { Connection } from './connection.ts'
import { keysOf } from './placed.ts'
import { holdsOther } from './redaction.ts'
import { csvOf } from './rows.ts'
import type { SchemaTable } from './table.ts'

/** The archive's rows: `n` their order, `c0`, `c1`, … their values, `found` what is found of each in the table. */
const old = sql.id('temp', 'retention_old')

/** Lays an archive's old values beside their table. @param columns the CSV's */
export async function stageOld(
  connection: Connection,
  table: SchemaTable,
  redacted: Redacted,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<OldValues> {
  // Columns without a type keep every storage class as it is.
  await sql`create temporary table retention_old (
    n integer primary key, found text not null default 'gone', ${cells(columns.length)})`.execute(connection.db)
  const values = new SqliteOldValues(connection, table, redacted, columns)
  values.rows = await fillCells(connection, sql`${old}`, columns.length, csv)
  return values
}

/** Takes the temporary table away, where there is one: it is no part of what is to be committed. */
export async function unstageOld({ db }: Pick<Connection, 'db'>): Promise<void> {
  await sql`drop table if exists ${old}`.execute(db)
}

class SqliteOldValues implements OldValues {
  rows = 0
  readonly #connection: Connection
  readonly #table: SchemaTable
  readonly #redacted: Redacted
  readonly #columns: readonly string[]

  constructor(connection: Connection, table: SchemaTable, redacted: Redacted, columns: readonly string[]) {
    this.#connection = connection
    this.#table = table
    this.#redacted = redacted
    this.#columns = columns
  }

  /** A restore has the write lock from its first statement on. */
  async compare(): Promise<{ gone: Unlike; changed: Unlike; same: number }> {
    const { db } = this.#connection
    const every = (condition: (name: string) => Sql): Sql => sql`(${sql.join(this.#set.map(condition), sql` and `)})`
    await sql`
      update ${old} as s set found = case
        when not ${this.#isRow()} then 'changed'
        when ${every((name) => sql`(${this.#isKept(name)} or ${this.#isOld(name)})`)} then 'same'
        when ${every((name) => sql`(${this.#isKept(name)} or not ${this.#isOther(name)} or ${this.#isOld(name)})`)} then 'redacted'
        else 'changed' end
      from ${this.#table.sql} as t where ${this.#sameKey()}`.execute(db)
    const { rows } = await sql<{ found: string; count: bigint }>`
      select found, count(*) as count from ${old} group by found`.execute(db)
    const count = (wanted: string): number => Number(rows.find(({ found }) => found === wanted)?.count ?? 0n)
    return {
      gone: await this.#first('gone', count('gone')),
      changed: await this.#first('changed', count('changed')),
      same: count('same'),
    }
  }

  async put(onConflict: OnConflict): Promise<PlacedRows> {
    const { db } = this.#connection
    if (onConflict === 'overwrite') await sql`update ${old} set found = 'redacted' where found = 'changed'`.execute(db)
    const set = this.#set.map((name) => sql`${sql.id(name)} = ${this.#restored(name)}`)
    // OR ABORT: a column's own ON CONFLICT clause could delete rows that are in the way, and nobody would know.
    const { numAffectedRows } = await sql`
      update or abort ${this.#table.sql} as t set ${sql.join(set)} from ${old} as s
      where ${this.#sameKey()} and ${isWanted}`.execute(db)
    return {
      rows: Number(numAffectedRows ?? 0n),
      known: () => this.#known(),
      range: () => Promise.reject(new TypeError('rows with a key are known by it')),
      advanceSequences: async () => [],
    }
  }

  async *readBack(): AsyncGenerator<Buffer> {
    const values = this.#columns.map((name) =>
      this.#set.includes(name)
        ? sql`case when ${isWanted} and not ${this.#isKept(name)} then t.${sql.id(name)} else s.${this.#cell(name)} end as ${this.#cell(name)}`
        : sql`s.${this.#cell(name)} as ${this.#cell(name)}`,
    )
    const n = sql.id('n')
    const selection = {
      table: {
        ...this.#table,
        sql: sql`(select s.n, ${sql.join(values)} from ${old} as s left join ${this.#table.sql} as t on ${this.#sameKey()})`,
      },
      where: sql<boolean>`true`,
      order: [{ value: n, read: sql<bigint>`${n}`, bind: (value: unknown) => sql`${value}` }],
    }
    const columns = this.#columns.map((name, index) => ({ name, value: cell(index) }))
    for (const { bytes } of csvOf(this.#connection, selection, columns)) yield bytes
  }

  async #known(): Promise<KnownRows> {
    const cellsOfKey = sql.join(this.#redacted.key.map((name) => sql`s.${this.#cell(name)}`))
    const key = sql.join(this.#redacted.key.map((name) => sql`${sql.id(name)} collate binary`))
    const isOurs = sql`(${key}) in (select ${cellsOfKey} from ${old} as s where ${isWanted})`
    const [column = '', ...more] = this.#table.key
    const number = more.length === 0 ? this.#table.numberOf(column) : undefined
    if (number === undefined) return keysOf(this.#table, isOurs)
    const numbers = sql`select ${number} as n from ${this.#table.sql} where ${isOurs}`
    const { rows } = await sql`select 1 from (${numbers}) where n is null limit 1`.execute(this.#connection.db)
    // A column may hold other values beside numbers.
    return rows.length > 0 ? keysOf(this.#table, isOurs) : { runs: runsOf(numbers), column }
  }

  get #set(): string[] {
    return Object.keys(this.#redacted.set)
  }

  #cell(name: string): Sql {
    return cell(this.#columns.indexOf(name))
  }

  /** Whether a row of the table with the key of one of the archive's is that row: a key may be used again. */
  #isRow(): Sql {
    const known = new Set([...this.#redacted.key, ...this.#set])
    const others = this.#columns.filter((name) => !known.has(name))
    return sql`(${sql.join([sql`true`, ...others.map((name) => this.#isOld(name))], sql` and `)})`
  }

  /** Whether nothing was overwritten in a column: it held what it was set to. What it holds by now is not the archive's. */
  #isKept(name: string): Sql {
    return sql`(not ${holdsOther(sql`s.${this.#cell(name)}`, this.#redacted.set[name] ?? null)})`
  }

  #restored(name: string): Sql {
    return sql`case when ${this.#isKept(name)} then t.${sql.id(name)} else s.${this.#cell(name)} end`
  }

  /** Whether the table's row holds something else in a column than it was overwritten with. */
  #isOther(name: string): Sql {
    return holdsOther(sql.id('t', name), this.#redacted.set[name] ?? null)
  }

  /** Whether it holds there what the archive has. */
  #isOld(name: string): Sql {
    return sql`(t.${sql.id(name)} collate binary is s.${this.#cell(name)})`
  }

  /** The key's index may have another collation than its column. */
  #sameKey(): Sql {
    return sql.join(
      this.#redacted.key.map((name) => sql`t.${sql.id(name)} collate binary = s.${this.#cell(name)}`),
      sql` and `,
    )
  }

  async #first(found: 'gone' | 'changed', count: number): Promise<Unlike> {
    if (count === 0) return { count, keys: [] }
    const shown = sql.join(
      this.#redacted.key.slice(0, 20).map((name) => sql`coalesce(${this.#cell(name)}, 'NULL')`),
      sql` || ', ' || `,
    )
    const { rows } = await sql<{ key: string }>`
      select cast(${shown} as text) as key from ${old} where found = ${found} order by n limit 5
    `.execute(this.#connection.db)
    return { count, keys: rows.map(({ key }) => key) }
  }
}

/** Whether a row gets its old values. */
const isWanted = sql`s.found in ('redacted', 'same')`
