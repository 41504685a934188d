/** One restore on Postgres: staged beside the table, inserted, and read back from where it was put. */
import { pipeline } from 'node:stream/promises'

import { sql } from 'kysely'
import { DatabaseError } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'

import { formatTableName, type TableName } from '../../config/fields.ts'
import type { Conflicts, Db, OnConflict, RestoreTable, RestoreTransaction, Sql, SqlValue } from '../database.ts'
import { postgresError, Transaction, type Connections } from './connection.ts'
import { copyCsv, copyOut } from './copy.ts'
import { lockRestores } from './locks.ts'
import { findTable, type CatalogColumn, type CatalogTable } from './table.ts'
import { withLiterals } from './literal.ts'
import { advanceSequences } from './sequences.ts'

/** The archive's rows, in its order. */
const staged = sql.id('pg_temp', 'retention_staged')
/** Where the i-th inserted row was put. */
const placed = sql.id('pg_temp', 'retention_placed')
/** True for the table's rows that were put there. */
const isPlaced = sql`(tableoid, ctid) in (select retention_table, retention_place from ${placed})`

/** Begins a restore: locks the table against changes of its form, and looks at it; undefined where there is none. */
export async function beginRestore(connections: Connections, name: TableName): Promise<RestoreTransaction | undefined> {
  const transaction = await Transaction.begin(connections, 'read write')
  const { db } = transaction
  try {
    const before = await findTable(db, name)
    if (before?.kind === 'r' || before?.kind === 'p') {
      await sql`lock table ${before.sql} in row exclusive mode`.execute(db)
      await lockRestores(db, before, 'exclusive')
      // Again, now that it cannot change any more.
      const table = (await findTable(db, name)) ?? before
      return new PostgresRestore(transaction, table, await insertFacts(db, table))
    }
  } catch (error) {
    await transaction.rollback()
    throw error
  }
  await transaction.rollback()
  return undefined
}

class PostgresRestore implements RestoreTransaction {
  readonly table: RestoreTable
  readonly #transaction: Transaction
  readonly #table: CatalogTable
  #columns: readonly string[] = []

  constructor(transaction: Transaction, table: CatalogTable, facts: InsertFacts) {
    this.#transaction = transaction
    this.#table = table
    this.table = { ...table, ...facts }
  }

  get db(): Db {
    return this.#transaction.db
  }

  async stage(columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<number> {
    const { db, client } = this.#transaction
    this.#columns = columns
    // The table's own column types, without its constraints and defaults.
    await sql`create temporary table retention_staged on commit drop as select ${this.#list()} from ${this.#table.sql} with no data`.execute(
      db,
    )
    await sql`alter table ${staged}
      add column ${this.#own('n')} bigint generated always as identity,
      add column ${this.#own('skip')} boolean not null default false`.execute(db)
    const text = withLiterals(
      sql`copy ${staged} (${this.#list()}) from stdin with (format csv, header true, encoding 'UTF8')`,
    )
    const copy = client.query(copyFrom(text))
    this.#transaction.isCopying = true
    await pipeline(csv, copy).catch((error: unknown) => {
      throw error instanceof DatabaseError ? postgresError(error) : error
    })
    this.#transaction.isCopying = false
    await sql`analyze ${staged}`.execute(db)
    return copy.rowCount
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
    const rows = sql`select ${this.#list()} from ${staged} where not ${this.#own('skip')}`
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

  async insert(onConflict: OnConflict): Promise<number> {
    const { db } = this.#transaction
    if (onConflict === 'overwrite') {
      await sql`update ${staged} set ${this.#own('skip')} = false`.execute(db)
    }
    await sql`create temporary table retention_placed (
      i bigint generated always as identity, retention_table oid, retention_place tid
    ) on commit drop`.execute(db)
    // Rows are inserted, returned and numbered in the archive's order, so that the i-th place is the i-th row's.
    // If that were ever otherwise, reading back would show it.
    const { numAffectedRows } = await sql`
      with put as (
        insert into ${this.#table.sql} (${this.#list()}) overriding system value
        select ${this.#list()} from ${staged} where not ${this.#own('skip')} order by ${this.#own('n')}
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

  placedKeys(): Sql<{ key: string }> {
    return sql<{ key: string }>`
      select ${this.#table.textOf(this.#table.key) ?? sql`null`} as key from ${this.#table.sql} where ${isPlaced}`
  }

  async placedRange(column: string): Promise<{ first: SqlValue; last: SqlValue }> {
    const { rows } = await sql<{ first: string | null; last: string | null }>`
      select min(${sql.id(column)})::text as first, max(${sql.id(column)})::text as last
      from ${this.#table.sql} where ${isPlaced}
    `.execute(this.#transaction.db)
    return rows[0] ?? { first: null, last: null }
  }

  async advanceSequences(): Promise<string[]> {
    return advanceSequences(this.#transaction.db, this.#table, this.#columns, staged)
  }

  async commit(): Promise<void> {
    await this.#transaction.commit()
  }

  async rollback(): Promise<void> {
    await this.#transaction?.rollback()
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

type InsertFacts = Pick<RestoreTable, 'findings' | 'insertTriggers'>

async function insertFacts(db: Db, table: CatalogTable): Promise<InsertFacts> {
  const { rows } = await sql<{
    rowSecurity: boolean
    mayInsert: boolean
    user: string
    grant: string
    triggers: string[]
  }>`
    select
      row_security_active(c.oid) as "rowSecurity",
      has_table_privilege(c.oid, 'SELECT') and has_table_privilege(c.oid, 'INSERT') as "mayInsert",
      current_user::text as "user",
      format('GRANT SELECT, INSERT ON %I.%I TO %I;', n.nspname, c.relname, current_user) as "grant",
      array(
        select distinct t.tgname::text from pg_trigger t
        where t.tgrelid in (select c.oid union select relid from pg_partition_tree(c.oid))
          and not t.tgisinternal and t.tgenabled in ('O', 'A') and t.tgtype & 4 = 4
      ) as triggers
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = ${table.oid}::oid
  `.execute(db)
  const [facts] = rows
  const name = formatTableName(table.name)
  const findings: RestoreTable['findings'][number][] = []
  if (facts?.mayInsert === false) {
    findings.push({
      level: 'refusal',
      text: `Role "${facts.user}" may not read and insert rows of ${name}`,
      hint: facts.grant,
    })
  }
  if (facts?.rowSecurity === true) {
    findings.push({
      level: 'refusal',
      text: `Row-level security on ${name} applies to role "${facts.user}"`,
      hint: "Run as a role with BYPASSRLS, or as the table's owner.",
    })
  }
  return { findings, insertTriggers: facts?.triggers ?? [] }
}
