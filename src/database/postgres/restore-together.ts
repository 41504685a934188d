/**
 * Rows of several tables on their way back at once, for those that refer to each other in a circle: foreign keys are
 * checked at the end of the one statement that inserts them all.
 */
import { sql } from 'kysely'

import type { Conflicts, Db, KnownRows, OnConflict, PlacedRows, Sql } from '../database.ts'
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
  readonly conflicts: Conflicts
  /** They as they now are in the table, as the archive's CSV; those that were skipped as they were staged. */
  readBack(): AsyncIterable<Buffer>
}

/** Inserts rows of several tables in one statement, in the order given as far as that matters to triggers. */
export async function insertTogether(
  transaction: Transaction,
  parts: readonly TogetherPart[],
  onConflict: OnConflict,
): Promise<TogetherRows[]> {
  const { db } = transaction
  const conflicts: Conflicts[] = []
  for (const [at, part] of parts.entries()) {
    await stagePart(transaction, part, at)
    conflicts.push(await findConflicts(db, part, at, onConflict === 'skip'))
  }
  const insertions = parts.flatMap(({ table, columns }, at) => {
    const list = sql.join(columns.map((name) => sql.id(name)))
    // Rows are returned and numbered in the archive's order; if that were ever otherwise, reading back would show it.
    return [
      sql`${put(at)} as (
        insert into ${table.sql} (${list}) overriding system value
        select ${list} from ${staged(at)} where not ${skipOf(columns)} order by ${numberOf(columns)}
        ${onConflict === 'overwrite' ? overwrite(table, columns) : sql``} returning tableoid, ctid
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
    conflicts: conflicts[at] ?? { count: 0, same: 0, keys: [] },
    readBack: () => readBack(transaction, part, at),
  }))
}

async function stagePart(transaction: Transaction, { table, columns, csv }: TogetherPart, at: number): Promise<void> {
  const { db } = transaction
  const list = sql.join(columns.map((name) => sql.id(name)))
  await sql`create temporary table ${sql.id(`retention_together_${at}`)} on commit drop as
    select ${list} from ${table.sql} with no data`.execute(db)
  await sql`alter table ${staged(at)} add column ${numberOf(columns)} bigint generated always as identity,
    add column ${skipOf(columns)} boolean not null default false`.execute(db)
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

/** The rows whose key is in the table already. @param skips marks them, to be left out */
async function findConflicts(db: Db, { table, columns }: TogetherPart, at: number, skips: boolean): Promise<Conflicts> {
  const { key } = table
  if (key.length === 0 || !key.every((name) => columns.includes(name))) return { count: 0, same: 0, keys: [] }
  const row = (alias: string): Sql => sql`row(${sql.join(columns.map((name) => sql.id(alias, name)))})::text`
  const isThere = sql.join(
    key.map((name) => sql`t.${sql.id(name)} = s.${sql.id(name)}`),
    sql` and `,
  )
  const { rows } = await sql<{ count: string; same: string }>`
    select count(*)::text as count, (count(*) filter (where ${row('t')} = ${row('s')}))::text as same
    from ${staged(at)} as s join ${table.sql} as t on ${isThere}`.execute(db)
  if (skips) {
    await sql`update ${staged(at)} as s set ${skipOf(columns)} = true from ${table.sql} as t where ${isThere}`.execute(
      db,
    )
  }
  return { count: Number(rows[0]?.count ?? 0), same: Number(rows[0]?.same ?? 0), keys: [] }
}

function overwrite({ key, columns: all }: CatalogTable, columns: readonly string[]): Sql {
  const isAlways = (name: string): boolean => all.find((column) => column.name === name)?.identity === 'always'
  const changeable = columns.filter((name) => !key.includes(name) && !isAlways(name))
  const set = (changeable.length > 0 ? changeable : key.slice(0, 1)).map(
    (name) => sql`${sql.id(name)} = excluded.${sql.id(name)}`,
  )
  return sql`on conflict (${sql.join(key.map((name) => sql.id(name)))}) do update set ${sql.join(set)}`
}

function readBack(transaction: Transaction, { table, columns }: TogetherPart, at: number): AsyncIterable<Buffer> {
  const skip = skipOf(columns)
  const list = columns.map(
    (name) => sql`case when s.${skip} then s.${sql.id(name)} else t.${sql.id(name)} end as ${sql.id(name)}`,
  )
  const place = own(columns, 'i')
  const rows = sql`
    select ${sql.join(list)}
    from (select *, row_number() over (partition by ${skip} order by ${numberOf(columns)}) as ${place} from ${staged(at)}) s
    left join ${placed(at)} p on p.i = s.${place} and not s.${skip}
    left join ${table.sql} t on t.ctid = p.retention_place and t.tableoid = p.retention_table
    order by s.${numberOf(columns)}`
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

function numberOf(columns: readonly string[]): Sql {
  return own(columns, 'n')
}

/** Marks rows that are left out. */
function skipOf(columns: readonly string[]): Sql {
  return own(columns, 'skip')
}

/** A column of ours under a name that none of the archive's columns has. */
function own(columns: readonly string[], name: string): Sql {
  let free = `retention_${name}`
  while (columns.includes(free)) free += '_'
  return sql.id(free)
}
