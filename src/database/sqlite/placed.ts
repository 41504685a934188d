/** What is asked of a table's rows that a restore has put there. */
import { sql } from 'kysely'

import type { Db, KnownRows, Sql, SqlValue } from '../database.ts'
import type { SchemaTable } from './table.ts'

/** Rows by the text of their keys. @param where with the table alone in the query, under its own name */
export function keysOf(table: SchemaTable, where: Sql): KnownRows {
  const key = table.textOf(table.key) ?? sql`null`
  return { keys: sql`select ${key} as key from ${table.sql} where ${where}`, columns: table.key }
}

/** The least and greatest value that rows have in a column. @param where as of `keysOf` */
export async function rangeOf(
  db: Db,
  table: SchemaTable,
  where: Sql,
  column: string,
): Promise<{ first: SqlValue; last: SqlValue }> {
  const { rows } = await sql<{ first: SqlValue; last: SqlValue }>`
    select min(${sql.id(column)}) as first, max(${sql.id(column)}) as last from ${table.sql} where ${where}
  `.execute(db)
  return rows[0] ?? { first: null, last: null }
}
