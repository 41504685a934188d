/** Holds: rows that apply leaves alone for a while, as those that have been restored. */
import { randomUUID } from 'node:crypto'
import { hostname, userInfo } from 'node:os'

import { sql } from 'kysely'

import { formatTableName, parseTableName, type TableName } from '../config/fields.ts'
import type { Database, Db, KnownRows, Sql, SqlValue, Table } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import { columnNames, instant, type LedgerNames } from './names.ts'
import type { LedgerTables } from './schema.ts'

/** A hold, as the ledger knows it. */
export interface Hold {
  readonly id: string
  readonly table: string
  readonly policy: string
  /** The archive whose rows are held. */
  readonly archive: string
  readonly reason: string
  readonly createdAt: string
  readonly createdBy: string
  /** When it ends; null: never. */
  readonly until: string | null
  /** Whether it holds a range of times instead of single rows. */
  readonly byRange: boolean
}

/** What a hold is placed on: single rows, or all rows whose time is in a range. */
export type HeldRows = KnownRows | { readonly column: string; readonly first: SqlValue; readonly last: SqlValue }

/** A clock may be ahead for once: the keys of a hold are kept for 30 days after its end. In milliseconds. */
const keptFor = 30 * 24 * 60 * 60 * 1000

/** A hold about to be placed. */
export interface NewHold {
  /** The table, as `formatTableName` writes it. */
  readonly table: string
  readonly policy: string
  readonly archive: string
  readonly reason: string
  /** Null: for ever. */
  readonly until: Date | null
  readonly now: Date
}

/** The holds of one ledger. */
export class Holds {
  readonly #tables: LedgerNames
  readonly #database: Database
  readonly #exist: boolean

  /** @param exist whether the ledger's tables are there */
  constructor(database: Database, tables: LedgerNames, exist: boolean) {
    this.#database = database
    this.#tables = tables
    this.#exist = exist
  }

