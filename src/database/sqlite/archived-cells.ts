/** An archive's rows as they are in a temporary table, and the same with the types that their columns had. */
import { sql } from 'kysely'

import type { ArchiveColumn, ArchiveForm, Db, Sql } from '../database.ts'
import { collationGone, privateName } from '../where.ts'
import { affinityOf, cells, fillCells } from './cells.ts'
import { isBuiltIn } from './collations.ts'
import type { Connection } from './connection.ts'

/** Copies an archive's CSV into a temporary table as cells.ts describes it; returns how many rows. @param name the table's */
export async function stageCells(
  connection: Connection,
  name: string,
  { columns }: ArchiveForm,
  csv: AsyncIterable<Buffer>,
): Promise<number> {
  const width = columns.length
  await sql`create temporary table ${sql.id(name)} (n integer primary key, ${cells(width)})`.execute(connection.db)
  return fillCells(connection, sql`${sql.id('temp', name)}`, width, csv)
}

/**
 * Makes another temporary table of it, to select from: with the columns' names, types and collations of then.
 * @param staged the one with the cells
 * @param name the new table's
 * @throws RetentionError `USAGE` where a collation is not there
 */
export async function stageTyped(
  db: Db,
  archive: ArchiveForm,
  staged: Sql,
  name: string,
): Promise<{
  /** Their order. */
  readonly n: Sql
  /** They go by the name of the table that they are from. */
  readonly from: Sql
}> {
  const n = sql.id(privateName())
  const columns = archive.columns.map(
    (column) =>
      sql`${sql.id(column.name)} ${sql.raw(column.type === undefined ? '' : affinityOf(column.type))} collate ${collationOf(column)}`,
  )
  const typed = sql.id('temp', name)
  await sql`create temporary table ${sql.id(name)} (${n} integer primary key, ${sql.join(columns)})`.execute(db)
  await sql`insert into ${typed} select * from ${staged}`.execute(db)
  // Of a subquery, SQLite knows only the columns that are named: the number of a row in our table is out of reach.
  const named = [n, ...archive.columns.map((column) => sql.id(column.name)), ...rowids(archive)]
  return { n, from: sql`(select ${sql.join(named)} from ${typed}) as ${sql.id(archive.table.name)}` }
}

/** A column's collation, for a COLLATE. @throws RetentionError `USAGE` where it is not there */
export function collationOf({ name, collation }: ArchiveColumn): Sql {
  if (collation !== null && !isBuiltIn(collation)) throw collationGone(name, collation)
  return sql.id(collation ?? 'binary')
}

/** The other names of the column that was the row's number, unless other columns have them. */
function rowids({ columns }: ArchiveForm): Sql[] {
  const numbered = columns.find(({ isRowid }) => isRowid)
  if (numbered === undefined) return []
  const free = ['rowid', 'oid', '_rowid_'].filter((name) => columns.every((other) => other.name.toLowerCase() !== name))
  return free.map((name) => sql`${sql.id(numbered.name)} as ${sql.id(name)}`)
}
