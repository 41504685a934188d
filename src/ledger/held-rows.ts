/** Which rows of a table a hold is on, as SQL. */
import { sql } from 'kysely'

import { formatTableName, parseTableName } from '../config/fields.ts'
import type { Database, Db, Sql, SqlValue, Table } from '../database/database.ts'
import { heldPredicate } from '../database/where.ts'
import { RetentionError } from '../errors.ts'
import { shortId, type HoldRow } from './hold.ts'
import { columnNames, type LedgerNames } from './names.ts'

/**
 * True for the rows of a table that a hold of a restore is on.
 * @throws RetentionError `REFUSED` when the table has lost a column that they are known by
 */
export function restoredRows(hold: HoldRow, table: Table, tables: LedgerNames): Sql<boolean> {
  if (hold.run_column !== null) return isInRun(hold, hold.run_column, table, tables)
  return hold.key_columns === null ? isInRange(hold, table) : isHeld(hold, hold.key_columns, table, tables)
}

/**
 * True for the rows of a table that a legal hold is on, or may be on.
 * @throws RetentionError `REFUSED` when its predicate is none on the table any more
 */
export async function legalRows(hold: HoldRow, table: Table, db: Db, database: Database): Promise<Sql<boolean>> {
  const relative = parseTableName(hold.table_name)
  const part = relative === undefined ? undefined : table.rowsIn(relative)
  if (hold.predicate === null) return part ?? sql<boolean>`(1 = 1)`
  const error = await database.predicateError(db, hold.predicate, table)
  if (error !== undefined) {
    throw new RetentionError(
      'REFUSED',
      `Legal hold ${shortId(hold)} is on rows of ${hold.table_name} where ${hold.predicate}, which is not a predicate on it any more: ${error}`,
      { hint: `Nothing is archived until it is. If the table has changed, add the hold anew, then release this one.` },
    )
  }
  const held = heldPredicate(hold.predicate)
  return part === undefined ? held : sql<boolean>`(${part} and ${held})`
}

/** Of the runs that begin at or before a number, only the last can hold it: one look into the index tells. */
function isInRun(hold: HoldRow, column: string, table: Table, tables: LedgerNames): Sql<boolean> {
  const number = table.numberOf(column)
  if (number === undefined) throw unknowable(hold, `the whole numbers of ${column}`, table)
  return sql<boolean>`coalesce((
    select retention_last from ${tables.sql('held_runs')}
    where retention_hold = ${hold.id} and retention_first <= ${number}
    order by retention_first desc limit 1
  ) >= ${number}, false)`
}

/** Rows stay known by the columns that they were held by, whatever has become the table's key since. */
function isHeld(hold: HoldRow, keyColumns: string, table: Table, tables: LedgerNames): Sql<boolean> {
  const key = table.textOf(columnNames(keyColumns))
  if (key === undefined) throw unknowable(hold, keyColumns, table)
  return sql<boolean>`exists (
    select 1 from ${tables.sql('held_rows')} where retention_hold = ${hold.id} and retention_key = ${key}
  )`
}

function isInRange(hold: HoldRow, table: Table): Sql<boolean> {
  const { first_value: first, last_value: last, range_column: column } = hold
  if (first === null || last === null || column === null) return sql<boolean>`false`
  const part = table.orderBy(column)
  if (part === undefined) throw unknowable(hold, column, table)
  const range = sql`${part.value} >= ${part.bind(decode(first))} and ${part.value} <= ${part.bind(decode(last))}`
  return sql<boolean>`coalesce(${range}, false)`
}

function unknowable(hold: HoldRow, columns: string, table: Table): RetentionError {
  return new RetentionError(
    'REFUSED',
    `Rows of ${hold.archive} are held by ${columns}, which ${formatTableName(table.name)} does not have any more`,
    { hint: `Bring the columns back, or end the hold: retention hold release ${shortId(hold)}` },
  )
}

/** A value with its storage class, which SQLite's comparisons depend on; text alone would lose it. */
export function encode(value: Exclude<SqlValue, null>): string {
  if (Buffer.isBuffer(value)) throw new TypeError('a blob is no time')
  return `${typeof value}:${String(value)}`
}

function decode(text: string): SqlValue {
  const value = text.slice(text.indexOf(':') + 1)
  if (text.startsWith('bigint:')) return BigInt(value)
  return text.startsWith('number:') ? Number(value) : value
}
