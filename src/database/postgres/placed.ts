/** What is asked of a table's rows that a restore has put there. */
import { sql } from 'kysely'

import type { Db, KnownRows, Sql, SqlValue } from '../database.ts'
import type { CatalogTable } from './table.ts'

/** Rows by the text of their keys. */
export function keysOf(table: CatalogTable, where: Sql): KnownRows {
  const key = table.textOf(table.key) ?? sql`null`
  return { keys: sql`select ${key} as key from ${table.sql} where ${where}`, columns: table.key }
}

/** The least and greatest value that rows have in a column, as `OrderPart.bind` takes them. */
export async function rangeOf(
  db: Db,
  table: CatalogTable,
  where: Sql,
  column: string,
): Promise<{ first: SqlValue; last: SqlValue }> {
  const { rows } = await sql<{ first: string | null; last: string | null }>`
    select min(${sql.id(column)})::text as first, max(${sql.id(column)})::text as last
    from ${table.sql} where ${where}
  `.execute(db)
  return rows[0] ?? { first: null, last: null }
}
