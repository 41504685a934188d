/** The rows of a redaction on Postgres: the old values come out of the UPDATE itself. */
import { sql } from 'kysely'

import type { Db, RowSelection, Sql } from '../database.ts'
import { notHeld, timeMoved, type Redaction } from '../redaction.ts'
import { rowsOf } from './gathered.ts'
import { assignments } from './redaction.ts'
import type { CatalogColumn, CatalogTable } from './table.ts'

/** Keys and times of the rows that were overwritten, where triggers may have had a word in it. */
const noted = sql.id('pg_temp', 'retention_redacted')

/** Makes ready to note which rows are overwritten. @param time the column that ages them */
export async function prepareNotes(db: Db, table: CatalogTable, time: string): Promise<void> {
  await sql`create temporary table retention_redacted on commit drop as select ${namesOf(table, time)} from ${table.sql} with no data`.execute(
    db,
  )
}

/** The columns by which a row that was overwritten is known; its time may be one of its key. */
function namesOf({ key }: Pick<CatalogTable, 'key'>, time: string): Sql {
  return sql.join([...new Set([...key, time])].map((name) => sql.id(name)))
}

/**
 * The statement that overwrites rows and gives what they held.
 *
 * Old values are read under the lock that the UPDATE itself would take, and a row is found again by its place: what another
 * transaction has changed since the statement began is read as it is then, and left for the next plan.
 * @param columns what the archive gets
 * @param notes the column that ages the rows, where they are to be noted
 */
export function redactRows(
  { table, where }: RowSelection,
  own: CatalogTable,
  { set }: Redaction,
  columns: readonly CatalogColumn[],
  skipLocked: boolean,
  notes: { readonly time: string } | undefined,
): Sql {
  const old = (index: number): Sql => sql.id('retention_old', `retention_${index}`)
  const read = sql.join(columns.map(({ name }, index) => sql`${sql.id(name)} as ${sql.id(`retention_${index}`)}`))
  const returned = sql.join(columns.map(({ name }, index) => sql`${old(index)} as ${sql.id(name)}`))
  // A column may have the name of ours beside it.
  const update = sql`
    update ${rowsOf(table)} as retention_due set ${assignments(own, set)}
    from (
      select tableoid as retention_table, ctid as retention_place, ${read}
      from ${rowsOf(table)} where ${where} for no key update ${skipLocked ? sql`skip locked` : sql``}
    ) as retention_old
    where retention_due.tableoid = retention_old.retention_table and retention_due.ctid = retention_old.retention_place
    returning ${returned}`
  if (notes === undefined) return update
  const known = namesOf(own, notes.time)
  const names = sql.join(columns.map(({ name }) => sql.id(name)))
  return sql`
    with retention_changed as (${update}), retention_noted as (insert into ${noted} select ${known} from retention_changed)
    select ${names} from retention_changed`
}

/** Makes sure that the noted rows hold what they were set to, and have the time that they had. @throws RetentionError `REFUSED` */
export async function proveRedacted(
  db: Db,
  { table }: Pick<RowSelection, 'table'>,
  { isOpen }: Redaction,
  time: string,
  triggers: readonly string[],
): Promise<void> {
  // What is put off to the end of the transaction happens now.
  await sql`set constraints all immediate`.execute(db)
  const key = sql.join(table.key.map((name) => sql.id(name)))
  const known = sql`(${key}) in (select ${key} from ${noted})`
  const keyAndTime = sql`${key}, ${sql.id(time)}::text`
  const isTimeKept = sql`(${keyAndTime}) in (select ${keyAndTime} from ${noted})`
  const { rows } = await sql<{ noted: string; done: string; kept: string }>`
    select
      (select count(*) from ${noted})::text as noted,
      (select count(*) from ${rowsOf(table)} where ${known} and not ${isOpen})::text as done,
      (select count(*) from ${rowsOf(table)} where ${isTimeKept})::text as kept
  `.execute(db)
  const [found] = rows
  const [all, done, kept] = [found?.noted, found?.done, found?.kept].map(Number)
  if (all !== done) throw notHeld(Number(all) - Number(done), triggers)
  if (all !== kept) throw timeMoved(time, triggers)
}
