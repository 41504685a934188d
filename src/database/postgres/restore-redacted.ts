/** Old values of overwritten columns on their way back into rows that have stayed, by their keys. */
import { sql } from 'kysely'

import type { KnownRows, OldValues, OnConflict, PlacedRows, Redacted, Sql, Unlike } from '../database.ts'
import { runsOf } from '../runs.ts'
import type { Transaction } from './connection.ts'
import { copyCsv, copyIn, copyOut } from './copy.ts'
import { rowsOf } from './gathered.ts'
import { keysOf } from './placed.ts'
import { holdsOther } from './redaction.ts'
import type { CatalogColumn, CatalogTable } from './table.ts'

/** The archive's rows, in its order, and what is found of each in the table. */
const old = sql.id('pg_temp', 'retention_old')

/** Lays an archive's old values beside their table. @param columns the CSV's */
export async function stageOld(
  transaction: Transaction,
  table: CatalogTable,
  redacted: Redacted,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<OldValues> {
  const { db } = transaction
  const list = sql.join(columns.map((name) => sql.id(name)))
  // The table's own column types, without its constraints and defaults.
  await sql`create temporary table retention_old on commit drop as select ${list} from ${table.sql} with no data`.execute(
    db,
  )
  const values = new PostgresOldValues(transaction, table, redacted, columns)
  await sql`alter table ${old} add column ${values.own('n')} bigint generated always as identity,
    add column ${values.own('found')} text not null default 'gone'`.execute(db)
  values.rows = await copyIn(transaction, sql`${old}`, columns, csv)
  await sql`analyze ${old}`.execute(db)
  return values
}

class PostgresOldValues implements OldValues {
  rows = 0
  readonly #transaction: Transaction
  readonly #table: CatalogTable
  readonly #redacted: Redacted
  readonly #columns: readonly string[]

  constructor(transaction: Transaction, table: CatalogTable, redacted: Redacted, columns: readonly string[]) {
    this.#transaction = transaction
    this.#table = table
    this.#redacted = redacted
    this.#columns = columns
  }

  async compare(lock: boolean): Promise<{ gone: Unlike; changed: Unlike; same: number }> {
    const { db } = this.#transaction
    const found = this.own('found')
    const from = sql`${rowsOf(this.#table)} as t`
    // What has been looked at stays as it is until we have ended.
    if (lock)
      await sql`select count(*) from (
        select 1 from ${from} where (${this.#key('t')}) in (select ${this.#key('s')} from ${old} as s) for no key update
      ) as locked`.execute(db)
    await sql`
      update ${old} as s set ${found} = case
        when not ${this.#isRow()} then 'changed'
        when ${this.#every((column) => sql`(${this.#isKept(column)} or ${this.#isOld(column)})`)} then 'same'
        when ${this.#fits()} then 'redacted'
        else 'changed' end
      from ${from} where ${this.#sameKey()}`.execute(db)
    const { rows } = await sql<{ gone: string; changed: string; same: string }>`
      select count(*) filter (where ${found} = 'gone')::text as gone, count(*) filter (where ${found} = 'changed')::text as changed,
        count(*) filter (where ${found} = 'same')::text as same
      from ${old}`.execute(db)
    const [counts] = rows
    return {
      gone: await this.#first('gone', Number(counts?.gone ?? 0)),
      changed: await this.#first('changed', Number(counts?.changed ?? 0)),
      same: Number(counts?.same ?? 0),
    }
  }

  async put(onConflict: OnConflict): Promise<PlacedRows> {
    const { db } = this.#transaction
    if (onConflict === 'overwrite')
      await sql`update ${old} set ${this.own('found')} = 'redacted' where ${this.own('found')} = 'changed'`.execute(db)
    const set = this.#overwritten().map((column) => sql`${sql.id(column.name)} = ${this.#restored(column)}`)
    // A row that has come with such a key since they were compared is not among those that are locked.
    const still = onConflict === 'overwrite' ? sql`true` : sql`${this.#isRow()} and ${this.#fits()}`
    const { numAffectedRows } = await sql`
      update ${rowsOf(this.#table)} as t set ${sql.join(set)} from ${old} as s
      where ${this.#sameKey()} and s.${this.#isWanted()} and ${still}`.execute(db)
    // What is put off to the end of the transaction happens now: what triggers change is seen when rows are read back.
    await sql`set constraints all immediate`.execute(db)
    return {
      rows: Number(numAffectedRows ?? 0),
      known: async () => this.#known(),
      range: () => Promise.reject(new TypeError('rows with a key are known by it')),
      advanceSequences: async () => [],
    }
  }

  readBack(): AsyncIterable<Buffer> {
    const overwritten = new Map(this.#overwritten().map((column) => [column.name, column]))
    const values = this.#columns.map((name) => {
      const column = sql.id(name)
      const set = overwritten.get(name)
      if (set === undefined) return sql`s.${column}`
      const isBack = sql`s.${this.#isWanted()} and not ${this.#isKept(set)}`
      return sql`case when ${isBack} then t.${column} else s.${column} end as ${column}`
    })
    const rows = sql`
      select ${sql.join(values)} from ${old} as s left join ${rowsOf(this.#table)} as t on ${this.#sameKey()}
      order by s.${this.own('n')}`
    const columns = this.#table.columns.filter(({ name }) => this.#columns.includes(name))
    return copyOut(this.#transaction, copyCsv(rows, columns))
  }

  /** A column of ours beside the archive's, under a name that none of those has. */
  own(name: string): Sql {
    let own = `retention_${name}`
    while (this.#columns.includes(own)) own += '_'
    return sql.id(own)
  }

  #known(): KnownRows {
    const isOurs = sql`(${this.#key()}) in (select ${this.#key('s')} from ${old} as s where s.${this.#isWanted()})`
    const [column = '', ...more] = this.#table.key
    const number = more.length === 0 ? this.#table.numberOf(column) : undefined
    if (number === undefined) return keysOf(this.#table, isOurs)
    return { runs: runsOf(sql`select ${number} as n from ${this.#table.sql} where ${isOurs}`), column }
  }

  /** After `s.`: whether a row gets its old values. */
  #isWanted(): Sql {
    return sql`${this.own('found')} in ('redacted', 'same')`
  }

  #overwritten(): CatalogColumn[] {
    return this.#table.columns.filter(({ name }) => Object.hasOwn(this.#redacted.set, name))
  }

  #every(condition: (column: CatalogColumn) => Sql): Sql {
    return sql`(${sql.join(this.#overwritten().map(condition), sql` and `)})`
  }

  /** Whether a row of the table with the key of one of the archive's is that row: a key may be used again. */
  #isRow(): Sql {
    const { key, set } = this.#redacted
    const others = this.#table.columns.filter(
      ({ name }) => this.#columns.includes(name) && !key.includes(name) && !Object.hasOwn(set, name),
    )
    return sql`(${sql.join([sql`true`, ...others.map((column) => this.#isOld(column))], sql` and `)})`
  }

  /** Whether the table's row holds what it was overwritten with, or the old values. */
  #fits(): Sql {
    return this.#every(
      (column) => sql`(${this.#isKept(column)} or not ${this.#isOther(column)} or ${this.#isOld(column)})`,
    )
  }

  /** Whether nothing was overwritten in a column: it held what it was set to. What it holds by now is not the archive's. */
  #isKept(column: CatalogColumn): Sql {
    return sql`(not ${holdsOther(sql.id('s', column.name), column, this.#redacted.set[column.name] ?? null)})`
  }

  #restored(column: CatalogColumn): Sql {
    const name = sql.id(column.name)
    return sql`case when ${this.#isKept(column)} then t.${name} else s.${name} end`
  }

  /** Whether the table's row holds something else in a column than it was overwritten with. */
  #isOther(column: CatalogColumn): Sql {
    return holdsOther(sql.id('t', column.name), column, this.#redacted.set[column.name] ?? null)
  }

  /** Whether it holds there what the archive has. */
  #isOld({ name }: CatalogColumn): Sql {
    return sql`(t.${sql.id(name)}::text collate "C" is not distinct from s.${sql.id(name)}::text collate "C")`
  }

  #key(of?: 's' | 't'): Sql {
    return sql.join(this.#redacted.key.map((name) => (of === undefined ? sql.id(name) : sql.id(of, name))))
  }

  #sameKey(): Sql {
    return sql`(${this.#key('t')}) = (${this.#key('s')})`
  }

  async #first(found: 'gone' | 'changed', count: number): Promise<Unlike> {
    if (count === 0) return { count, keys: [] }
    const shown = sql.join(this.#redacted.key.slice(0, 20).map((name) => sql`${sql.id(name)}::text`))
    const { rows } = await sql<{ key: string }>`
      select concat_ws(', ', ${shown}) as key from ${old} where ${this.own('found')} = ${found} order by ${this.own('n')} limit 5
    `.execute(this.#transaction.db)
    return { count, keys: rows.map(({ key }) => key) }
  }
}
