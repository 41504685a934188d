/** Finds tables that could do with a policy. */
import { sql } from 'kysely'

import { cutoffOf } from '../../cutoff.ts'
import type { Candidate, Db, Sql, SqlValue } from '../database.ts'
import { findTable } from './table.ts'
import { detectStorage, timeColumn } from './time.ts'

/** Columns whose name or type speaks of time, the likeliest to age a row first. */
const likely = [
  /(created|inserted|logged|occurred|recorded|received|sent)/i,
  /^(ts|time|timestamp|date|at)$/i,
  /(_at|_on|date|time)$/i,
]
const unlikely = /(expire|deleted|updated|modified)/i

/** Tables with a column that stores times; each with the one that is most likely to age its rows. */
export async function candidates(db: Db, days: readonly number[], now: Date): Promise<Candidate[]> {
  const { rows: tables } = await sql<{ name: string }>`
    select name from pragma_table_list
    where schema = 'main' and type = 'table' and name not like 'sqlite\\_%' escape '\\'
  `.execute(db)
  const found: Candidate[] = []
  for (const { name } of tables) {
    const candidate = await candidateOf(db, name, days, now)
    if (candidate !== undefined) found.push(candidate)
  }
  return found.toSorted((a, b) => b.rows - a.rows)
}

async function candidateOf(db: Db, name: string, days: readonly number[], now: Date): Promise<Candidate | undefined> {
  const table = await findTable(db, { schema: undefined, name })
  if (table === undefined) return undefined
  const timely = table.columns.filter(
    (column) => /date|time/i.test(column.type) || likely.some((word) => word.test(column.name)),
  )
  const rank = (column: string): number =>
    unlikely.test(column) ? likely.length : likely.findIndex((word) => word.test(column)) + 0.5 || 9
  for (const column of timely.toSorted((a, b) => rank(a.name) - rank(b.name))) {
    const { storage } = await detectStorage(db, table.sql, column.name, sql<boolean>`true`, false)
    if (storage === undefined) continue
    const time = timeColumn(column.name, storage, 'UTC', false)
    const count = async (where: Sql<boolean>): Promise<number> => {
      const { rows } = await sql<{ rows: bigint }>`select count(*) as rows from ${table.sql} where ${where}`.execute(db)
      return Number(rows[0]?.rows ?? 0n)
    }
    const { rows: ends } = await sql<{ oldest: SqlValue; newest: SqlValue }>`
      select min(${sql.id(column.name)}) as oldest, max(${sql.id(column.name)}) as newest from ${table.sql} where not ${time.undated}
    `.execute(db)
    const show = (value: SqlValue | undefined): string | undefined =>
      value === null || value === undefined ? undefined : time.format(value)
    const due: { days: number; rows: number }[] = []
    for (const age of days) due.push({ days: age, rows: await count(time.due(cutoffOf(age, 'UTC', now))) })
    return {
      table: table.name,
      column: column.name,
      rows: await count(sql<boolean>`true`),
      bytes: await bytesOf(db, name),
      oldest: show(ends[0]?.oldest),
      newest: show(ends[0]?.newest),
      due,
      estimated: false,
    }
  }
  return undefined
}

/** The pages of a table and its indexes. */
async function bytesOf(db: Db, table: string): Promise<number> {
  const { rows } = await sql<{ bytes: bigint | null }>`
    select sum(pgsize) as bytes from dbstat
    where aggregate = true and name in (select name from sqlite_schema where tbl_name = ${table})
  `.execute(db)
  return Number(rows[0]?.bytes ?? 0n)
}
