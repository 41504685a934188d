/** An archive's rows as text in a temporary table, and the same with the types that they had. */
import { sql } from 'kysely'

import type { ArchiveForm, Sql } from '../database.ts'
import type { Transaction } from './connection.ts'
import { oldTypes, type OldType } from './conversion.ts'
import { copyIn } from './copy.ts'

/**
 * Copies an archive's CSV into a temporary table that goes with the transaction: `n` the order of its rows from 1, `c0`,
 * `c1`, … their text.
 * @param name the table's
 * @returns how many rows, and what has become of the columns' types
 */
export async function stageText(
  transaction: Transaction,
  name: string,
  archive: ArchiveForm,
  csv: AsyncIterable<Buffer>,
): Promise<{ rows: number; types: OldType[] }> {
  const { db } = transaction
  const cells = archive.columns.map((_, index) => `c${index}`)
  const columns = sql.join(cells.map((cell) => sql`${sql.id(cell)} text`))
  await sql`create temporary table ${sql.id(name)} (n bigint generated always as identity, ${columns}) on commit drop`.execute(
    db,
  )
  const rows = await copyIn(transaction, sql`${sql.id('pg_temp', name)}`, cells, csv)
  const types = await oldTypes(
    db,
    archive.columns.map(({ type }) => type),
  )
  return { rows, types }
}

/** The rows of such a table to select from, under the names and with the types of then. */
export function typedRows(
  archive: ArchiveForm,
  types: readonly OldType[],
  table: Sql,
): {
  /** Their order: a name that none of the columns has. */
  readonly n: Sql
  /** They go by the name of the table that they are from. */
  readonly from: Sql
} {
  const n = sql.id(freeName(archive, 'retention_n'))
  const columns = archive.columns.map(
    ({ name }, index) =>
      sql`cast(${sql.id(`c${index}`)} as ${sql.raw(types[index]?.type ?? 'text')}) as ${sql.id(name)}`,
  )
  return { n, from: sql`(select n as ${n}, ${sql.join(columns)} from ${table}) as ${sql.id(archive.table.name)}` }
}

function freeName({ columns }: ArchiveForm, name: string): string {
  let free = name
  while (columns.some((column) => column.name === free)) free += '_'
  return free
}
