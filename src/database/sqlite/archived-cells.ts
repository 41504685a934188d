/** An archive's rows as they are in a temporary table, and the same with the types that their columns had. */
import { sql } from 'kysely'

import type { ArchiveForm, Db, Sql } from '../database.ts'
import { affinityOf, cells, fillCells } from './cells.ts'
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
 * Makes another temporary table of it, to select from: with the columns' names and types of then.
 * @param staged the one with the cells
 * @param name the new table's
 */
export async function stageTyped(
  db: Db,
  archive: ArchiveForm,
  staged: Sql,
  name: string,
): Promise<{
  /** Their order: a name that none of the columns has. */
  readonly n: Sql
  /** They go by the name of the table that they are from. */
  readonly from: Sql
}> {
  const n = sql.id(freeName(archive, 'retention_n'))
  const columns = archive.columns.map(
    (column) => sql`${sql.id(column.name)} ${sql.raw(column.type === undefined ? '' : affinityOf(column.type))}`,
  )
  const typed = sql.id('temp', name)
  await sql`create temporary table ${sql.id(name)} (${n} integer primary key, ${sql.join(columns)})`.execute(db)
  await sql`insert into ${typed} select * from ${staged}`.execute(db)
  return { n, from: sql`${typed} as ${sql.id(archive.table.name)}` }
}

/** In whatever case. */
function freeName({ columns }: ArchiveForm, name: string): string {
  let free = name
  while (columns.some((column) => column.name.toLowerCase() === free)) free += '_'
  return free
}
