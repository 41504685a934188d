/**
 * Rows of several tables on their way back at once, for those that refer to each other in a circle: foreign keys are
 * checked at the end of the one statement that inserts them all.
 */
import { sql } from 'kysely'

import type { Db, KnownRows, PlacedRows, Sql } from '../database.ts'
import type { Transaction } from './connection.ts'
import { copyCsv, copyIn, copyOut } from './copy.ts'
import { keysOf, rangeOf } from './placed.ts'
import { advanceSequences, sequencesOf } from './sequences.ts'
import type { CatalogTable } from './table.ts'

/** One table's rows. */
export interface TogetherPart {
  readonly table: CatalogTable
  readonly columns: readonly string[]
  readonly csv: AsyncIterable<Buffer>
}

/** One table's rows, put there. */
export interface TogetherRows {
  readonly rows: PlacedRows
  /** They as they now are in the table, as the archive's CSV. */
  readBack(): AsyncIterable<Buffer>
}

/** Inserts rows of several tables in one statement, in the order given as far as that matters to triggers. */
export async function insertTogether(
  transaction: Transaction,
  parts: readonly TogetherPart[],
): Promise<TogetherRows[]> {
  const { db } = transaction
  for (const [at, part] of parts.entries()) await stagePart(transaction, part, at)
  const insertions = parts.flatMap(({ table, columns }, at) => {
    const list = sql.join(columns.map((name) => sql.id(name)))
    // Rows are returned and numbered in the archive's order; if that were ever otherwise, reading back would show it.
    return [
      sql`${put(at)} as (
        insert into ${table.sql} (${list}) overriding system value
        select ${list} from ${staged(at)} order by ${numberOf(columns)} returning tableoid, ctid
      )`,
      sql`${counted(at)} as (
        insert into ${placed(at)} (retention_table, retention_place) select tableoid, ctid from ${put(at)} returning 1
      )`,
    ]
  })
  const counts = parts.map((_, at) => sql`(select count(*) from ${counted(at)})::text as ${sql.id(`n${at}`)}`)
  const { rows } = await sql<Record<string, string>>`with ${sql.join(insertions)} select ${sql.join(counts)}`.execute(
    db,
  )
  await sql`set constraints all immediate`.execute(db)
  return parts.map((part, at) => ({
    rows: placedRows(db, part, at, Number(rows[0]?.[`n${at}`] ?? -1)),
    readBack: () => readBack(transaction, part, at),
  }))
}

async function stagePart(transaction: Transaction, { table, columns, csv }: TogetherPart, at: number): Promise<void> {
  const { db } = transaction
  const list = sql.join(columns.map((name) => sql.id(name)))
  await sql`create temporary table ${sql.id(`retention_together_${at}`)} on commit drop as
    select ${list} from ${table.sql} with no data`.execute(db)
  await sql`alter table ${staged(at)} add column ${numberOf(columns)} bigint generated always as identity`.execute(db)
  await sql`create temporary table ${sql.id(`retention_placed_${at}`)} (
    i bigint generated always as identity, retention_table oid, retention_place tid
  ) on commit drop`.execute(db)
  await copyIn(transaction, staged(at), columns, csv)
  await sql`analyze ${staged(at)}`.execute(db)
}

function placedRows(db: Db, { table, columns }: TogetherPart, at: number, rows: number): PlacedRows {
  const isPlaced = sql`(tableoid, ctid) in (select retention_table, retention_place from ${placed(at)})`
  return {
    rows,
    known: async (): Promise<KnownRows> => keysOf(table, isPlaced),
    range: (column) => rangeOf(db, table, isPlaced, column),
    advanceSequences: async () => {
      const sequences = await sequencesOf(db, table, columns)
      return advanceSequences(
        db,
        sequences,
        (column) => sql`(select max(${sql.id(column)})::bigint from ${staged(at)})`,
      )
    },
  }
}

function readBack(transaction: Transaction, { table, columns }: TogetherPart, at: number): AsyncIterable<Buffer> {
  const list = sql.join(columns.map((name) => sql.id('t', name)))
  const rows = sql`select ${list} from ${placed(at)} p
    join ${table.sql} t on t.ctid = p.retention_place and t.tableoid = p.retention_table order by p.i`
  return copyOut(
    transaction,
    copyCsv(
      rows,
      table.columns.filter(({ name }) => columns.includes(name)),
    ),
  )
}

function staged(at: number): Sql {
  return sql.id('pg_temp', `retention_together_${at}`)
}

function placed(at: number): Sql {
  return sql.id('pg_temp', `retention_placed_${at}`)
}

function put(at: number): Sql {
  return sql.id(`retention_put_${at}`)
}

function counted(at: number): Sql {
  return sql.id(`retention_counted_${at}`)
}

/** A column of ours under a name that none of the archive's columns has. */
function numberOf(columns: readonly string[]): Sql {
  let own = 'retention_n'
  while (columns.includes(own)) own += '_'
  return sql.id(own)
}