  /** Places a hold, in the transaction that puts the rows back. */
  async place(db: Db, rows: HeldRows, hold: NewHold): Promise<void> {
    const id = randomUUID()
    const range = 'first' in rows ? rows : { column: null, first: null, last: null }
    await this.#tables
      .in(db)
      .insertInto(this.#tables.name('holds'))
      .values({
        id,
        table_name: hold.table,
        policy: hold.policy,
        archive: hold.archive,
        reason: hold.reason,
        run_column: 'runs' in rows ? rows.column : null,
        key_columns: 'keys' in rows ? JSON.stringify(rows.columns) : null,
        range_column: range.column,
        first_value: range.first === null ? null : encode(range.first),
        last_value: range.last === null ? null : encode(range.last),
        created_at: hold.now.toISOString(),
        created_by: `${userName()}@${hostname()}`,
        until: hold.until?.toISOString() ?? null,
      })
      .execute()
    if ('runs' in rows) {
      await sql`
        insert into ${this.#tables.sql('held_runs')} (retention_hold, retention_first, retention_last)
        select cast(${id} as text), first, last from (${rows.runs}) as held
      `.execute(db)
    }
    if ('keys' in rows) {
      await sql`
        insert into ${this.#tables.sql('held_rows')} (retention_hold, retention_key)
        select cast(${id} as text), key from (${rows.keys}) as held
      `.execute(db)
    }
  }

  /** The holds on a policy's table that have not ended. */
  async on(db: Db, table: HeldTable, now: Date): Promise<Hold[]> {
    return (await this.#rows(db, table, now)).map((row) => ({
      id: row.id,
      table: row.table_name,
      policy: row.policy,
      archive: row.archive,
      reason: row.reason,
      createdAt: instant(row.created_at),
      createdBy: row.created_by,
      until: row.until === null ? null : instant(row.until),
      byRange: row.range_column !== null,
    }))
  }

  /**
   * True for a table's held rows; undefined where none is.
   * @param policy whose table it is
   * @throws RetentionError `REFUSED` when the table has lost a column that its held rows are known by
   */
  async where(db: Db, table: Table, policy: string, now: Date): Promise<Sql<boolean> | undefined> {
    const holds = await this.#rows(db, { policy, names: table.relatives }, now)
    const conditions = holds.map((hold) => {
      if (hold.run_column !== null) return this.#isInRun(hold, hold.run_column, table)
      return hold.key_columns === null ? isInRange(hold, table) : this.#isHeld(hold, hold.key_columns, table)
    })
    return conditions.length === 0 ? undefined : sql<boolean>`(${sql.join(conditions, sql` or `)})`
  }

  /** Of the runs that begin at or before a number, only the last can hold it: one look into the index tells. */
  #isInRun(hold: LedgerTables['holds'], column: string, table: Table): Sql<boolean> {
    const number = table.numberOf(column)
    if (number === undefined) throw unknowable(hold, `the whole numbers of ${column}`, table)
    return sql<boolean>`coalesce((
      select retention_last from ${this.#tables.sql('held_runs')}
      where retention_hold = ${hold.id} and retention_first <= ${number}
      order by retention_first desc limit 1
    ) >= ${number}, false)`
  }

  /** Rows stay known by the columns that they were held by, whatever has become the table's key since. */
  #isHeld(hold: LedgerTables['holds'], keyColumns: string, table: Table): Sql<boolean> {
    const key = table.textOf(columnNames(keyColumns))
    if (key === undefined) throw unknowable(hold, keyColumns, table)
    return sql<boolean>`exists (
      select 1 from ${this.#tables.sql('held_rows')} where retention_hold = ${hold.id} and retention_key = ${key}
    )`
  }

  /** Forgets the keys of holds that ended long ago, by whatever clock; the holds themselves stay on record. */
  async forgetEnded(db: Db, now: Date): Promise<void> {
    const longAgo = new Date(now.getTime() - keptFor)
    for (const table of ['held_runs', 'held_rows'] as const) {
      await this.#tables
        .in(db)
        .deleteFrom(this.#tables.name(table))
        .where('retention_hold', 'in', (query) =>
          query.selectFrom(this.#tables.name('holds')).select('id').where('until', '<=', longAgo.toISOString()),
        )
        .execute()
    }
  }

  /** Holds go by the table; where that is not there any more, it has been renamed, and they go by the policy. */
  async #rows(db: Db, { policy, names }: HeldTable, now: Date): Promise<LedgerTables['holds'][]> {
    if (!this.#exist) return []
    const tables = names.map(formatTableName)
    const holds = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('holds'))
      .selectAll()
      .where((where) => where.or([where('table_name', 'in', tables), where('policy', '=', policy)]))
      .where((where) => where.or([where('until', 'is', null), where('until', '>', now.toISOString())]))
      .orderBy('created_at')
      .execute()
    const isThere = new Map<string, boolean>()
    for (const { table_name: table } of holds) {
      const name = parseTableName(table)
      if (!isThere.has(table)) isThere.set(table, name !== undefined && (await this.#database.tableExists(db, name)))
    }
    return holds.filter((hold) => tables.includes(hold.table_name) || isThere.get(hold.table_name) === false)
  }
}

/** Whose holds are asked for. */
interface HeldTable {
  readonly policy: string
  /** The policy's table, and those that it is a part of or that are parts of it. */
  readonly names: readonly TableName[]
}

function isInRange(hold: LedgerTables['holds'], table: Table): Sql<boolean> {
  const { first_value: first, last_value: last, range_column: column } = hold
  if (first === null || last === null || column === null) return sql<boolean>`false`
  const part = table.orderBy(column)
  if (part === undefined) throw unknowable(hold, column, table)
  const range = sql`${part.value} >= ${part.bind(decode(first))} and ${part.value} <= ${part.bind(decode(last))}`
  return sql<boolean>`coalesce(${range}, false)`
}

function unknowable(hold: LedgerTables['holds'], columns: string, table: Table): RetentionError {
  return new RetentionError(
    'REFUSED',
    `Rows of ${hold.archive} are held by ${columns}, which ${formatTableName(table.name)} does not have any more`,
    { hint: `Bring the columns back, or end the hold: its "id" in the ledger's holds is ${hold.id}.` },
  )
}

/** A value with its storage class, which SQLite's comparisons depend on; text alone would lose it. */
function encode(value: Exclude<SqlValue, null>): string {
  if (Buffer.isBuffer(value)) throw new TypeError('a blob is no time')
  return `${typeof value}:${String(value)}`
}

function decode(text: string): SqlValue {
  const value = text.slice(text.indexOf(':') + 1)
  if (text.startsWith('bigint:')) return BigInt(value)
  return text.startsWith('number:') ? Number(value) : value
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    // Containers run under numbers that have no name.
    return String(process.getuid?.() ?? 'unknown')
  }
}
