/** An archive's rows as text in a temporary table, and the same with the types that they had. */
import { sql } from 'kysely'

import type { ArchiveForm, Db, Sql } from '../database.ts'
import { collationGone, privateName } from '../where.ts'
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

/**
 * The rows of such a table to select from, under the names and with the types and collations of then.
 * @throws RetentionError `USAGE` where a collation is not there any more
 */
export async function typedRows(
  db: Db,
  archive: ArchiveForm,
  types: readonly OldType[],
  table: Sql,
): Promise<{
  /** Their order. */
  readonly n: Sql
  /** They go by the name of the table that they are from. */
  readonly from: Sql
}> {
  await checkCollations(db, archive)
  // The row that goes by the table's name has the archive's columns alone: a predicate may be about it as a whole.
  const own = privateName()
  const n = `${own}_n`
  const cells = archive.columns.map((_, index) => `${own}_${index}`)
  const given = cells.map((cell, index) => sql`${sql.id(`c${index}`)} as ${sql.id(cell)}`)
  const columns = archive.columns.map(({ name, collation }, index) => {
    const value = sql`cast(${sql.id(cells[index] ?? '')} as ${sql.raw(types[index]?.type ?? 'text')})`
    return sql`${collated(value, collation)} as ${sql.id(name)}`
  })
  return {
    n: sql.id(n),
    from: sql`(select n as ${sql.id(n)}, ${sql.join(given)} from ${table}) as ${sql.id(own)}
      cross join lateral (select ${sql.join(columns)}) as ${sql.id(archive.table.name)}`,
  }
}

/** A value with a column's collation. @param collation the catalog's own, quoted, name of it; null for its type's */
export function collated(value: Sql, collation: string | null): Sql {
  return collation === null ? value : sql`${value} collate ${sql.raw(collation)}`
}

async function checkCollations(db: Db, { columns }: ArchiveForm): Promise<void> {
  const { rows } = await sql<{ gone: string }>`
    select name as gone from unnest(${columns.map(({ collation }) => collation)}::text[]) as given(name)
    where name is not null and to_regcollation(name) is null
  `.execute(db)
  const gone = columns.find(({ collation }) => collation !== null && collation === rows[0]?.gone)
  if (gone !== undefined) throw collationGone(gone.name, gone.collation ?? '')
}
