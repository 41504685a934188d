/** An archive on its way back through a table of its own: looked at, inserted from there, and read back. */
import { sql } from 'kysely'

import type { RetentionError } from '../../errors.ts'
import type { Conflicts, KnownRows, OnConflict, PlacedRows, Sql, StagedRows } from '../database.ts'
import { runsOf } from '../runs.ts'
import { brokenConstraints } from './broken-constraints.ts'
import type { Transaction } from './connection.ts'
import { copyCsv, copyIn, copyOut } from './copy.ts'
import { keysOf, rangeOf } from './placed.ts'
import { stateOf, tryOut } from './savepoint.ts'
import { advanceSequences, sequencesOf } from './sequences.ts'
import type { CatalogColumn, CatalogTable } from './table.ts'

/** The archive's rows, in its order. */
const staged = sql.id('pg_temp', 'retention_staged')
/** Where the i-th inserted row was put. */
const placed = sql.id('pg_temp', 'retention_placed')
/** True for the table's rows that were put there. */
const isPlaced = sql`(tableoid, ctid) in (select retention_table, retention_place from ${placed})`

/** Copies an archive's CSV into a temporary table that goes with the transaction. */
export async function stage(
  transaction: Transaction,
  table: CatalogTable,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<StagedRows> {
  const { db } = transaction
  const staging = new PostgresStaged(transaction, table, columns)
  await staging.create()
  const rows = await copyIn(transaction, sql`${staged}`, columns, csv)
  await sql`analyze ${staged}`.execute(db)
  staging.rows = rows
  return staging
}

/** The same, with the rows of a query. @param query its rows have the columns' values, in the archive's order */
export async function stageQuery(
  transaction: Transaction,
  table: CatalogTable,
  columns: readonly string[],
  query: Sql,
): Promise<StagedRows> {
  const { db } = transaction
  const staging = new PostgresStaged(transaction, table, columns)
  await staging.create()
  const names = sql.join(columns.map((name) => sql.id(name)))
  const { numAffectedRows } = await sql`insert into ${staged} (${names}) ${query}`.execute(db)
  await sql`analyze ${staged}`.execute(db)
  staging.rows = Number(numAffectedRows ?? 0)
  return staging
}

class PostgresStaged implements StagedRows {
  rows = 0
  readonly #transaction: Transaction
  readonly #table: CatalogTable
  readonly #columns: readonly string[]

  constructor(transaction: Transaction, table: CatalogTable, columns: readonly string[]) {
    this.#transaction = transaction
    this.#table = table
    this.#columns = columns
  }

  async create(): Promise<void> {
    const { db } = this.#transaction
    // The table's own column types, without its constraints and defaults.
    await sql`create temporary table retention_staged on commit drop as select ${this.#list()} from ${this.#table.sql} with no data`.execute(
      db,
    )
    await sql`alter table ${staged}
      add column ${this.#own('n')} bigint generated always as identity,
      add column ${this.#own('skip')} boolean not null default false`.execute(db)
  }

  async conflicts(byRow: boolean): Promise<Conflicts> {
    const { db } = this.#transaction
    const skip = this.#own('skip')
    const key = this.#key()
    if (key.length === 0) {
      const count = byRow ? await this.matchRows() : 0
      return { count, same: count, keys: count === 0 ? [] : await this.#firstSkipped(this.#columns) }
    }
    const match = this.#sameKey(key)
    await sql`update ${staged} as s set ${skip} = true from ${this.#table.sql} as t where ${match}`.execute(db)
    const { rows } = await sql<{ count: string; same: string }>`
      select count(*)::text as count, count(*) filter (where exists (
        select from ${this.#table.sql} as t where ${match} and ${this.#row('t')} = ${this.#row('s')}
      ))::text as same
      from ${staged} as s where s.${skip}
    `.execute(db)
    const [found] = rows
    return { count: Number(found?.count ?? 0), same: Number(found?.same ?? 0), keys: await this.#firstSkipped(key) }
  }

  async matchRows(): Promise<number> {
    const { db } = this.#transaction
    const skip = this.#own('skip')
    const n = this.#own('n')
    const key = this.#key()
    if (key.length > 0) {
      const { rows } = await sql<{ count: string }>`
        with marked as (
          update ${staged} as s set ${skip} = exists (
            select from ${this.#table.sql} as t where ${this.#sameKey(key)} and ${this.#row('t')} = ${this.#row('s')}
          )
          returning s.${skip} as skip
        )
        select count(*) filter (where skip)::text as count from marked
      `.execute(db)
      return Number(rows[0]?.count ?? 0)
    }
    // Of equal rows the first goes with the first, the second with the second.
    const { rows } = await sql<{ count: string }>`
      with
        there as (
          select ${this.#row('t')} as line, row_number() over (partition by ${this.#row('t')}) as nth
          from ${this.#table.sql} as t
        ),
        here as (
          select s.${n} as n, ${this.#row('s')} as line, row_number() over (partition by ${this.#row('s')} order by s.${n}) as nth
          from ${staged} as s
        ),
        marked as (
          update ${staged} as s set ${skip} = exists (
            select from here join there using (line, nth) where here.n = s.${n}
          )
          returning s.${skip} as skip
        )
      select count(*) filter (where skip)::text as count from marked
    `.execute(db)
    return Number(rows[0]?.count ?? 0)
  }

  unmatched(): AsyncIterable<Buffer> {
    const rows = sql`select ${this.#list()} from ${staged} where not ${this.#own('skip')} order by ${this.#own('n')}`
    return copyOut(this.#transaction, copyCsv(rows, this.#catalogColumns()))
  }

  #sameKey(key: readonly string[]): Sql {
    return sql.join(
      key.map((name) => sql`t.${sql.id(name)} = s.${sql.id(name)}`),
      sql` and `,
    )
  }

  /** The first rows that are there already, by some of their columns. */
  async #firstSkipped(columns: readonly string[]): Promise<string[]> {
    const shown = sql.join(columns.slice(0, 20).map((name) => sql`${sql.id(name)}::text`))
    const { rows } = await sql<{ key: string }>`
      select concat_ws(', ', ${shown}) as key from ${staged} where ${this.#own('skip')} order by ${this.#own('n')} limit 5
    `.execute(this.#transaction.db)
    return rows.map(({ key }) => key)
  }

  async insert(onConflict: OnConflict): Promise<PlacedRows> {
    const { db } = this.#transaction
    if (onConflict === 'overwrite') {
      await sql`update ${staged} set ${this.#own('skip')} = false`.execute(db)
    }
    await sql`create temporary table retention_placed (
      i bigint generated always as identity, retention_table oid, retention_place tid
    ) on commit drop`.execute(db)
    const inserted = await tryOut(db, () => this.#put(onConflict))
    if ('error' in inserted) throw await this.#refused(inserted.error, onConflict)
    return {
      rows: inserted.value,
      known: async () => this.#known(),
      range: (column) => rangeOf(db, this.#table, isPlaced, column),
      advanceSequences: async () => {
        const sequences = await sequencesOf(db, this.#table, this.#columns)
        return advanceSequences(db, sequences, (column) => sql`(select max(${sql.id(column)})::bigint from ${staged})`)
      },
    }
  }

  /** Inserts rows, all or up to a number; returns how many. */
  async #put(onConflict: OnConflict, last?: number): Promise<number> {
    const { db } = this.#transaction
    const part = last === undefined ? sql`` : sql`and ${this.#own('n')} <= ${last}`
    // Rows are inserted, returned and numbered in the archive's order, so that the i-th place is the i-th row's.
    // If that were ever otherwise, reading back would show it.
    const { numAffectedRows } = await sql`
      with put as (
        insert into ${this.#table.sql} (${this.#list()}) overriding system value
        select ${this.#list()} from ${staged} where not ${this.#own('skip')} ${part} order by ${this.#own('n')}
        ${onConflict === 'overwrite' && this.#key().length > 0 ? this.#overwrite() : sql``}
        returning tableoid, ctid
      )
      insert into ${placed} (retention_table, retention_place) select tableoid, ctid from put
    `.execute(db)
    // What is put off to the end of the transaction happens now: a trigger that changes rows is then seen when they are
    // read back. https://www.postgresql.org/docs/current/sql-set-constraints.html
    await sql`set constraints all immediate`.execute(db)
    return Number(numAffectedRows ?? 0)
  }

  /** What an insert that has been undone was refused for: by name and by row where a constraint was broken. */
  async #refused(error: RetentionError, onConflict: OnConflict): Promise<RetentionError> {
    if (!stateOf(error).startsWith('23')) return error
    const incoming = {
      rows: sql`(select * from ${staged} where not ${this.#own('skip')}) as s`,
      columns: this.#columns,
      n: this.#own('n'),
      last: this.rows,
      replaces: onConflict === 'overwrite' ? this.#key() : [],
    }
    return brokenConstraints(this.#transaction.db, this.#table, incoming, error, (last) => this.#put(onConflict, last))
  }

  readBack(): AsyncIterable<Buffer> {
    const columns = sql.join(
      this.#columns.map(
        (name) =>
          sql`case when s.${this.#own('skip')} then s.${sql.id(name)} else t.${sql.id(name)} end as ${sql.id(name)}`,
      ),
    )
    const rows = sql`
      select ${columns}
      from (
        select *, row_number() over (partition by ${this.#own('skip')} order by ${this.#own('n')}) as ${this.#own('i')} from ${staged}
      ) s
      left join ${placed} p on p.i = s.${this.#own('i')} and not s.${this.#own('skip')}
      left join ${this.#table.sql} t on t.ctid = p.retention_place and t.tableoid = p.retention_table
      order by s.${this.#own('n')}`
    return copyOut(this.#transaction, copyCsv(rows, this.#catalogColumns()))
  }

  #known(): KnownRows {
    const [column = '', ...more] = this.#table.key
    const number = more.length === 0 ? this.#table.numberOf(column) : undefined
    if (number === undefined) return keysOf(this.#table, isPlaced)
    return { runs: runsOf(sql`select ${number} as n from ${this.#table.sql} where ${isPlaced}`), column }
  }

  /** The archive's columns that make up the table's key, if all are there. */
  #key(): readonly string[] {
    const { key } = this.#table
    return key.every((name) => this.#columns.includes(name)) ? key : []
  }

  #overwrite(): Sql {
    const key = this.#key()
    const changeable = this.#columns.filter(
      (name) =>
        !key.includes(name) && this.#table.columns.find((column) => column.name === name)?.identity !== 'always',
    )
    const set = (changeable.length > 0 ? changeable : key.slice(0, 1)).map(
      (name) => sql`${sql.id(name)} = excluded.${sql.id(name)}`,
    )
    return sql`on conflict (${sql.join(key.map((name) => sql.id(name)))}) do update set ${sql.join(set)}`
  }

  /** A row's values as one text: not every type has an equality of its own. */
  #row(table: 's' | 't'): Sql {
    return sql`row(${sql.join(this.#columns.map((name) => sql`${sql.id(table, name)}`))})::text`
  }

  #catalogColumns(): CatalogColumn[] {
    return this.#table.columns.filter((column) => this.#columns.includes(column.name))
  }

  #list(): Sql {
    return sql.join(this.#columns.map((name) => sql.id(name)))
  }

  /** A column of ours in the staging table, under a name that none of the archive's columns has. */
  #own(name: string): Sql {
    let own = `retention_${name}`
    while (this.#columns.includes(own)) own += '_'
    return sql.id(own)
  }
}
